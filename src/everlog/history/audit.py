"""The audit trail (S13): who did what, when, from which IP and user agent; streamed out as JSON Lines or CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from everlog.core.clock import rfc3339
from everlog.core.envelope import StoredEvent
from everlog.core.ids import uuid_of
from everlog.domain.recorded import client_field

# A spreadsheet takes a cell that starts with one of these for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # full-width ones too


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the trail. Times are RFC 3339 in UTC, the position a string: JSON numbers are not 64 bit."""

    when: str
    who: str | None
    what: str
    tenant: str
    stream: str
    version: int
    position: str
    ip: str | None
    user_agent: str | None
    occurred_at: str
    correlation_id: str | None
    causation_id: str | None
    event_id: str
    details: Any


FIELDS = tuple(AuditEntry.__slots__)


def entry(stored: StoredEvent) -> AuditEntry:
    """The trail's view of an event; `details` is its data, or `None` once the bytes were released."""
    return AuditEntry(
        when=rfc3339(stored.recorded_at),
        who=stored.actor,
        what=stored.type,
        tenant=stored.tenant,
        stream=stored.stream,
        version=stored.version,
        position=str(stored.position),
        ip=client_field(stored.client, "ip"),
        user_agent=client_field(stored.client, "user_agent"),
        occurred_at=rfc3339(stored.occurred_at),
        correlation_id=_uuid(stored.correlation_id),
        causation_id=_uuid(stored.causation_id),
        event_id=str(uuid_of(stored.id)),
        details=None if stored.data is None else msgspec.Raw(stored.data),
    )


def json_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """One JSON object a line; the data's bytes are exactly those stored, but for line breaks between tokens."""
    for one in entries:
        # A raw line break in stored JSON stands between its tokens, never in a text: a blank says the same on one line.
        line = msgspec.json.encode(one).replace(b"\n", b" ").replace(b"\r", b" ")
        yield line.decode() + "\n"


def csv_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """RFC 4180 with a header; every cell quoted, and one a spreadsheet would run gets a leading quote mark."""
    yield csv_line(FIELDS)
    for one in entries:
        yield csv_line([getattr(one, name) for name in FIELDS])


def csv_line(values: Iterable[object]) -> str:
    """One record of such a CSV."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _uuid(raw: bytes | None) -> str | None:
    return None if raw is None else str(uuid_of(raw))
