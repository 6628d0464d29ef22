"""The whole system at a moment (S15): read models and aggregates as they were, and what differs between two moments.

A read model of the past is folded into a temporary database by the same handler that runs today's, so memory stays flat
and there is one way to fold. Aggregates are loaded one after another, each from its nearest snapshot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from everlog.app.following import subscription_of
from everlog.app.rerun import SCRATCH_BUILD, Scratch
from everlog.app.stores import Backend
from everlog.command.load import Loader
from everlog.core.at import At, AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.clock import micros
from everlog.core.errors import InvalidInput
from everlog.domain.fields import MISSING, differing, flatten
from everlog.domain.types import EventTypes
from everlog.history.travel import state_at
from everlog.projection.fold import Fold
from everlog.store.query import Filter


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing with a state: a key of a read model, or an aggregate."""

    kind: str
    tenant: str
    name: str
    state: Any


@dataclass(frozen=True, slots=True)
class EntityChange:
    """One field of one entity that differs; `before` or `after` is `"<missing>"` where there was none."""

    kind: str
    tenant: str
    name: str
    path: str
    before: object
    after: object


class Past:
    """Moments of one open log. `tenant=None` looks at every tenant."""

    def __init__(self, backend: Backend, types: EventTypes, tenant: str | None) -> None:
        self._backend, self._types, self._tenant = backend, types, tenant

    def read_model(self, fold: Fold[Any], at: At | None) -> Iterator[Entity]:
        """Every key of a read model at a moment (`None`: now), by tenant and key."""
        with self._folded(fold, at) as scratch:
            decode = fold.codec().decode
            for found in scratch.states.all(fold.name, SCRATCH_BUILD, self._tenant):
                yield Entity(fold.name, found.tenant, found.key, decode(found.state))

    def aggregates(self, loader: Loader[Any], at: At | None) -> Iterator[Entity]:
        """Every aggregate of a decider that had an event by a moment, by tenant and stream."""
        name = loader.decider.name
        for head in self._backend.streams(self._tenant, name):
            loaded = state_at(loader, self._backend, head.tenant, head.stream, at)
            if loaded.folded:
                yield Entity(name, head.tenant, head.stream, loaded.state)

    def compare_read_model(self, fold: Fold[Any], before: At, after: At | None) -> Iterator[EntityChange]:
        return _differences(self.read_model(fold, before), self.read_model(fold, after))

    def compare_aggregates(self, loader: Loader[Any], before: At, after: At | None) -> Iterator[EntityChange]:
        return _differences(self.aggregates(loader, before), self.aggregates(loader, after))

    @contextmanager
    def _folded(self, fold: Fold[Any], at: At | None) -> Iterator[Scratch]:
        where = replace(subscription_of(fold, self._types).where, tenant=self._tenant)
        position = self._backend.head().position
        match at:
            case None:
                pass
            case AtPosition():
                position = min(position, at.position)
            case RecordedAt():
                position = self._position_at(micros(at.moment))
            case OccurredAt():
                where = replace(where, occurred_until=micros(at.moment))
            case AtVersion():
                raise InvalidInput(
                    "a version is a place in one stream: give a position or a time for a whole read model"
                )
        with Scratch(fold, self._types, self._backend, where=where) as scratch:
            scratch.to(position)
            yield scratch

    def _position_at(self, recorded_at: int) -> int:
        last = next(self._backend.read(Filter(None, recorded_until=recorded_at), backwards=True, limit=1), None)
        return 0 if last is None else last.position


def _differences(before: Iterator[Entity], after: Iterator[Entity]) -> Iterator[EntityChange]:
    """Both in order of tenant and name, so one of each is in memory at a time."""
    was, now = next(before, None), next(after, None)
    while was is not None or now is not None:
        if now is None or (was is not None and (was.tenant, was.name) < (now.tenant, now.name)):
            assert was is not None
            yield from _changes(was, None)
            was = next(before, None)
        elif was is None or (now.tenant, now.name) < (was.tenant, was.name):
            yield from _changes(None, now)
            now = next(after, None)
        else:
            yield from _changes(was, now)
            was, now = next(before, None), next(after, None)


def _changes(was: Entity | None, now: Entity | None) -> Iterator[EntityChange]:
    entity = now or was
    assert entity is not None
    before, after = flatten(was.state) if was else {}, flatten(now.state) if now else {}
    for path in differing(before, after):
        old, new = before.get(path, MISSING), after.get(path, MISSING)
        yield EntityChange(entity.kind, entity.tenant, entity.name, path, old, new)
