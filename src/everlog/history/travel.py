"""Time travel of one aggregate: its state at any point, and what made the difference between two (design D16)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from everlog.command.load import NEWEST, Loaded, Loader
from everlog.core.at import At, AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.clock import micros
from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput
from everlog.domain.event import field_names, is_pydantic, is_record
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.store.contract import Store

S = TypeVar("S")

MISSING = "<missing>"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs. `path` is dotted, `events` the positions that changed it on the way."""

    path: str
    before: object
    after: object
    events: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference(Generic[S]):
    """Two states of one aggregate, the fields that differ, and every event between them in order."""

    before: Loaded[S]
    after: Loaded[S]
    changes: tuple[FieldChange, ...]
    events: tuple[Recorded[Any], ...]


@dataclass(frozen=True, slots=True)
class _Cut:
    """A point as the loader takes it."""

    version: int
    occurred_at: int | None

    def has(self, event: StoredEvent) -> bool:
        return event.version <= self.version and (self.occurred_at is None or event.occurred_at <= self.occurred_at)


def state_at(loader: Loader[S], store: Store, tenant: str, stream: str, at: At | None) -> Loaded[S]:
    """The state at a point (`None`: now); costs the events since a snapshot, however long the log."""
    cut = _cut(store, tenant, stream, at)
    return loader.load(store, tenant, stream, version=cut.version, occurred_at=cut.occurred_at)


def difference(
    loader: Loader[S], types: EventTypes, store: Store, tenant: str, stream: str, before: At, after: At | None
) -> Difference[S]:
    """What changed from one point to another, field by field, and the events that made it.

    Both points need the same measure of time if one is `OccurredAt`; raises `InvalidInput` when `before` lies behind.
    """
    if isinstance(before, OccurredAt) != isinstance(after, OccurredAt) and after is not None:
        raise InvalidInput("compare two times of occurrence, or two points of the record, not one of each")
    first, last = _cut(store, tenant, stream, before), _cut(store, tenant, stream, after)
    if first.version > last.version or _moment(first) > _moment(last):
        raise InvalidInput(f"{before} lies behind {after}: give the earlier point first")
    start = loader.load(store, tenant, stream, version=first.version, occurred_at=first.occurred_at)
    touched: dict[str, list[int]] = {}
    between: list[StoredEvent] = []
    end = start if first.occurred_at is None else loader.nothing()
    flat = flatten(end.state)
    for event in _events(store, tenant, stream, first, last):
        if not last.has(event):
            continue
        end = loader.fold([event], end)
        if first.has(event):
            flat = flatten(end.state)
            continue
        between.append(event)
        now = flatten(end.state)
        for path in _differing(flat, now):
            touched.setdefault(path, []).append(event.position)
        flat = now
    was, now = flatten(start.state), flatten(end.state)
    changes = [
        FieldChange(path, was.get(path, MISSING), now.get(path, MISSING), tuple(touched.get(path, ())))
        for path in _differing(was, now)
    ]
    return Difference(start, end, tuple(changes), tuple(r for event in between for r in types.recorded(event)))


def flatten(state: object) -> dict[str, object]:
    """A state as dotted paths to plain values; one that has no parts has the path `state`. A set is one value."""
    return dict(_leaves(state, ""))


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    parts = list(_parts(value))
    for step, inner in parts:
        yield from _leaves(inner, f"{path}{step}".removeprefix("."))
    if not parts:
        yield path or "state", _plain(value)


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    match value:
        case Mapping():
            yield from ((f".{_plain(key)}", inner) for key, inner in value.items())
        case tuple() | list():
            yield from ((f"[{index}]", inner) for index, inner in enumerate(value))
        case _ if is_record(type(value)):
            config = getattr(value, "__struct_config__", None)
            if config is not None and config.tag_field:
                yield f".{config.tag_field}", config.tag
            yield from ((f".{name}", getattr(value, name)) for name in field_names(type(value)))
        case _ if not isinstance(value, Enum):
            yield from ((f".{name}", inner) for name, inner in getattr(value, "__dict__", {}).items())


def _plain(value: object) -> Any:
    """As JSON would show it; a set in order, or the same one could look changed."""
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=repr)
    return msgspec.to_builtins(value, enc_hook=_shown)


def _shown(value: Any) -> object:
    return dict(value) if is_pydantic(type(value)) else repr(value)


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> Sequence[str]:
    paths = dict.fromkeys([*before, *after])
    return [path for path in paths if before.get(path, MISSING) != after.get(path, MISSING)]


def _events(store: Store, tenant: str, stream: str, first: _Cut, last: _Cut) -> Iterator[StoredEvent]:
    """Only what lies between, unless occurrence decides: a late event may have happened long before its neighbours."""
    after = first.version if first.occurred_at is None else 0
    return store.read_stream(tenant, stream, after=after, upto=last.version)


def _moment(cut: _Cut) -> int:
    return NEWEST if cut.occurred_at is None else cut.occurred_at


def _cut(store: Store, tenant: str, stream: str, at: At | None) -> _Cut:
    match at:
        case None:
            return _Cut(NEWEST, None)
        case AtVersion(version):
            return _Cut(version, None)
        case AtPosition(position):
            return _Cut(store.version_at(tenant, stream, position=position), None)
        case RecordedAt(moment):
            return _Cut(store.version_at(tenant, stream, recorded_at=micros(moment)), None)
        case OccurredAt(moment):
            return _Cut(NEWEST, micros(moment))
