"""Projections as handlers of a subscription: a batch in memory, one write a key, one transaction."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.core.errors import Fenced, StoreUnavailable, SubscriptionFailed
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.projection.contract import FoldStates
from everlog.projection.fold import Fold
from everlog.projection.sql import SqlProjection
from everlog.subscription.contract import Checkpoints, Claim

S = TypeVar("S")

_CACHED_KEYS = 50_000


class FoldHandler(Generic[S]):
    """Keeps states in memory between batches while one ownership lasts; the fence makes that safe."""

    def __init__(self, fold: Fold[S], types: EventTypes, checkpoints: Checkpoints, states: FoldStates) -> None:
        self._fold, self._types, self._checkpoints, self._states = fold, types, checkpoints, states
        self._codec = fold.codec()
        self._cache: OrderedDict[FoldKey, S] = OrderedDict()

    def begin(self, claim: Claim) -> None:
        self._cache.clear()

    def idle(self, claim: Claim) -> bool:
        return False

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> int:
        return all_or_up_to(claim, page, upto, self._commit)

    def _commit(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> None:
        keyed = [(stored, list(keyed_events(self._fold, self._types, stored))) for stored in page]
        states = self._load({key for _, events in keyed for key, _ in events})
        changed = fold_page(self._fold, keyed, states)
        rows = [FoldState(*key, self._codec.encode(states[key]), position) for key, position in changed.items()]
        with self._checkpoints.transaction(claim, upto) as effects:
            self._states.store(effects, self._fold.name, self._fold.version, rows)
        self._remember(states)

    def _load(self, keys: set[FoldKey]) -> dict[FoldKey, S]:
        states = {key: self._cache[key] for key in keys if key in self._cache}
        missing = keys - states.keys()
        stored = self._states.load(self._fold.name, self._fold.version, missing) if missing else {}
        for key in missing:
            states[key] = self._codec.decode(stored[key].state) if key in stored else self._fold.initial
        return states

    def _remember(self, states: dict[FoldKey, S]) -> None:
        for key, state in states.items():
            self._cache[key] = state
            self._cache.move_to_end(key)
        while len(self._cache) > _CACHED_KEYS:
            self._cache.popitem(last=False)


class SqlHandler:
    """Calls the projection's functions with the transaction, one event after another."""

    def __init__(self, projection: SqlProjection, types: EventTypes, checkpoints: Checkpoints) -> None:
        self._projection, self._types, self._checkpoints = projection, types, checkpoints

    def begin(self, claim: Claim) -> None:
        if claim.position == 0:
            with self._checkpoints.transaction(claim, claim.position) as effects:
                for statement in self._projection.setup:
                    effects.execute(statement)

    def idle(self, claim: Claim) -> bool:
        return False

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> int:
        return all_or_up_to(claim, page, upto, self._commit)

    def _commit(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> None:
        with self._checkpoints.transaction(claim, upto) as effects:
            for stored in page:
                with blamed(stored):
                    for event in self._types.recorded(stored):
                        if event.type in self._projection.steps:
                            self._projection.steps[event.type][1](event, effects)


class Blamed(Exception):
    """The user's code raised on one event."""

    def __init__(self, stored: StoredEvent, error: Exception) -> None:
        super().__init__(f"{stored.type} v{stored.schema_version} raised {type(error).__name__}: {error}")
        self.stored = stored


@contextmanager
def blamed(stored: StoredEvent) -> Iterator[None]:
    """What the user's code raises inside becomes `Blamed`; trouble of the store and the fence stays itself."""
    try:
        yield
    except (Fenced, StoreUnavailable):
        raise
    except Exception as error:
        raise Blamed(stored, error) from error


def all_or_up_to(
    claim: Claim,
    page: Sequence[StoredEvent],
    upto: int,
    commit: Callable[[Claim, Sequence[StoredEvent], int], None],
) -> int:
    """Commit the whole page; if one event raises, commit what precedes it and raise `SubscriptionFailed` for it."""
    try:
        commit(claim, page, upto)
        return upto
    except Blamed as blame:
        at = blame.stored.position
        commit(claim, [event for event in page if event.position < at], at - 1)
        raise SubscriptionFailed(claim.name, at, str(blame)) from blame


def keyed_events(fold: Fold[Any], types: EventTypes, stored: StoredEvent) -> Iterator[tuple[FoldKey, Recorded[Any]]]:
    """What one stored event is to a fold today: keys and events, in order."""
    with blamed(stored):
        for event in types.recorded(stored):
            step = fold.steps.get(event.type)
            if step is not None and (key := step.key(event)) is not None:
                yield FoldKey(stored.tenant, key), event


def fold_page(
    fold: Fold[S],
    keyed: Iterable[tuple[StoredEvent, Sequence[tuple[FoldKey, Recorded[Any]]]]],
    states: dict[FoldKey, S],
) -> dict[FoldKey, int]:
    """Change `states` by the events, in order; gives the position of the last event that touched each key."""
    changed: dict[FoldKey, int] = {}
    for stored, events in keyed:
        with blamed(stored):
            for key, event in events:
                states[key] = fold.steps[event.type].apply(states[key], event)
                changed[key] = stored.position
    return changed
