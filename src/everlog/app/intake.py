"""Events from outside, as JSON: CloudEvents 1.0 or a plain line of our own; checked, then made ready to be appended.

A declared type is validated by decoding it and gets its tags; one that nothing declares is kept as the JSON object it
is, after the checks of `everlog.core.json`. What the caller says of who acts wins over what the event says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Unpack
from uuid import UUID

import msgspec

from everlog.app.scope import Acting, Scope
from everlog.command.execute import Context
from everlog.core.clock import parse_time
from everlog.core.envelope import NewEvent, StoredEvent
from everlog.core.errors import InvalidInput, UnreadableEvent
from everlog.core.ids import derived_id, new_id
from everlog.core.json import parse_json
from everlog.core.names import stream_name, tenant_name
from everlog.domain.codec import schema_of
from everlog.domain.event import EventKind, kind_of
from everlog.domain.types import Encoded, EventTypes
from everlog.domain.upcast import TypeVersion
from everlog.telemetry import Counters

PLAIN_KEYS = ("type", "data", "tags", "time", "id", "schemaversion", "stream")
_KINDS = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """One event as somebody outside wrote it. `foreign_id` is a CloudEvents source and id that is no UUID."""

    type: str
    data: bytes
    schema_version: int | None = None
    tags: tuple[str, ...] = ()
    occurred_at: int | None = None
    id: bytes | None = None
    foreign_id: tuple[str, str] | None = None
    stream: str | None = None
    tenant: str | None = None
    acting: Acting = field(default_factory=Acting)


def read_event(text: bytes) -> Incoming:
    """One JSON object, told by `specversion` to be a CloudEvent; raises `InvalidInput` naming the key that is wrong."""
    found = parse_json(text)
    if not isinstance(found, dict):
        raise InvalidInput(f"an event is a JSON object, not {_KINDS[type(found)]}")
    if not isinstance(found.get("data"), dict):
        is_what = _KINDS[type(found["data"])] if "data" in found else "missing"
        raise InvalidInput(f'"data" is {is_what}: give an object, {{}} if there is nothing to say')
    data = compact(bytes(msgspec.json.decode(text, type=dict[str, msgspec.Raw])["data"]))
    return _cloudevent(found, data) if "specversion" in found else _plain(found, data)


def compact(data: bytes) -> bytes:
    """The same JSON object without white space; its numbers keep every digit. Raises `InvalidInput`."""
    found = parse_json(data)
    if not isinstance(found, dict):
        raise InvalidInput(f"an event's data is a JSON object, not {_KINDS[type(found)]}")
    return msgspec.json.format(data, indent=-1)


def _plain(found: Mapping[str, Any], data: bytes) -> Incoming:
    for key in found:
        if key not in PLAIN_KEYS:
            raise InvalidInput(f'"{key}" means nothing here{_near(key, PLAIN_KEYS)}')
    tags = found.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidInput('"tags" is not a list of texts')
    return Incoming(
        type=_required(found, "type"),
        data=data,
        schema_version=_version(found),
        tags=tuple(tags),
        occurred_at=_time(found),
        id=_uuid_bytes(found, "id"),
        stream=_text(found, "stream"),
    )


def _cloudevent(found: Mapping[str, Any], data: bytes) -> Incoming:
    """Extensions we do not know are left out, as the specification allows."""
    if found["specversion"] != "1.0":
        raise InvalidInput(f'"specversion" is {found["specversion"]!r}: everlog reads CloudEvents 1.0')
    media = _text(found, "datacontenttype") or "application/json"
    if not media.partition(";")[0].strip().endswith(("/json", "+json")):
        raise InvalidInput(f'"datacontenttype" is {media!r}: everlog stores JSON')
    id, source = _required(found, "id"), _required(found, "source")
    known = _is_uuid(id)
    acting = Acting(
        actor=_text(found, "authid"),
        ip=_text(found, "clientip"),
        user_agent=_text(found, "useragent"),
        correlation_id=_uuid(found, "correlationid"),
        causation_id=_uuid(found, "causationid"),
    )
    return Incoming(
        type=_required(found, "type"),
        data=data,
        schema_version=_version(found),
        occurred_at=_time(found),
        id=UUID(id).bytes if known else None,
        foreign_id=None if known else (source, id),
        stream=_text(found, "subject"),
        tenant=_text(found, "tenantid"),
        acting=acting,
    )


class Intake:
    """Takes events in for one tenant, on behalf of `acting`."""

    def __init__(self, types: EventTypes, tenant: str, **acting: Unpack[Acting]) -> None:
        self._types, self._acting = types, acting
        self._scope = Scope(types, {}, Counters(), tenant_name(tenant), Context())
        self._schemas: dict[type, Any] = {}

    def event(self, incoming: Incoming, stream: str | None = None, *, id: bytes | None = None) -> NewEvent:
        """Ready to append, to `stream` or the one it names, with `id` if it brings none.

        Raises `InvalidInput` for data its declared type cannot read or has no field for, for a newer version than the
        declared one, and for an event of another tenant.
        """
        to = stream or incoming.stream
        if to is None:
            raise InvalidInput('nothing says which stream: name one, or give the event a "stream" ("subject")')
        tenant = self._scope.bound()
        if incoming.tenant not in (None, tenant):
            raise InvalidInput(f"the event belongs to tenant {incoming.tenant!r}, but is appended to {tenant!r}")
        encoded = self._encoded(incoming)
        context = self._scope.acting({**incoming.acting, **self._acting}).context
        if incoming.foreign_id is not None:
            id = derived_id(tenant, "cloudevent", *incoming.foreign_id)
        return NewEvent(
            incoming.id or id or new_id(), stream_name(to), encoded.type, encoded.schema_version, encoded.data,
            encoded.tags, incoming.occurred_at, context.actor, context.correlation_id, context.causation_id,
            context.client,
        )  # fmt: skip

    def admit(self, new: NewEvent) -> NewEvent:
        """An event that an import made: as it is, or checked and tagged where its type is declared."""
        if not self.declares(new.type):
            return new
        encoded = self._encoded(Incoming(new.type, new.data, tags=new.tags))
        return new._replace(schema_version=encoded.schema_version, data=encoded.data, tags=encoded.tags)

    def declares(self, type: str) -> bool:
        """Whether the type, or an old version or name of one, is known."""
        return type in self._types.kinds or any(source.name == type for source in self._types.chain.steps)

    def _encoded(self, incoming: Incoming) -> Encoded:
        kind = self._types.kinds.get(incoming.type)
        version = incoming.schema_version or (kind.version if kind else 1)
        is_current = kind is not None and version == kind.version
        if not is_current and TypeVersion(incoming.type, version) not in self._types.chain.steps:
            if kind is not None:
                raise InvalidInput(
                    f"{incoming.type} v{version} is unknown, this code knows v{kind.version}: deploy the newer code"
                )
            return Encoded(incoming.type, version, incoming.data, incoming.tags)
        if kind is not None and is_current:
            self._refuse_unknown_fields(kind, incoming.data)
        events = self._read(incoming, version)
        tags = [tag for event in events for tag in kind_of(type(event)).tags_of(event)]
        data = self._types.encode(events[0]).data if is_current else incoming.data
        return Encoded(incoming.type, version, data, tuple(dict.fromkeys([*tags, *incoming.tags])))

    def _read(self, incoming: Incoming, version: int) -> Sequence[Any]:
        """What readers will get: the proof that they can, and where the tags come from."""
        stored = StoredEvent(
            0, self._scope.bound(), "", 0, b"", incoming.type, version, 0, 0, None, None, None, incoming.data, None
        )
        try:
            return [event.data for event in self._types.recorded(stored)]
        except UnreadableEvent as error:
            raise InvalidInput(f"{incoming.type} v{version} cannot be read: {error.reason}") from error

    def _refuse_unknown_fields(self, kind: EventKind, data: bytes) -> None:
        """Decoding passes over a field it does not know, and what was meant by it would be lost without a word."""
        if kind.cls not in self._schemas:
            self._schemas[kind.cls] = schema_of(kind.cls)
        schema = self._schemas[kind.cls]
        for path in _unknown(schema, schema, msgspec.json.decode(data), ""):
            fields = _resolved(schema, schema).get("properties", {})
            raise InvalidInput(f"{kind.name} v{kind.version} has no field {path!r}{_near(path, fields)}")


def _unknown(document: Any, schema: Any, value: object, path: str) -> Iterator[str]:
    """Paths of the keys that a JSON Schema names nowhere; of alternatives, the one that fits best."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        fitting = [one for one in schema["anyOf"] if _takes(document, one, value)]
        yield from min(([*_unknown(document, one, value, path)] for one in fitting), key=len, default=[])
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            items = schema.get("prefixItems", [])
            yield from _unknown(document, items[index] if index < len(items) else schema.get("items"), inner, path)
    elif isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", "properties" not in schema)
        for key, inner in value.items():
            where = f"{path}.{key}" if path else key
            if key in known:
                yield from _unknown(document, known[key], inner, where)
            elif not others:
                yield where
            else:
                yield from _unknown(document, others, inner, where)


def _resolved(document: Any, schema: Any) -> Mapping[str, Any]:
    while isinstance(schema, dict) and "$ref" in schema:
        schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema if isinstance(schema, dict) else {}


def _takes(document: Any, schema: Any, value: object) -> bool:
    """Whether it may be about this alternative: the kind of value, and the tag of a tagged union, are right."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        return any(_takes(document, one, value) for one in schema["anyOf"])
    if isinstance(value, dict):
        tags = {key: inner["enum"] for key, inner in schema.get("properties", {}).items() if "enum" in inner}
        return schema.get("type") == "object" and all(value.get(key, tags[key][0]) in tags[key] for key in tags)
    return not isinstance(value, list) or schema.get("type") == "array"


def _near(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f": did you mean {near[0]!r}?" if near else f": it has {', '.join(known)}"


def _required(found: Mapping[str, Any], key: str) -> str:
    text = _text(found, key)
    if not text:
        raise InvalidInput(f'"{key}" is missing')
    return text


def _text(found: Mapping[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f'"{key}" is {value!r:.60}, not text')
    return value


def _version(found: Mapping[str, Any]) -> int | None:
    value = found.get("schemaversion")
    # CloudEvents allows an integer or its text; a bool is an int to Python.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise InvalidInput(f'"schemaversion" is {value!r:.60}: give a whole number, 1 or more')


def _time(found: Mapping[str, Any]) -> int | None:
    text = _text(found, "time")
    return None if text is None else parse_time(text)


def _uuid(found: Mapping[str, Any], key: str) -> UUID | None:
    text = _text(found, key)
    if text is None:
        return None
    if not _is_uuid(text):
        raise InvalidInput(f'"{key}" is {text!r:.60}, which is no UUID')
    return UUID(text)


def _uuid_bytes(found: Mapping[str, Any], key: str) -> bytes | None:
    value = _uuid(found, key)
    return None if value is None else value.bytes


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
