"""The committed schema file: what is stored must stay readable, checked before a deploy (design D7)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from everlog.core.errors import InvalidInput
from everlog.domain.codec import schema_of
from everlog.domain.event import EventKind
from everlog.domain.types import EventTypes
from everlog.domain.upcast import TypeVersion

FILE = "everlog.schema.json"
_FORMAT = 1


class Compatibility(IntEnum):
    """How today's types stand to the committed ones; the worst of all types decides."""

    COMPATIBLE = 0
    NEEDS_UPCASTER = 1
    BREAKING = 2


@dataclass(frozen=True, slots=True)
class SchemaFinding:
    """One difference, and what to do about it."""

    type: str
    verdict: Compatibility
    change: str
    advice: str = ""


def describe(types: EventTypes) -> dict[str, Any]:
    """Today's types as the schema file holds them: JSON Schema of each, and the steps that lead to them."""
    events = {kind.name: _describe(kind) for kind in types.kinds.values()}
    steps = {str(source): [str(target) for target in step.targets] for source, step in types.chain.steps.items()}
    return {"format": _FORMAT, "events": dict(sorted(events.items())), "upcasters": dict(sorted(steps.items()))}


def _describe(kind: EventKind) -> dict[str, Any]:
    tags = [f"{text}{{{field}}}" if field else text for text, field in kind.tags]
    return {"version": kind.version, "tags": tags, "schema": schema_of(kind.cls)}


def write(types: EventTypes) -> bytes:
    """The file's bytes; the same types give the same bytes."""
    return msgspec.json.format(msgspec.json.encode(describe(types), order="sorted"), indent=2) + b"\n"


def read(content: bytes) -> dict[str, Any]:
    """Raises `InvalidInput` for a file that is no schema file of a known format."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the schema file is not JSON: {error}") from error
    if found.get("format") != _FORMAT or not isinstance(found.get("events"), dict):
        raise InvalidInput(f"the schema file has format {found.get('format')!r}, this everlog reads {_FORMAT}")
    return found


def compare(committed: Mapping[str, Any], types: EventTypes) -> list[SchemaFinding]:
    """Every difference between the committed types and today's; empty when nothing changed."""
    today = describe(types)["events"]
    findings = [
        f for name, old in committed["events"].items() for f in _compare_type(name, old, today.get(name), types)
    ]
    new = [name for name in today if name not in committed["events"]]
    findings += [SchemaFinding(name, Compatibility.COMPATIBLE, "new type") for name in new]
    return findings + list(_compare_upcasters(committed.get("upcasters", {}), types))


def _compare_upcasters(committed: Mapping[str, Any], types: EventTypes) -> Iterator[SchemaFinding]:
    """Old names live on in the upcasters only, so one that is gone leaves stored events nobody can read."""
    readable = {str(TypeVersion(kind.name, kind.version)) for kind in types.kinds.values()}
    readable |= {str(source) for source in types.chain.steps}
    for source in sorted(committed.keys() - readable):
        advice = f"put the upcaster of {source} back (upcast_drop if it means nothing any more)"
        yield SchemaFinding(source, Compatibility.BREAKING, "no longer upcast", advice)


def _compare_type(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any] | None, types: EventTypes
) -> Iterator[SchemaFinding]:
    stored = TypeVersion(name, old["version"])
    if new is None or new["version"] != old["version"]:
        if stored in types.chain.steps:
            yield SchemaFinding(name, Compatibility.COMPATIBLE, f"v{old['version']} is upcast")
        elif new is None:
            advice = f"keep the class, or add an upcaster from {stored} (upcast_drop if it means nothing any more)"
            yield SchemaFinding(name, Compatibility.BREAKING, "no longer declared", advice)
        else:
            advice = f"stored events are v{old['version']}: never lower a version"
            yield SchemaFinding(name, Compatibility.BREAKING, f"went back to v{new['version']}", advice)
        return
    if old.get("tags", []) != new["tags"]:
        advice = "events stored before keep the tags they have"
        yield SchemaFinding(name, Compatibility.COMPATIBLE, f"tags were {old.get('tags')}, are {new['tags']}", advice)
    for verdict, change in sorted(_compare_schemas(old["schema"], new["schema"]), reverse=True):
        advice = (
            ""
            if verdict is Compatibility.COMPATIBLE
            else f"raise the version to {old['version'] + 1} and add an upcaster from {stored}"
        )
        yield SchemaFinding(name, verdict, change, advice)


def _compare_schemas(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[Compatibility, str]]:
    return _compare_nodes(_Node(old, old), _Node(new, new), "", frozenset())


@dataclass(frozen=True, slots=True)
class _Node:
    """A schema and the document its `$ref`s point into."""

    document: Mapping[str, Any]
    schema: Any

    def resolved(self) -> "_Node":
        node: Any = self.schema
        while isinstance(node, Mapping) and isinstance(node.get("$ref"), str):
            target: Any = self.document
            for step in node["$ref"].lstrip("#/").split("/"):
                target = target[step]
            node = target
        return _Node(self.document, node)

    def at(self, schema: Any) -> "_Node":
        return _Node(self.document, schema)


def _compare_nodes(
    old: _Node, new: _Node, path: str, seen: frozenset[tuple[int, int]]
) -> Iterator[tuple[Compatibility, str]]:
    old, new = old.resolved(), new.resolved()
    key = (id(old.schema), id(new.schema))
    if key in seen:
        return
    seen |= {key}
    if not _is_object(old.schema) or not _is_object(new.schema):
        yield from _compare_values(old, new, path or "the event", seen)
        return
    before, after = old.schema["properties"], new.schema["properties"]
    required = set(new.schema.get("required", ()))
    for name in sorted(after.keys() - before.keys()):
        where = f"{path}.{name}" if path else name
        if name in required:
            yield Compatibility.NEEDS_UPCASTER, f"{where} is new and has no default"
        else:
            yield Compatibility.COMPATIBLE, f"{where} is new, with a default"
    for name in sorted(before.keys() - after.keys()):
        where = f"{path}.{name}" if path else name
        if new.schema.get("additionalProperties") is False:
            yield Compatibility.NEEDS_UPCASTER, f"{where} is gone, and fields that are not declared are refused"
        else:
            yield Compatibility.COMPATIBLE, f"{where} is no longer read"
    for name in sorted(before.keys() & after.keys()):
        where = f"{path}.{name}" if path else name
        if name in required and name not in old.schema.get("required", ()):
            yield Compatibility.NEEDS_UPCASTER, f"{where} lost its default"
        yield from _compare_nodes(old.at(before[name]), new.at(after[name]), where, seen)


def _compare_values(
    old: _Node, new: _Node, path: str, seen: frozenset[tuple[int, int]]
) -> Iterator[tuple[Compatibility, str]]:
    was, now = _alternatives(old), _alternatives(new)
    if _plain(old) == _plain(new) or (len(was) == len(now) and all(one in now for one in was)):
        return
    if all(one in now for one in was):
        yield Compatibility.COMPATIBLE, f"{path} takes more than before"
        return
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if _holds(old, key) and _holds(new, key) and _without(old, key) == _without(new, key):
            yield from _compare_nodes(old.at(old.schema[key]), new.at(new.schema[key]), f"{path}{mark}", seen)
            return
    one, other = _optional(old), _optional(new)
    if one is not None and other is not None:
        yield from _compare_nodes(one, other, path, seen)
        return
    yield Compatibility.NEEDS_UPCASTER, f"{path} changed its type"


def _holds(node: _Node, key: str) -> bool:
    """Whether it is a list or mapping of one kind of value."""
    return isinstance(node.schema, Mapping) and isinstance(node.schema.get(key), Mapping)


def _without(node: _Node, key: str) -> Any:
    return _plain(node.at({name: value for name, value in node.schema.items() if name != key}))


def _optional(node: _Node) -> _Node | None:
    """What stands beside `null`, where that is one thing."""
    parts = node.schema.get("anyOf", ()) if isinstance(node.schema, Mapping) else ()
    rest = [part for part in parts if part != {"type": "null"}]
    return node.at(rest[0]) if len(rest) == 1 and len(parts) == 2 else None


def _is_object(schema: Any) -> bool:
    return isinstance(schema, Mapping) and "properties" in schema


def _plain(node: _Node) -> Any:
    """A schema without what changes no value: titles, descriptions, defaults; references followed."""
    return _strip(node.document, node.schema, ())


def _strip(document: Mapping[str, Any], schema: Any, above: Sequence[str]) -> Any:
    if isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in above:
                return {"circle": reference}
            return _strip(document, _Node(document, schema).resolved().schema, [*above, reference])
        fields = schema.get("properties", {})  # whose names may be any word
        ignored = {"title", "description", "default", "$defs", "examples", "properties"}
        plain = {key: _strip(document, value, above) for key, value in sorted(schema.items()) if key not in ignored}
        return {**plain, **{f".{name}": _strip(document, inner, above) for name, inner in sorted(fields.items())}}
    if isinstance(schema, list):
        return [_strip(document, item, above) for item in schema]
    return schema


def _alternatives(node: _Node) -> list[Any]:
    plain = _plain(node)
    if isinstance(plain, dict) and "anyOf" in plain:
        return list(plain["anyOf"])
    if isinstance(plain, dict) and isinstance(plain.get("enum"), list):
        return list(plain["enum"])
    return [plain]
