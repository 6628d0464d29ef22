"""Building a projection anew: from zero, or on from where a rebuild was cut off, with progress."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from everlog.app.following import Projection, projection_handler, subscription_of
from everlog.app.stores import Backend
from everlog.core.errors import Misconfigured, StoreUnavailable
from everlog.domain.types import EventTypes
from everlog.projection.fold import Fold
from everlog.subscription.contract import Progress
from everlog.subscription.follower import LEASE_SECONDS, Follower, Subscription
from everlog.subscription.partition import Slice
from everlog.subscription.tail import Tail
from everlog.subscription.taking_over import taken_over

REBUILD_PAGE = 150  # so few that what is made of them is gone before Python's collector looks: a quarter quicker
SAVE_EVERY = 50_000
_TRIES = 5


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is: positions of the log, events a second, and seconds left (0.0 when done)."""

    position: int
    total: int
    rate: float
    seconds_left: float


class Rebuild:
    """One projection, rebuilt in this process. A worker that runs it is fenced off first, and takes it over after."""

    def __init__(
        self, projection: Projection, types: EventTypes, backend: Backend, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        refuse_inline(projection)
        self._projection, self._types, self._backend = projection, types, backend
        self._owner, self._lease_seconds = f"rebuild of {projection.name}", lease_seconds
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Keep what is built, and return from `run` after the page in hand; `run(resume=True)` goes on from there."""
        self._stopping.set()

    def run(self, progress: Callable[[RebuildProgress], None], *, resume: bool = False) -> int:
        """Build up to the head as it is now and say the position; raises `SubscriptionFailed` for an event it cannot
        take, keeping what precedes it."""
        subscription = replace(subscription_of(self._projection, self._types), page=REBUILD_PAGE)
        one, checkpoints = self._projection, self._backend.checkpoints
        first = subscription.start.position(self._backend)
        begun = checkpoints.register(one.name, subscription.kind, one.version, first, parts=one.partitions)
        if not resume:
            self._take(first)
        elif begun.status != "running":
            checkpoints.set_status(one.name, "running")
        head = self._backend.head().position
        partitions = [known for known in checkpoints.progress() if known.subscription == one.name]
        meter = Meter(head * len(partitions), progress)
        reached = [self._build(subscription, known, head, number, meter) for number, known in enumerate(partitions)]
        return min(reached)

    def _build(self, subscription: Subscription, known: Progress, head: int, number: int, meter: "Meter") -> int:
        """One partition after the other: each reads the log for its own keys."""
        keys = Slice(known.part, known.parts)
        follower = Follower(
            subscription,
            projection_handler(self._projection, self._types, self._backend, save_every=SAVE_EVERY, keys=keys),
            self._backend,
            self._backend.checkpoints,
            Tail(self._backend),
            owner=self._owner,
            stopping=self._stopping,
            lease_seconds=self._lease_seconds,
            partition=known.name,
        )
        follower.on_progress = lambda: meter.show(number * head + follower.reached)
        if number:  # the first one is ours since it was sent back; workers may have claimed the others since it cleared
            taken_over(self._backend.checkpoints, known.name, self._owner, self._lease_seconds)
        follower.run_to(head)
        return follower.reached

    def _take(self, first: int) -> None:
        """Send it back and own it. What an earlier build made goes as the first thing, whoever does it."""
        name, checkpoints = self._projection.name, self._backend.checkpoints
        for _ in range(_TRIES):  # a worker may be quicker
            checkpoints.reset(name, first)
            # The first partition is the one that clears; until it has, nobody gets the others.
            partition = next(known.name for known in checkpoints.progress() if known.subscription == name)
            if checkpoints.claim(partition, self._owner, self._lease_seconds) is not None:
                return
        raise StoreUnavailable(f"{name!r} was taken over by a worker: try again")


def refuse_inline(projection: Projection) -> None:
    if isinstance(projection, Fold) and projection.inline:
        raise Misconfigured(f"{projection.name!r} is inline: raise its version and open the platform to build it anew")


class Meter:
    def __init__(self, total: int, show: Callable[[RebuildProgress], None]) -> None:
        self._total, self._show, self._began, self._first = total, show, time.monotonic(), -1

    def show(self, position: int) -> None:
        if self._first < 0:
            self._first = position
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (position - self._first) / seconds
        left = (self._total - position) / rate if rate else 0.0
        self._show(RebuildProgress(position, self._total, rate, max(0.0, left)))
