"""Subscriptions: from any start, catch-up then live without a seam, in pages, owned by one, waking without hints."""

from __future__ import annotations

import math
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.app.stores import Backend, open_store
from everlog.core.clock import moment
from everlog.core.envelope import Head, StoredEvent
from everlog.core.errors import (
    Fenced,
    InvalidInput,
    OutcomeUnknown,
    StoreUnavailable,
    SubscriptionFailed,
    SubscriptionStopped,
)
from everlog.store.query import Filter
from everlog.subscription.contract import Claim, Status
from everlog.subscription.follower import EMPTY_CHECKPOINT_SECONDS, PAGE, Follower, Subscription, Taken
from everlog.subscription.start import BEGINNING, AfterPosition, FromNow, FromTime, Start
from everlog.subscription.tail import LONGEST_POLL, Tail
from everlog.testing.conformance import SettableClock, append, new_event
from everlog.testing.conformance.following import SettableLease
from tests.following.parts import eventually

NAME = "seen"
WHERE = Filter(None, types=(("order.placed", None),))


class Seen:
    """A handler that notes what it is given, and commits each page."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.positions: list[int] = []
        self.pages: list[int] = []
        self.begun: list[Claim] = []
        self.saves: list[tuple[float, int]] = []
        self.idles = 0
        self.raises: list[Exception] = []

    def begin(self, claim: Claim) -> None:
        self.begun.append(claim)

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        if self.raises:
            raise self.raises.pop(0)
        with self.backend.checkpoints.transaction(claim, upto):
            pass
        self.positions += [stored.position for stored in page]
        self.pages.append(len(page))
        return Taken(upto, upto)

    def save(self, claim: Claim, at: int) -> None:
        with self.backend.checkpoints.transaction(claim, at):
            self.saves.append((time.monotonic(), at))

    def idle(self, claim: Claim) -> bool:
        self.idles += 1
        return False


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def backend(clock: SettableClock) -> Iterator[Backend]:
    backend = open_store("memory:", clock=clock)
    yield backend
    backend.close()


def follower(
    backend: Backend,
    handler: Seen,
    *,
    store: Any = None,
    start: Start = BEGINNING,
    page: int = PAGE,
    version: int = 1,
    where: Filter = WHERE,
    owner: str = "ann",
    lease_seconds: float = 10.0,
    hinted: bool = True,
    until_due: Callable[[], float] = lambda: math.inf,
) -> Follower:
    tail = Tail(store or backend)
    if hinted:
        backend.on_append(tail.hint)
    return Follower(
        Subscription(NAME, "projection", where, version, start, page),
        handler,
        store or backend,
        backend.checkpoints,
        tail,
        owner=owner,
        stopping=threading.Event(),
        lease_seconds=lease_seconds,
        until_due=until_due,
    )


@contextmanager
def running(*followers: Follower) -> Iterator[None]:
    threads = [threading.Thread(target=one.run) for one in followers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop(*followers)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def stop(*followers: Follower) -> None:
    for one in followers:
        one._stopping.set()
        assert isinstance(one._tail, Tail)
        one._tail.hint()


def fill(backend: Backend, count: int, *, type: str = "order.placed", data: bytes = b"{}") -> None:
    for start in range(0, count, 200):
        append(backend, *(new_event(type=type, data=data) for _ in range(min(200, count - start))))


def position(backend: Backend) -> int:
    return backend.checkpoints.progress()[0].position


# ---- Where it begins.


def _moments(backend: Backend, clock: SettableClock) -> datetime:
    """Ten events, two every second; the moment of the fifth and sixth."""
    first = clock.now
    for _ in range(5):
        fill(backend, 2)
        clock.now += 1_000_000
    return moment(first + 2_000_000)


@pytest.mark.parametrize(
    ("start", "seen"),
    [
        (lambda at: BEGINNING, range(1, 11)),
        (lambda at: AfterPosition(0), range(1, 11)),
        (lambda at: AfterPosition(7), range(8, 11)),
        (lambda at: AfterPosition(10), []),
        (lambda at: FromTime(at), range(5, 11)),
        (lambda at: FromTime(at - timedelta(microseconds=1)), range(5, 11)),
        (lambda at: FromTime(at + timedelta(microseconds=1)), range(7, 11)),
        (lambda at: FromTime(at - timedelta(days=9)), range(1, 11)),
        (lambda at: FromTime(at + timedelta(days=9)), []),
        (lambda at: FromNow(), []),
    ],
    ids=["beginning", "0", "7", "head", "time", "a little before", "a little after", "long ago", "some day", "now"],
)
def test_it_begins_where_it_is_told(
    backend: Backend, clock: SettableClock, start: Callable[[datetime], Start], seen: Sequence[int]
) -> None:
    handler = Seen(backend)
    follower(backend, handler, start=start(_moments(backend, clock))).run_to(10)
    assert handler.positions == list(seen)


@pytest.mark.parametrize("start", [FromNow(), FromTime(datetime(2100, 1, 1, tzinfo=UTC)), AfterPosition(3)], ids=str)
def test_what_comes_later_is_seen_from_any_start(backend: Backend, start: Start) -> None:
    fill(backend, 3)
    handler = Seen(backend)
    with running(follower(backend, handler, start=start)):
        eventually(lambda: handler.begun)
        fill(backend, 2)
        eventually(lambda: handler.positions == [4, 5])


def test_afterwards_its_checkpoint_decides_and_not_its_start(backend: Backend) -> None:
    fill(backend, 4)
    first, second = Seen(backend), Seen(backend)
    follower(backend, first, start=AfterPosition(1)).run_to(3)
    follower(backend, second, start=BEGINNING).run_to(4)
    assert (first.positions, second.positions) == ([2, 3], [4])


def test_a_start_that_means_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="positions are 0 or more"):
        AfterPosition(-1)
    with pytest.raises(InvalidInput, match="no time zone"):
        FromTime(datetime(2026, 1, 1))  # noqa: DTZ001


# ---- Catch-up and live.


def test_catching_up_goes_over_into_live_without_a_seam(backend: Backend) -> None:
    fill(backend, 200)
    handler = Seen(backend)

    def write() -> None:
        for number in range(60):
            append(backend, *(new_event(f"s-{number}") for _ in range(1 + number % 3)))

    writers = [threading.Thread(target=write) for _ in range(3)]
    with running(follower(backend, handler, page=7)):
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        eventually(lambda: len(handler.positions) >= backend.head().position)
    assert handler.positions == list(range(1, 200 + 3 * 120 + 1))
    assert max(handler.pages) == 7
    assert position(backend) == backend.head().position


def test_events_are_filtered_in_the_database(backend: Backend) -> None:
    """Of 3,000 events the store gives out the three that are followed, and no other is ever in our hands."""
    for _ in range(3):
        fill(backend, 1000, type="other.thing")
        fill(backend, 1)
    given: list[StoredEvent] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        def read(self, where: Filter, **page: Any) -> Iterator[StoredEvent]:
            for stored in backend.read(where, **page):
                given.append(stored)
                yield stored

    handler = Seen(backend)
    follower(backend, handler, store=Watched()).run_to(3003)
    assert handler.positions == [stored.position for stored in given] == [1001, 2002, 3003]


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_it_goes_through_the_log_in_pages(backend: Backend, page: int) -> None:
    fill(backend, 10)
    handler = Seen(backend)
    follower(backend, handler, page=page).run_to(10)
    assert handler.positions == list(range(1, 11))
    assert max(handler.pages) == min(page, 10)


def test_memory_stays_flat_however_long_the_backlog(backend: Backend) -> None:
    data = b'"' + b"x" * 4000 + b'"'
    peaks = []
    for count in (2_000, 10_000):
        fill(backend, count, data=data)
        handler = Seen(backend)
        one = follower(backend, handler, page=200)
        backend.checkpoints.register(NAME, "projection", 1, 0)
        backend.checkpoints.reset(NAME)
        tracemalloc.start()
        one.run_to(backend.head().position)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(handler.positions) == backend.head().position
    assert peaks[1] < 8_000_000, peaks  # of 48 MB that went through
    assert peaks[1] < peaks[0] + 2_000_000, peaks


# ---- Pages that hold nothing for it.


class Endless:
    """A log that grows by an event of another type whenever its head is asked for."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def head(self) -> Head:
        append(self.backend, new_event(type="other.thing"))
        return self.backend.head()


def test_over_pages_of_nothing_it_checkpoints_once_a_second(backend: Backend) -> None:
    handler = Seen(backend)
    one = follower(backend, handler, store=Endless(backend))
    began = time.monotonic()
    with running(one):
        eventually(lambda: len(handler.saves) >= 2)
        saves = list(handler.saves)
        assert one.reached >= saves[-1][1]
    assert saves[0][0] - began < EMPTY_CHECKPOINT_SECONDS + 1
    assert EMPTY_CHECKPOINT_SECONDS <= saves[1][0] - saves[0][0] + 0.05 < EMPTY_CHECKPOINT_SECONDS + 1
    assert handler.positions == []


def test_what_waits_for_its_turn_gets_it_though_others_events_never_end(backend: Backend) -> None:
    handler = Seen(backend)
    with running(follower(backend, handler, store=Endless(backend))):
        eventually(lambda: handler.idles > 3)


def test_what_is_due_gets_its_turn_though_the_log_grows_with_every_page(backend: Backend) -> None:
    handler = Growing(backend)
    one = follower(backend, handler, until_due=lambda: 0.0 if len(handler.pages) > 5 else 9.0)
    handler.stopping = one._stopping
    fill(backend, 1)
    one.run()
    assert (handler.idles, len(handler.pages)) == (1, 6)


class Growing(Seen):
    """Whatever it reads, by then there is more; it ends with what is due, or after a while."""

    stopping: threading.Event

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        fill(self.backend, 1)
        if len(self.pages) == 50:
            self.stopping.set()
        return super().handle(claim, page, upto)

    def idle(self, claim: Claim) -> bool:
        self.stopping.set()
        return super().idle(claim)


def test_a_stop_keeps_how_far_it_came_over_pages_of_nothing(backend: Backend) -> None:
    handler = Seen(backend)
    one = follower(backend, handler)
    with running(one):
        eventually(lambda: handler.begun)
        fill(backend, 5, type="other.thing")
        eventually(lambda: one.reached == 5)
    assert position(backend) == 5


# ---- Wake-ups.


def test_with_every_hint_lost_an_event_costs_a_poll(backend: Backend) -> None:
    handler = Seen(backend)
    one = follower(backend, handler, hinted=False)
    with running(one):
        eventually(lambda: handler.begun)
        delays = []
        for number in range(1, 6):
            began = time.monotonic()
            fill(backend, 1)
            eventually(lambda number=number: len(handler.positions) == number)  # type: ignore[misc]
            delays.append(time.monotonic() - began)
    assert handler.positions == [1, 2, 3, 4, 5]
    assert sorted(delays)[2] < LONGEST_POLL + 1.0, delays


def test_a_hint_wakes_at_once(backend: Backend) -> None:
    tail = Tail(backend, shortest=20.0, longest=20.0)
    backend.on_append(tail.hint)
    waiting = threading.Thread(target=tail.wait, args=(0, 20.0))
    waiting.start()
    fill(backend, 1)
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_quiet_log_is_polled_ever_more_seldom(backend: Backend) -> None:
    asked: list[float] = []

    class Counting:
        def head(self) -> Head:
            asked.append(time.monotonic())
            return backend.head()

    assert Tail(Counting(), shortest=0.001, longest=0.2).wait(0, 0.6) == 0  # type: ignore[arg-type]
    assert 8 <= len(asked) <= 14


def test_an_event_of_another_process_is_seen_by_the_poll(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    mine, theirs = open_store(url), open_store(url)
    handler = Seen(mine)
    with running(follower(mine, handler)):
        eventually(lambda: handler.begun)
        fill(theirs, 3)
        eventually(lambda: handler.positions == [1, 2, 3])
    mine.close()
    theirs.close()


# ---- One owner.


def test_one_of_two_followers_does_the_work_and_the_other_takes_over_at_once(backend: Backend) -> None:
    first, second = Seen(backend), Seen(backend)
    one = follower(backend, first, owner="ann")
    two = follower(backend, second, owner="bob", hinted=False)
    with running(two):
        with running(one):
            eventually(lambda: one.owns is not None and two.owns is not None)
            fill(backend, 3)
            eventually(lambda: len(first.positions + second.positions) == 3)
            owner = backend.checkpoints.progress()[0].owner
            stop(one if owner == "ann" else two)
            fill(backend, 2)
            began = time.monotonic()
            eventually(lambda: len(first.positions + second.positions) == 5)
            assert time.monotonic() - began < 5.0  # of a lease of 10
        assert first.positions + second.positions in ([1, 2, 3, 4, 5], [4, 5, 1, 2, 3])


def test_a_lease_is_kept_for_as_long_as_its_owner_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through several leases' time, of which nine tenths pass before each renewal."""
    lease, renewed = SettableLease(), list[int]()
    backend = SqliteStore(SqliteSettings(None), lease_clock=lease)
    renew = backend.checkpoints.renew

    def noting(claim: Claim, seconds: float) -> Claim | None:
        kept = renew(claim, seconds)
        renewed.append(lease.now)
        return kept

    monkeypatch.setattr(backend.checkpoints, "renew", noting)
    handler = Seen(backend)
    with running(follower(backend, handler, lease_seconds=0.6)):
        eventually(lambda: handler.begun)
        for _ in range(4):
            eventually(lambda: renewed and renewed[-1] == lease.now)
            lease.now += 540_000
            assert backend.checkpoints.claim(NAME, "bob", 9.0) is None
    assert len(handler.begun) == 1
    backend.close()


def test_an_owner_that_was_replaced_notices_keeps_nothing_and_queues_again(backend: Backend) -> None:
    handler = Seen(backend)
    one = follower(backend, handler, lease_seconds=0.6)
    with running(one):
        eventually(lambda: handler.begun)
        backend.checkpoints.reset(NAME)
        eventually(lambda: isinstance(one.failure, Fenced) or len(handler.begun) == 2)
        fill(backend, 2)
        eventually(lambda: len(handler.positions) >= 2)
    assert handler.positions == [1, 2]
    assert [claim.anew for claim in handler.begun] == [False, True]


def test_a_page_that_outlasts_the_lease_is_not_lost_again_and_again() -> None:
    """Of two workers each would take it from the other, and throw away what the other had nearly done."""
    lease = SettableLease()
    backend = SqliteStore(SqliteSettings(None), lease_clock=lease)
    fill(backend, 40)

    class Slow(Seen):
        def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
            lease.now += 100_000 * len(page)
            if theirs := backend.checkpoints.claim(NAME, "bob", 1.0):
                backend.checkpoints.leave(theirs)
            return super().handle(claim, page, upto)

    handler = Slow(backend)
    one = follower(backend, handler, page=40, lease_seconds=1.0)
    one._monotonic = lambda: lease.now / 1_000_000
    with running(one):
        eventually(lambda: len(handler.positions) == 40)
    assert handler.positions == list(range(1, 41))
    assert handler.pages == [5] * 8
    backend.close()


def test_a_page_grows_again_once_it_is_quick() -> None:
    handler = Seen(backend := open_store("memory:"))
    fill(backend, 40)
    one = follower(backend, handler, page=16)
    one._size = 2
    with running(one):
        eventually(lambda: len(handler.positions) == 40)
    assert handler.pages[:4] == [2, 4, 8, 16]
    backend.close()


def test_how_far_it_came_counts_no_more_once_it_was_replaced(backend: Backend) -> None:
    fill(backend, 3)
    handler = Seen(backend)
    one = follower(backend, handler, lease_seconds=0.6)
    with running(one):
        eventually(lambda: one.reached == 3)
        backend.checkpoints.set_status(NAME, "paused")
        eventually(lambda: one.owns is False)
        assert one.reached == 0


@pytest.mark.parametrize("status", ["paused", "stopped"])
def test_a_person_stops_it_and_lets_it_go_on(backend: Backend, status: Status) -> None:
    handler = Seen(backend)
    one = follower(backend, handler, lease_seconds=0.6)
    with running(one):
        eventually(lambda: handler.begun)
        backend.checkpoints.set_status(NAME, status)
        eventually(lambda: one.owns is False)
        fill(backend, 2)
    with running(follower(backend, handler)):  # a start is no reason to run what a person stopped
        eventually(lambda: backend.checkpoints.progress()[0].status == status)
        assert handler.positions == []
        backend.checkpoints.set_status(NAME, "running")
        eventually(lambda: handler.positions == [1, 2])


def test_a_start_tries_again_what_failed(backend: Backend) -> None:
    fill(backend, 2)
    handler = Seen(backend)
    handler.raises = [SubscriptionFailed(NAME, 2, "boom")]
    one = follower(backend, handler)
    with running(one):
        eventually(lambda: one.owns is False)
        known = backend.checkpoints.progress()[0]
        assert (known.status, known.error, known.failed_position, known.owner) == ("failed", "boom", 2, "")
        assert isinstance(one.failure, SubscriptionFailed)
    with running(follower(backend, handler)):
        eventually(lambda: handler.positions == [1, 2])


def test_what_no_event_is_to_blame_for_marks_it_as_failed_too(backend: Backend) -> None:
    fill(backend, 1)
    handler = Seen(backend)
    handler.raises = [RuntimeError("a mistake of ours")]
    one = follower(backend, handler)
    with running(one):
        eventually(lambda: backend.checkpoints.progress()[:1] and backend.checkpoints.progress()[0].status == "failed")
        assert backend.checkpoints.progress()[0].error == "RuntimeError: a mistake of ours"
        assert isinstance(one.failure, RuntimeError)
        backend.checkpoints.set_status(NAME, "running")
        eventually(lambda: handler.positions == [1])


def test_one_that_may_not_go_on_is_stopped_with_its_reason(backend: Backend) -> None:
    fill(backend, 1)
    handler = Seen(backend)
    handler.raises = [SubscriptionStopped(NAME, 1, "too many")]
    with running(follower(backend, handler)):
        eventually(lambda: backend.checkpoints.progress()[:1] and backend.checkpoints.progress()[0].error == "too many")
    assert backend.checkpoints.progress()[0].status == "stopped"


@pytest.mark.parametrize("trouble", [StoreUnavailable("full"), OutcomeUnknown("who knows")], ids=["store", "outcome"])
def test_trouble_of_the_store_is_waited_out(backend: Backend, trouble: Exception) -> None:
    fill(backend, 3)
    handler = Seen(backend)
    handler.raises = [trouble, trouble]
    with running(follower(backend, handler, lease_seconds=0.4)):
        eventually(lambda: handler.positions == [1, 2, 3])
        assert backend.checkpoints.progress()[0].status == "running"


# ---- Versions.


def test_of_two_versions_the_one_that_was_started_last_runs_and_begins_anew(backend: Backend) -> None:
    fill(backend, 3)
    old, new = Seen(backend), Seen(backend)
    first = follower(backend, old, owner="old", lease_seconds=0.4)
    second = follower(backend, new, version=2, owner="new", lease_seconds=0.4, hinted=False)
    with running(first):
        eventually(lambda: old.positions == [1, 2, 3])
        with running(second):
            eventually(lambda: new.positions == [1, 2, 3])
            eventually(lambda: first.owns is False)
            fill(backend, 2)
            eventually(lambda: new.positions == [1, 2, 3, 4, 5])
        assert (old.positions, len(new.begun)) == ([1, 2, 3], 1)
        with running(follower(backend, old, owner="old again", lease_seconds=0.4, hinted=False)):
            eventually(lambda: old.positions == [1, 2, 3, 1, 2, 3, 4, 5])
    assert backend.checkpoints.progress()[0].version == 1


def test_a_claim_on_another_version_is_given_back(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and claiming another process may have begun it anew: our code must not fill its model."""
    fill(backend, 1)
    handler = Seen(backend)
    one = follower(backend, handler)
    backend.checkpoints.register(NAME, "projection", 1, 0)
    looked = backend.checkpoints.progress()
    backend.checkpoints.register(NAME, "projection", 2, 0)
    with monkeypatch.context() as at_once:
        at_once.setattr(backend.checkpoints, "progress", lambda: looked)
        with pytest.raises(StoreUnavailable):
            one.run_to(1)
    assert handler.positions == []
    assert backend.checkpoints.progress()[0].owner == ""


# ---- Up to a position.


def test_it_runs_to_a_position_and_no_further(backend: Backend) -> None:
    fill(backend, 10)
    handler = Seen(backend)
    one = follower(backend, handler, page=4)
    one.run_to(6)
    assert handler.positions == [1, 2, 3, 4, 5, 6]
    assert (one.reached, position(backend), backend.checkpoints.progress()[0].owner) == (6, 6, "")
    one.run_to(6)
    assert one.reached == 6


def test_it_does_not_run_beside_another_owner(backend: Backend) -> None:
    backend.checkpoints.register(NAME, "projection", 1, 0)
    assert backend.checkpoints.claim(NAME, "bob", 9.0)
    with pytest.raises(StoreUnavailable, match="owned by a running worker"):
        follower(backend, Seen(backend)).run_to(1)
