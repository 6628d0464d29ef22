"""For any events and any failures: per key the handler saw a prefix in order, and what it did not see lies in order.

The real `ProcessorHandler` on a real log, page by page. Handlers fail by plan (so often for good, so often in passing,
then never again), people retry and skip in between, and the process dies between any two steps.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack
from random import Random
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from everlog import Processor, Recorded, Retry, Transient, processor
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.domain.types import EventTypes
from everlog.processing.contract import LaneFilter
from everlog.processing.run import ProcessorHandler
from everlog.store.query import Filter
from everlog.subscription.contract import Claim
from everlog.testing.conformance import SettableClock, append, new_event
from tests.faults.powercut import memory_directory
from tests.following.parts import Counted

ATTEMPTS = 3
KEYS = "abc"
POINTS = ("processor.marked", "processor.effects", "checkpoint.before_commit", "checkpoint.after_commit")


class Plan(NamedTuple):
    """How an event fails before it is handled: so often in passing, so often for good, in this order or the other."""

    transient: int
    permanent: int
    transient_first: bool

    def outcomes(self) -> list[Exception]:
        passing: list[Exception] = [Transient("down")] * self.transient
        lasting: list[Exception] = [ValueError("boom")] * self.permanent
        return passing + lasting if self.transient_first else lasting + passing


plans = st.builds(Plan, st.integers(0, 2), st.sampled_from([0, 0, 0, 0, 1, 2, 3, 7]), st.booleans())


class Died(BaseException):
    """The process ended here."""


class NoPause(Random):
    def uniform(self, a: float, b: float) -> float:
        return a


class Handler:
    """Takes events as their plans say."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[Exception]] = {}
        self.handled: dict[str, list[int]] = defaultdict(list)
        self.failures: Counter[int] = Counter()
        self._mutex = threading.Lock()

    def __call__(self, claim: Claim, event: Recorded[Counted]) -> None:
        with self._mutex:
            outcomes = self.outcomes[event.position]
            if outcomes:
                raised = outcomes.pop(0)
                self.failures[event.position] += isinstance(raised, ValueError)
                raise raised
            self.handled[event.data.key].append(event.position)


class Springs:
    """Dies at the n-th time a point is reached, once it is set."""

    point, left = "", 0

    def set(self, point: str, times: int) -> None:
        self.point, self.left = point, times

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                self.point = ""
                raise Died


def nothing(e: Recorded[Counted]) -> None:
    """Its calls go to `Handler`, which also knows the claim."""


class Lanes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.around = ExitStack()
        folder = self.around.enter_context(memory_directory())
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        self.crash, self.clock, self.stopping = Springs(), SettableClock(), threading.Event()
        self.store = SqliteStore(SqliteSettings(None), clock=self.clock, crash=self.crash)
        tempfile.tempdir = before
        self.types = EventTypes([Counted])
        self.handler = Handler()
        self.positions: dict[str, list[int]] = {key: [] for key in KEYS}
        self.skipped: set[int] = set()
        self.died = 0
        self.running: ProcessorHandler | None = None

    @initialize(concurrency=st.sampled_from([1, 8]))
    def begin(self, concurrency: int) -> None:
        options = processor("spy", on=Counted, key=lambda e: e.data.key, retry=Retry(ATTEMPTS), concurrency=concurrency)
        self.processor: Processor[Counted] = options(nothing)
        self.store.checkpoints.register("spy", "processor", 1, 0)
        self._own()

    def _own(self) -> None:
        """A process takes over, and knows nothing but what is in the database."""
        if self.running is not None:
            self.running.close()
        claim = self.store.checkpoints.claim("spy", "me", 60.0)
        assert claim is not None
        self.running = ProcessorHandler(
            self.processor, self.handler, self.types, self.store, self.store.checkpoints, self.store.desk,
            clock=self.clock, stopping=self.stopping, random=NoPause(), crash=self.crash,
        )  # fmt: skip
        self.claim = claim
        self.running.begin(claim)

    # ---- What happens.

    @rule(events=st.lists(st.tuples(st.sampled_from(KEYS), plans), min_size=1, max_size=6))
    def append(self, events: list[tuple[str, Plan]]) -> None:
        new = [new_event("s-1", "tally.counted", b'{"key":"%s","n":1}' % key.encode()) for key, _ in events]
        places = append(self.store, *new).places
        for (key, plan), place in zip(events, places, strict=True):
            self.positions[key].append(place.position)
            self.handler.outcomes[place.position] = plan.outcomes()

    @rule(size=st.integers(1, 9))
    def page(self, size: int) -> None:
        assert self.running is not None
        head, at = self.store.head().position, self.claim.position
        page = list(self.store.read(Filter(None), after=at, upto=head, limit=size))
        if not page:
            return
        try:
            taken = self.running.handle(self.claim, page, page[-1].position)
            self.claim = self.claim._replace(position=taken.saved)
        except Died:
            self.died += 1
            self._own()

    @rule()
    def lanes(self) -> None:
        assert self.running is not None
        try:
            self.running.idle(self.claim)
        except Died:
            self.died += 1
            self._own()

    @rule(point=st.sampled_from(POINTS), times=st.integers(1, 6))
    def die(self, point: str, times: int) -> None:
        self.crash.set(point, times)

    @rule()
    def restart(self) -> None:
        self._own()

    @rule(key=st.none() | st.sampled_from(KEYS), canary=st.booleans())
    def retry(self, key: str | None, canary: bool) -> None:
        self.crash.set("", 0)
        where = LaneFilter("spy", key=None if key is None else f"acme/{key}")
        self.store.desk.lanes.retry(where, canary=canary)
        self.handler.failures.clear()

    @rule(key=st.sampled_from(KEYS))
    def skip(self, key: str) -> None:
        for lane in self.store.desk.lanes.find(LaneFilter("spy", key=f"acme/{key}")):
            if lane.status != "retrying":
                self.store.desk.lanes.skip("spy", lane.key, lane.first)
                self.skipped.add(lane.first)
                self.handler.failures.clear()

    # ---- What holds.

    @invariant()
    def per_key_it_saw_a_prefix_in_order_and_the_rest_lies_in_order(self) -> None:
        known = {one.name: one for one in self.store.checkpoints.progress()}
        if not known:
            return
        reached = known["spy"].position
        for key, positions in self.positions.items():
            behind = self.store.desk.lanes.positions("spy", f"acme/{key}", 999)
            seen = list(dict.fromkeys(self.handler.handled[key]))
            passed = [position for position in positions if position <= reached]
            first = behind[0] if behind else reached + 1
            assert seen == sorted(seen)
            assert behind == [position for position in passed if position >= first]
            assert {position for position in passed if position < first} <= self.skipped | set(seen)
            if not self.died:
                assert self.handler.handled[key] == seen
                assert sorted({*seen, *(self.skipped & set(positions)), *behind}) == passed
                assert not set(seen) & set(behind)

    @invariant()
    def nothing_has_more_attempts_than_it_may(self) -> None:
        assert self.died or all(failures <= ATTEMPTS for failures in self.handler.failures.values())

    @invariant()
    def who_waits_waits_for_somebody(self) -> None:
        statuses = {lane.status for lane in self.store.desk.lanes.find(LaneFilter("spy"))}
        assert statuses != {"waiting"}
        assert statuses != {"waiting", "parked"}

    def teardown(self) -> None:
        """The world is mended, everything is tried again, and every event has been handled or skipped."""
        try:
            if self.running is not None:
                self._finish()
        finally:
            if self.running is not None:
                self.running.close()
            self.store.close()
            self.around.close()

    def _finish(self) -> None:
        self.crash.set("", 0)
        for outcomes in self.handler.outcomes.values():
            outcomes.clear()
        self.store.desk.lanes.retry(LaneFilter("spy"), canary=False)
        while self.claim.position < self.store.head().position:
            self.page(99)
        for _ in range(99):
            self.store.desk.lanes.retry(LaneFilter("spy"), canary=False)
            self.lanes()
        assert list(self.store.desk.lanes.find(LaneFilter("spy"))) == []
        self.per_key_it_saw_a_prefix_in_order_and_the_rest_lies_in_order()
        for key, positions in self.positions.items():
            assert set(positions) == set(self.handler.handled[key]) | (self.skipped & set(positions))


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
