"""A projection run once more, elsewhere, by the same handler that runs it where it is read.

So memory stays flat however many rows there are, and there is one way to fold. It stops at exactly the position asked
for, and goes on from there when it is asked again.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from everlog.app.following import subscription_of
from everlog.app.rebuild import REBUILD_PAGE, SAVE_EVERY
from everlog.app.stores import Backend, open_store
from everlog.core.errors import StoreUnavailable
from everlog.domain.types import EventTypes
from everlog.projection.contract import MendableStates
from everlog.projection.fold import Fold
from everlog.projection.pin import Pin, Reached
from everlog.projection.run import FoldHandler
from everlog.store.contract import Store
from everlog.store.query import Filter
from everlog.subscription.contract import Checkpoints
from everlog.subscription.follower import Follower, Handler, Subscription
from everlog.subscription.partition import Slice, partition_name
from everlog.subscription.tail import Tail

ToHandler = Callable[[Slice], Handler]
SCRATCH_BUILD = 1
"""Under which number the states of a fold lie that was built once, to be thrown away."""
_TEMPORARY = "memory:?synchronous=OFF&allow_unsafe=synchronous"


class Rerun:
    """One projection in a place of its own, whose `checkpoints` begin at nothing; divided as the original is."""

    def __init__(
        self,
        subscription: Subscription,
        handler: ToHandler,
        log: Store,
        checkpoints: Checkpoints,
        *,
        parts: int = 1,
        on_progress: Callable[[int], None] = lambda position: None,
    ) -> None:
        self._subscription = replace(subscription, page=REBUILD_PAGE, parts=parts)
        self._handler, self._log, self._checkpoints = handler, log, checkpoints
        self._parts, self._on_progress = parts, on_progress
        first = subscription.start.position(log)
        checkpoints.register(subscription.name, subscription.kind, subscription.version, first, parts=parts)
        known = checkpoints.progress()
        self._at = {one.part: one.position for one in known if one.subscription == subscription.name}
        self._begun: set[int] = set()

    def to(self, pin: Pin) -> None:
        """Every partition as far as `pin` says; raises `StoreUnavailable` where it cannot be."""
        for one in pin.partitions:
            self.advance(one)

    def advance(self, one: Reached) -> None:
        """One partition, alone."""
        name, at = self._subscription.name, self._at.get(one.part)
        if one.parts != self._parts or at is None:
            raise StoreUnavailable(f"{name!r} was divided anew meanwhile: begin again")
        if one.position == at and one.part in self._begun:
            return
        if one.position < at:
            raise StoreUnavailable(f"{name!r} was sent back meanwhile: begin again once it has caught up")
        follower = Follower(
            self._subscription,
            self._handler(Slice(one.part, one.parts)),
            self._log,
            self._checkpoints,
            Tail(self._log),
            owner="a rerun",
            stopping=threading.Event(),
            partition=partition_name(name, one.part, one.parts),
        )
        follower.on_progress = lambda: self._on_progress(follower.reached)
        follower.run_to(one.position)
        self._at[one.part] = one.position
        self._begun.add(one.part)


class Scratch:
    """A fold run once more into a temporary database, of all tenants or one, and of the events that `where` leaves."""

    def __init__(
        self,
        fold: Fold[Any],
        types: EventTypes,
        log: Backend,
        *,
        where: Filter | None = None,
        parts: int = 1,
        on_progress: Callable[[int], None] = lambda position: None,
    ) -> None:
        self._store = open_store(_TEMPORARY)
        checkpoints, states = self._store.checkpoints, self._store.fold_states
        subscription = subscription_of(fold, types)
        try:
            self.rerun = Rerun(
                replace(subscription, where=where or subscription.where),
                lambda keys: FoldHandler(fold, types, checkpoints, states, save_every=SAVE_EVERY, keys=keys),
                log,
                checkpoints,
                parts=parts,
                on_progress=on_progress,
            )
        except BaseException:
            self._store.close()
            raise

    @property
    def states(self) -> MendableStates:
        """What it holds, under `SCRATCH_BUILD`."""
        return self._store.fold_states

    def to(self, position: int) -> None:
        """As far as that, undivided."""
        self.rerun.advance(Reached(0, 1, position, -1, 0, 0, SCRATCH_BUILD))

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
