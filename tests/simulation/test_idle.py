"""A thousand idle hours, with every wake-up lost, on a clock of the test's own (T15)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from everlog.app.stores import Backend
from everlog.core.envelope import Head, NewEvent, StoredEvent
from everlog.store.query import Filter
from everlog.subscription.contract import Claim
from everlog.subscription.follower import EMPTY_CHECKPOINT_SECONDS, Follower, Subscription, Taken
from everlog.subscription.tail import LONGEST_POLL, Tail
from tests.simulation.database import Database
from tests.simulation.memory import MemoryLog

NAME = "seen"
HOUR = 3600.0


class Deaf(threading.Condition):
    """What a tail waits on: no hint ever comes, and waiting is what makes time pass."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *error: object) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._world.now += timeout
        return False


class World(MemoryLog):
    """A log, its one follower and the time; what is `due` is appended when its moment has come."""

    def __init__(self, due: Sequence[tuple[float, str]]) -> None:
        super().__init__(Database(self.micros, lambda: ("boot", self.micros())))
        self.now, self.due, self.looks = 0.0, list(due), 0
        self.seen: list[float] = []
        self.saves: list[tuple[float, int]] = []
        self.begun, self.kept = 0, True  # ownerships, and whether its lease lives
        self._head = super().head()
        self._stopping = threading.Event()

    def micros(self) -> int:
        return int(self.now * 1_000_000)

    def head(self) -> Head:
        self.looks += 1
        while self.due and self.due[0][0] <= self.now:
            _, type = self.due.pop(0)
            self.put("acme", NewEvent(len(self.events).to_bytes(16, "big"), "s", type, 1, b"{}"))
            self._head = super().head()
        return self._head

    def begin(self, claim: Claim) -> None:
        self.begun += 1

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        with self.checkpoints.transaction(claim, upto):
            self.seen += [self.now for _ in page]
        return Taken(upto, upto)

    def save(self, claim: Claim, at: int) -> None:
        with self.checkpoints.transaction(claim, at):
            self.saves.append((self.now, at))

    def idle(self, claim: Claim) -> bool:
        self.kept = self.database.now.subscriptions[NAME].lease_until > self.micros()
        if not self.due or not self.kept:
            self._stopping.set()
        return False

    def follow(self) -> None:
        """Until all that is due was appended, and seen."""
        backend = cast(Backend, self)
        tail = Tail(backend, monotonic=lambda: self.now)
        tail._changed = Deaf(self)
        Follower(
            Subscription(NAME, "projection", Filter(None, types=(("wanted", None),))),
            self,
            backend,
            self.checkpoints,
            tail,
            owner="ann",
            stopping=self._stopping,
            monotonic=lambda: self.now,
        ).run()


def test_after_a_thousand_idle_hours_an_event_is_there_within_a_poll() -> None:
    """Whatever part of a poll has passed when it comes; and all the time one look in a poll, and the lease kept."""
    moments = [1000 * HOUR + number * 1.07 for number in range(50)]
    world = World([(moment, "wanted") for moment in moments])
    world.follow()
    delays = [seen - moment for seen, moment in zip(world.seen, moments, strict=True)]
    assert max(delays) <= LONGEST_POLL
    assert max(delays) > LONGEST_POLL / 2
    assert world.looks <= world.now / LONGEST_POLL * 1.3  # and one more each time it looks after lanes and lease
    assert (world.begun, world.kept, world.saves) == (1, True, [])


def test_over_pages_of_nothing_it_checkpoints_at_most_once_a_second() -> None:
    others = [number * 0.19 for number in range(1, 5000)]
    world = World([(moment, "other") for moment in others])
    world.follow()
    times = [moment for moment, _ in world.saves]
    assert min(later - earlier for earlier, later in pairwise(times[:-1])) >= EMPTY_CHECKPOINT_SECONDS
    assert max(later - earlier for earlier, later in pairwise(times)) < EMPTY_CHECKPOINT_SECONDS + 1.0
    assert world.saves[-1][1] == len(others)
    assert (world.begun, world.kept) == (1, True)
