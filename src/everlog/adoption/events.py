"""From one row to one event, with an id that the next run finds again."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from everlog.adoption.mapping import EventMap
from everlog.adoption.occurrences import Occurrences
from everlog.adoption.values import Row, Template, instant
from everlog.core import limits
from everlog.core.envelope import NewEvent
from everlog.core.errors import InvalidInput
from everlog.core.ids import derived_id
from everlog.core.json import check_json
from everlog.core.names import printable, stream_name, tenant_name, type_name

_SCHEMA_VERSION = 1
_encode = msgspec.json.Encoder(decimal_format="number").encode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode

# The same few names come by again and again.
_tenant_name = lru_cache(1024)(tenant_name)
_type_name = lru_cache(1024)(type_name)
_actor = lru_cache(1024)(lambda name: printable("actor", name))


class TenantEvent(NamedTuple):
    tenant: str
    event: NewEvent


Admit = Callable[[str, NewEvent], NewEvent]
"""What a platform makes of a tenant's event before it is stored: checks a declared type, adds its version and tags."""


class EventMaker:
    """Makes the events of one run; the rows must come in the order of the file, because occurrences are counted."""

    def __init__(self, event_map: EventMap, tenant: str, occurrences: Occurrences, admit: Admit | None) -> None:
        self._map, self._tenant, self._occurrences, self._admit = event_map, tenant, occurrences, admit
        self._nested = any(field.type.startswith("json") for field in event_map.data)

    def event(self, row: Row) -> TenantEvent:
        """Raises `InvalidInput` with what is wrong with the row."""
        event_map = self._map
        tenant = _tenant_name(_text(event_map.tenant, row) or self._tenant)
        stream = stream_name(event_map.stream.text(row))
        type_of = _type_name(event_map.type.text(row))
        time, actor = _text(event_map.time, row), _text(event_map.actor, row)
        event = NewEvent(
            stream=stream,
            type=type_of,
            schema_version=_SCHEMA_VERSION,
            data=self._data(row),
            occurred_at=None if time is None else instant(time, event_map.zone),
            actor=None if actor is None else _actor(actor),
            id=self._id(tenant, stream, row),
        )
        return TenantEvent(tenant, event if self._admit is None else self._admit(tenant, event))

    def _id(self, tenant: str, stream: str, row: Row) -> bytes:
        given = _text(self._map.id, row)
        if given is not None:
            return derived_id(tenant, "import", given)
        content = derived_id(tenant, stream, _encode_sorted(row))
        return derived_id(tenant, "import", content, self._occurrences.count(content))

    def _data(self, row: Row) -> bytes:
        data: dict[str, object] = {}
        for field in self._map.data:
            field.add_to(data, row)
        encoded = _encode(data)
        if len(encoded) > limits.EVENT_BYTES:
            raise InvalidInput(f"the data has {len(encoded)} bytes, more than {limits.EVENT_BYTES}")
        if self._nested:  # the field adds a level to what was deep already
            check_json(encoded)
        return encoded


def _text(template: Template | None, row: Row) -> str | None:
    return None if template is None else template.text_if_any(row)
