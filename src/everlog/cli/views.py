"""How records look that more than one command shows."""

from typing import Any

import msgspec

from everlog.cli.output import View, fields
from everlog.core.clock import rfc3339
from everlog.domain.recorded import Recorded
from everlog.history.audit import FIELDS as AUDIT_FIELDS
from everlog.history.audit import AuditEntry


def event_json(event: Recorded[Any]) -> dict[str, Any]:
    """The CloudEvent; data that is as stored has the bytes that are stored, so that no digit is lost."""
    told = event.cloudevent()
    if "data" in told:
        told["data"] = _data(event)
    return told


def _data(event: Recorded[Any]) -> object:
    stored = event.stored
    if stored.data is None:
        return None
    is_as_stored = (event.type, event.schema_version) == (stored.type, stored.schema_version)
    return msgspec.Raw(stored.data) if is_as_stored else event.json()


EVENTS: View[Recorded[Any]] = View(
    json=event_json,
    cells={
        "position": lambda e: e.position,
        "recorded_at": lambda e: rfc3339(e.stored.recorded_at),
        "occurred_at": lambda e: rfc3339(e.stored.occurred_at),
        "tenant": lambda e: e.tenant,
        "stream": lambda e: e.stream,
        "version": lambda e: e.version,
        "type": lambda e: e.type,
        "schema_version": lambda e: e.schema_version,
        "id": lambda e: str(e.id) if e.part == 0 else f"{e.id}/{e.part}",
        "actor": lambda e: e.actor,
        "ip": lambda e: e.ip,
        "user_agent": lambda e: e.user_agent,
        "correlation_id": lambda e: None if e.correlation_id is None else str(e.correlation_id),
        "causation_id": lambda e: None if e.causation_id is None else str(e.causation_id),
        "data": _data,
    },
    table=("position", "recorded_at", "stream", "version", "type", "data"),
)

AUDIT: View[AuditEntry] = View(
    json=lambda entry: entry,
    cells=fields(AUDIT_FIELDS),
    table=("when", "who", "what", "stream", "version", "ip", "user_agent", "details"),
)
