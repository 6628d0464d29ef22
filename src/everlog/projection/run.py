"""Projections as handlers of a subscription: a batch in memory, one write a key, one transaction."""

from collections.abc import Container, Sequence
from typing import Any, Generic, TypeVar

from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.core.errors import Fenced, StoreUnavailable, SubscriptionFailed
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.projection.contract import FoldStates
from everlog.projection.fold import Fold
from everlog.projection.sql import SqlProjection
from everlog.subscription.contract import Checkpoints, Claim
from everlog.subscription.follower import Taken
from everlog.subscription.partition import ALL_KEYS, Slice

S = TypeVar("S")

_CACHED_KEYS = 50_000


class FoldHandler(Generic[S]):
    """Keeps states in memory between batches while one ownership lasts; the fence makes that safe.

    `save_every` events are folded before their states are written: 1 writes after each page, which is what live needs;
    a rebuild writes seldom, and every key once for many events.
    """

    def __init__(
        self,
        fold: Fold[S],
        types: EventTypes,
        checkpoints: Checkpoints,
        states: FoldStates,
        *,
        save_every: int = 1,
        keys: Slice = ALL_KEYS,
    ) -> None:
        self._fold, self._types, self._checkpoints, self._states = fold, types, checkpoints, states
        self._codec, self._save_every, self._keys, self._build = fold.codec(), save_every, keys, 1
        self._cache: dict[FoldKey, S] = {}
        self._changed: dict[FoldKey, int] = {}
        self._unsaved = 0

    def begin(self, claim: Claim) -> None:
        self._cache, self._changed, self._unsaved, self._build = {}, {}, 0, claim.build
        if claim.anew:
            with self._checkpoints.transaction(claim, claim.position) as effects:
                self._states.clear(effects, self._fold.name, claim.build)

    def idle(self, claim: Claim) -> bool:
        return False

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        try:
            self._take(page)
        except Blamed as blame:
            at = blame.stored.position
            self._take([event for event in page if event.position < at])
            self.save(claim, at - 1)
            raise SubscriptionFailed(claim.name, at, str(blame)) from blame
        if self._unsaved < self._save_every and len(self._changed) < _CACHED_KEYS:
            return Taken(claim.position, upto)
        self.save(claim, upto)
        return Taken(upto, upto)

    def save(self, claim: Claim, at: int) -> None:
        cache, encode = self._cache, self._codec.encode
        rows = [FoldState(*key, encode(cache[key]), position) for key, position in self._changed.items()]
        with self._checkpoints.transaction(claim, at) as effects:
            self._states.store(effects, self._fold.name, claim.build, rows)
        self._changed, self._unsaved = {}, 0
        if len(cache) > _CACHED_KEYS:
            self._cache = {}

    def _take(self, page: Sequence[StoredEvent]) -> None:
        """Fold a page in memory, all of it or nothing."""
        keyed, cache = keyed_events(self._fold, self._types, page, self._keys), self._cache
        self._fetch({key for key, _ in keyed if key not in cache})
        states = {key: cache[key] for key, _ in keyed}
        self._changed.update(fold_events(self._fold, keyed, states))
        cache.update(states)
        self._unsaved += len(page)

    def _fetch(self, missing: set[FoldKey]) -> None:
        """Have the states of these keys in memory."""
        stored = self._states.load(self._fold.name, self._build, missing) if missing else {}
        for key in missing:
            self._cache[key] = self._codec.decode(stored[key].state) if key in stored else self._fold.initial


class SqlHandler:
    """Calls the projection's functions with the transaction, one event after another."""

    def __init__(
        self, projection: SqlProjection, types: EventTypes, checkpoints: Checkpoints, keys: Slice = ALL_KEYS
    ) -> None:
        self._projection, self._types, self._checkpoints, self._keys = projection, types, checkpoints, keys

    def begin(self, claim: Claim) -> None:
        with self._checkpoints.transaction(claim, claim.position) as effects:
            for table in self._projection.tables if claim.anew else ():
                effects.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in self._projection.setup:
                effects.execute(statement)

    def idle(self, claim: Claim) -> bool:
        return False

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        try:
            self._commit(claim, page, upto)
        except Blamed as blame:
            at = blame.stored.position
            self._commit(claim, [event for event in page if event.position < at], at - 1)
            raise SubscriptionFailed(claim.name, at, str(blame)) from blame
        return Taken(upto, upto)

    def save(self, claim: Claim, at: int) -> None:
        self._commit(claim, [], at)

    def _commit(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> None:
        steps = self._projection.steps
        with self._checkpoints.transaction(claim, upto) as effects:
            for stored in page:
                with Blame(stored):
                    for event in self._types.recorded(stored):
                        if event.type in steps and self._keys.holds(self._projection.key_of(event)):
                            steps[event.type][1](event, effects)
                        elif event.type not in steps:
                            refuse_unreadable(event, steps, self._types)


class Blamed(Exception):
    """The user's code raised on one event."""

    def __init__(self, stored: StoredEvent, error: BaseException) -> None:
        super().__init__(f"{stored.type} v{stored.schema_version} raised {type(error).__name__}: {error}")
        self.stored = stored


class Blame:
    """What the user's code raises in the block becomes `Blamed`, on `stored`; trouble of the store stays itself."""

    def __init__(self, stored: StoredEvent) -> None:
        self.stored = stored

    def __enter__(self) -> "Blame":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception | SystemExit) and not isinstance(error, Fenced | StoreUnavailable):
            raise Blamed(self.stored, error) from error


Keyed = Sequence[tuple[FoldKey, Recorded[Any]]]


def keyed_events(fold: Fold[Any], types: EventTypes, page: Sequence[StoredEvent], keys: Slice = ALL_KEYS) -> Keyed:
    """What stored events are to a fold today: keys, of those in `keys`, and events, in order. Raises `Blamed`."""
    keyed: list[tuple[FoldKey, Recorded[Any]]] = []
    whole = keys.parts == 1
    steps, recorded = fold.steps, types.recorded
    if not page:
        return keyed
    with Blame(page[0]) as blame:
        for stored in page:
            blame.stored = stored
            for event in recorded(stored):
                step = steps.get(event.type)
                if step is None:
                    refuse_unreadable(event, steps, types)
                else:
                    for key in step.keys(event):
                        if whole or keys.holds(f"{stored.tenant}/{key}"):
                            keyed.append((FoldKey(stored.tenant, key), event))
    return keyed


def refuse_unreadable(event: Recorded[Any], names: Container[str], types: EventTypes) -> None:
    """Raises what its data raises, if it is what an upcaster failed on and should have become one of `names`."""
    if types.may_become(event, names):
        _ = event.data


def fold_events(fold: Fold[S], keyed: Keyed, states: dict[FoldKey, S]) -> dict[FoldKey, int]:
    """Change `states` by the events, in order; gives the position of the last one of each key. Raises `Blamed`."""
    changed: dict[FoldKey, int] = {}
    steps = fold.steps
    if not keyed:
        return changed
    with Blame(keyed[0][1].stored) as blame:
        for key, event in keyed:
            blame.stored = event.stored
            states[key] = steps[event.type].apply(states[key], event)
            changed[key] = event.stored.position
    return changed
