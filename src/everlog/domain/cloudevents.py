"""The names our envelope has as CloudEvents 1.0 attributes, for exports, the relay and whoever reads them back.

Positions and versions are text, because JSON numbers are doubles to many readers. What nobody gave is left out.
"""

from uuid import UUID

from everlog.core.clock import rfc3339
from everlog.core.envelope import StoredEvent

JSON = "application/json"


def attributes(
    stored: StoredEvent, source: str, *, type_name: str, schema_version: int, part: int
) -> dict[str, str | int]:
    """All but the data and what is personal: `clientip` and `useragent` are for exports of the log's owner to add."""
    found = {
        "specversion": "1.0",
        "id": event_key(stored, part),
        "source": source,
        "type": type_name,
        "subject": stored.stream,
        "time": rfc3339(stored.occurred_at),
        "datacontenttype": None if stored.data is None else JSON,
        "schemaversion": schema_version,
        "tenantid": stored.tenant,
        "sequence": str(stored.version),
        "position": str(stored.position),
        "partitionkey": stored.stream,
        "recordedtime": rfc3339(stored.recorded_at),
        "correlationid": _text(stored.correlation_id),
        "causationid": _text(stored.causation_id),
        "authid": stored.actor,
    }
    return {name: value for name, value in found.items() if value is not None}


def event_key(stored: StoredEvent, part: int) -> str:
    """Stable and unique, also among the parts that an upcaster made of one stored event."""
    id = str(UUID(bytes=stored.id))
    return f"{id}/{part}" if part else id


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else str(UUID(bytes=raw))
