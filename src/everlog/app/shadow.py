"""A read model built beside the one that serves, and put in its place in one transaction; the old one is kept.

A fold's states lie in the log's database under the number of their build, a SQL projection's tables in a shadow. Either
is followed by the same handler as ever, so it goes on where it was cut off.
"""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from everlog.app.following import Projection, projection_handler, subscription_of
from everlog.app.rebuild import REBUILD_PAGE, SAVE_EVERY, Meter, RebuildProgress, refuse_inline
from everlog.app.stores import Backend
from everlog.core.errors import Misconfigured, NotFound, StoreUnavailable
from everlog.domain.types import EventTypes
from everlog.projection.contract import Shadow
from everlog.projection.fold import Fold
from everlog.projection.run import SqlHandler
from everlog.projection.sql import SqlProjection
from everlog.subscription.contract import Checkpoints, Progress
from everlog.subscription.follower import LEASE_SECONDS, Follower, Handler
from everlog.subscription.partition import BUILDING, KEPT, Slice, as_one
from everlog.subscription.tail import Tail
from everlog.subscription.taking_over import taken_over

_SWAP_SECONDS = 3600.0  # longer than the copying of any tables; it ends with the swap


class _Place(Protocol):
    """Where a build lies that does not serve."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    def handler(self, keys: Slice) -> Handler: ...

    def clear(self) -> None:
        """Make room for a new build."""
        ...

    def drop(self) -> None: ...

    def take_over(self, name: str, other: str) -> bool:
        """`other` serves under this name from now on, and what served is kept; False while it is not as far."""
        ...

    def close(self) -> None: ...


class ShadowBuild:
    """One projection, built in this process while workers run the one that serves."""

    def __init__(
        self,
        projection: Projection,
        types: EventTypes,
        backend: Backend,
        *,
        lease_seconds: float = LEASE_SECONDS,
        new_version: bool = False,
        stopping: threading.Event | None = None,
        on_progress: Callable[[RebuildProgress], None] = lambda progress: None,
    ) -> None:
        """`new_version`: only as long as another version serves, which many may be about to change at once."""
        refuse_inline(projection)
        self._new_version = new_version
        self._projection, self._backend, self._on_progress = projection, backend, on_progress
        self._subscription = replace(subscription_of(projection, types), page=REBUILD_PAGE)
        self._types, self._lease_seconds = types, lease_seconds
        self._stopping = stopping or threading.Event()
        self.name = projection.name
        self._owner = f"shadow build by {socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def stop(self) -> None:
        """Keep what is built, and return after the page in hand; with `resume` it goes on from there."""
        self._stopping.set()

    def run(self, *, resume: bool = False) -> int:
        """Build up to the head as it is now, and say the position; one that was cut off goes on, with `resume`.

        Raises `SubscriptionFailed` for an event it cannot take, and `StoreUnavailable` while somebody else builds it.
        """
        with self._place() as place:
            known = self._known(place.checkpoints, BUILDING)
            self._refuse_served()
            if not resume or known is None or known.version != self._projection.version:
                self._refuse_owned(known)
                place.clear()
                self._register(place.checkpoints, BUILDING)
            elif known.status != "running":
                place.checkpoints.set_status(self.name + BUILDING, "running")
            return self._follow(place, BUILDING)

    def swap(self) -> int:
        """Catch up, and let it serve; says the position. What served until now is kept for `rollback`."""
        with self._place() as place:
            if self._known(place.checkpoints, BUILDING) is None:
                raise NotFound(
                    f"nothing is built beside {self.name!r}: everlog projection rebuild {self.name} --shadow"
                )
            if self._known(self._backend.checkpoints, "") is None:
                self._register(self._backend.checkpoints, "")
            return self._change(place, BUILDING)

    def rollback(self) -> int:
        """Let serve what served before, caught up; says the position. What served until now is kept in turn."""
        with self._place() as place:
            kept = self._known(place.checkpoints, KEPT)
            if kept is None:
                raise NotFound(f"nothing that served before is kept of {self.name!r}")
            self._refuse_lost(place)
            if kept.version != self._projection.version:
                raise Misconfigured(
                    f"what is kept of {self.name!r} was built by version {kept.version} and this code is version "
                    f"{self._projection.version}: roll back with the code of version {kept.version}"
                )
            return self._change(place, KEPT)

    def cancel(self) -> None:
        """Throw away what is being built."""
        with self._place() as place:
            known = self._known(place.checkpoints, BUILDING)
            if known is None:
                raise NotFound(f"nothing is being built beside {self.name!r}")
            place.drop()

    def _change(self, place: _Place, other: str) -> int:
        with self._owning(self._backend.checkpoints, self.name, self._lease_seconds):
            self._refuse_served()
            self._refuse_lost(place)
            place.checkpoints.set_status(self.name + other, "running")  # it may have failed, and be mended
            reached = self._follow(place, other)
            # From here on nobody else may move it, for it takes its place as it is.
            with self._owning(place.checkpoints, self.name + other, _SWAP_SECONDS):
                if self._stopping.is_set() or not place.take_over(self.name, self.name + other):
                    raise StoreUnavailable(f"{self.name!r} did not catch up with what serves: try again")
        return reached

    def _refuse_served(self) -> None:
        serving = self._known(self._backend.checkpoints, "")
        if self._new_version and serving is not None and serving.version >= self._projection.version:
            raise StoreUnavailable(f"version {serving.version} of {self.name!r} serves by now")

    def _refuse_lost(self, place: _Place) -> None:
        """A rollback that is cut off between two files leaves in the shadow what serves, and not what was kept."""
        kept, serving = self._known(place.checkpoints, KEPT), self._known(self._backend.checkpoints, "")
        if kept is not None and serving is not None and kept.build == serving.build:
            raise NotFound(
                f"what served before {self.name!r} was lost when a rollback was cut off: build it beside what serves, "
                f"everlog projection rebuild {self.name} --shadow"
            )

    def _follow(self, place: _Place, suffix: str) -> int:
        """Every partition, one after the other, up to the head."""
        head = self._backend.head().position
        partitions = [one for one in place.checkpoints.progress() if one.subscription == self.name + suffix]
        meter = Meter(head * len(partitions), self._on_progress)
        reached = []
        for number, known in enumerate(partitions):
            follower = Follower(
                replace(self._subscription, name=self.name + suffix),
                place.handler(Slice(known.part, known.parts)),
                self._backend,
                place.checkpoints,
                Tail(self._backend),
                owner=self._owner,
                stopping=self._stopping,
                lease_seconds=self._lease_seconds,
                partition=known.name,
            )
            follower.on_progress = partial(_show, meter, follower, number * head)
            follower.run_to(head)
            reached.append(follower.reached)
        if not reached:
            raise StoreUnavailable(f"{self.name!r} was swapped or canceled by somebody else: look again")
        return min(reached)

    @contextmanager
    def _owning(self, checkpoints: Checkpoints, name: str, lease_seconds: float) -> Iterator[None]:
        """Take it over, so that it goes no further meanwhile; its workers go on after."""
        with ExitStack() as owned:
            for one in checkpoints.progress():
                if one.subscription == name:
                    owned.callback(checkpoints.leave, taken_over(checkpoints, one.name, self._owner, lease_seconds))
            yield

    def _register(self, checkpoints: Checkpoints, suffix: str) -> None:
        """Divided as what serves is."""
        serving = self._known(self._backend.checkpoints, "")
        parts = self._projection.partitions if serving is None else serving.parts
        replace(self._subscription, name=self.name + suffix, parts=parts).register(self._backend, checkpoints)

    def _known(self, checkpoints: Checkpoints, suffix: str) -> Progress | None:
        return as_one(checkpoints.progress()).get(self.name + suffix)

    def _refuse_owned(self, known: Progress | None) -> None:
        if known is not None and known.owner:
            raise StoreUnavailable(f"{self.name!r} is being built by {known.owner}: wait for it, or cancel it")

    @contextmanager
    def _place(self) -> Iterator[_Place]:
        one = self._projection
        place = (
            _States(one, self._types, self._backend)
            if isinstance(one, Fold)
            else _Tables(one, self._types, self._backend)
        )
        try:
            yield place
        finally:
            place.close()


def _as_far(checkpoints: Checkpoints, partitions: Sequence[Progress]) -> None:
    """The same partitions in another place, each as far as it is here."""
    name = partitions[0].subscription
    checkpoints.register(name, "projection", partitions[0].version, 0, parts=len(partitions))
    for one in partitions:
        claim = checkpoints.claim(one.name, "a swap", 0.0)
        if claim is None:
            raise StoreUnavailable(f"{name!r} is being swapped by somebody else: try again")
        if claim.position < one.position:
            with checkpoints.transaction(claim, one.position):
                pass
        checkpoints.leave(claim)


def _show(meter: Meter, follower: Follower, before: int) -> None:
    meter.show(before + follower.reached)


class _States:
    """A fold's, beside those of other builds."""

    def __init__(self, fold: Fold[Any], types: EventTypes, backend: Backend) -> None:
        self._fold, self._types, self._backend = fold, types, backend
        self.checkpoints = backend.checkpoints

    def handler(self, keys: Slice) -> Handler:
        return projection_handler(self._fold, self._types, self._backend, save_every=SAVE_EVERY, keys=keys)

    def clear(self) -> None:
        self._forget(self._fold.name + BUILDING)

    drop = clear

    def take_over(self, name: str, other: str) -> bool:
        if other != name + KEPT:
            self._forget(name + KEPT)
        return self.checkpoints.exchange(name, other, name + KEPT)

    def close(self) -> None:
        """Nothing was opened."""

    def _forget(self, name: str) -> None:
        states = self._backend.fold_states
        self.checkpoints.forget(name, lambda effects, build: states.clear(effects, self._fold.name, build))


class _Tables:
    """Those of a SQL projection, in its shadow: what is being built, or else what was kept when it was swapped."""

    def __init__(self, projection: SqlProjection, types: EventTypes, backend: Backend) -> None:
        self._projection, self._types, self._backend = projection, types, backend
        self._shadow: Shadow = backend.shadows.open(projection.name)

    @property
    def checkpoints(self) -> Checkpoints:
        return self._shadow.checkpoints

    def handler(self, keys: Slice) -> Handler:
        return SqlHandler(self._projection, self._types, self._shadow.checkpoints, keys)

    def clear(self) -> None:
        self._backend.checkpoints.forget(self._projection.name + KEPT)
        self._shadow.close()
        self._shadow = self._backend.shadows.open(self._projection.name, fresh=True)

    def drop(self) -> None:
        self._shadow.drop()

    def take_over(self, name: str, other: str) -> bool:
        log, shadow = self._backend.checkpoints, self._shadow.checkpoints
        built = [one for one in shadow.progress() if one.subscription == other]
        # As far as the shadow's own checkpoints are, so that the change of names says how far the tables are too.
        log.forget(other)
        if other != name + KEPT:
            log.forget(name + KEPT)
        _as_far(log, built)
        tables, shadows = self._projection.tables, self._backend.shadows
        return log.exchange(name, other, name + KEPT, lambda effects: shadows.swap(effects, name, tables, name + KEPT))

    def close(self) -> None:
        self._shadow.close()
