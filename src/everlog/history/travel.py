"""Time travel of one aggregate: its state at any point, and what made the difference between two (design D16)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from everlog.command.load import NEWEST, Loaded, Loader
from everlog.core.at import At, AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.clock import micros
from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput
from everlog.domain.fields import MISSING, differing, flatten
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.store.contract import Store

S = TypeVar("S")


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
        for path in differing(flat, now):
            touched.setdefault(path, []).append(event.position)
        flat = now
    was, now = flatten(start.state), flatten(end.state)
    changes = [
        FieldChange(path, was.get(path, MISSING), now.get(path, MISSING), tuple(touched.get(path, ())))
        for path in differing(was, now)
    ]
    return Difference(start, end, tuple(changes), tuple(r for event in between for r in types.recorded(event)))


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
