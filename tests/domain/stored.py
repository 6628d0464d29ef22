"""Events as a store gives them, for tests that need none."""

from typing import Any

from everlog.core.envelope import StoredEvent

NOON = 1_795_521_600_000_001  # 2026-11-24T12:00:00.000001Z
PLAIN = StoredEvent(
    position=7, tenant="acme", stream="thing-1", version=3, id=bytes(range(16)), type="thing.happened",
    schema_version=1, occurred_at=NOON, recorded_at=NOON + 1, actor=None, correlation_id=None, causation_id=None,
    data=b"{}", client=None,
)  # fmt: skip


def stored(type: str, schema_version: int = 1, data: bytes | None = b"{}", **rest: Any) -> StoredEvent:
    return PLAIN._replace(type=type, schema_version=schema_version, data=data, **rest)
