"""Processors: order per key, side by side across keys; what is transient waits, other errors are tried, then parked."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from everlog import (
    AfterPosition,
    AsyncLog,
    Backoff,
    FromNow,
    FromTime,
    InvalidInput,
    Log,
    Misconfigured,
    OutcomeUnknown,
    Platform,
    Processor,
    Recorded,
    Retry,
    Session,
    StoreUnavailable,
    Transaction,
    Transient,
    event,
    processor,
    upcast_drop,
    upcast_split,
)
from everlog.processing.contract import Lane, LaneFilter
from everlog.processing.processor import RETRY, TRANSIENT
from everlog.processing.run import ProcessorHandler
from everlog.subscription.start import Start
from tests.following.parts import (
    LEASE,
    Counted,
    Noted,
    append_many,
    eventually,
    on_both,
    progress_of,
    rows,
    settled,
)

MakePlatform = Callable[..., Platform]
AT_ONCE = Backoff(first=0.0, longest=0.0)
QUICK = Retry(attempts=3, backoff=AT_ONCE)


@pytest.fixture
def at(url: str) -> MakePlatform:
    """Platforms on one log."""
    return lambda *parts: Platform(url, Counted, Noted, *parts)


@event("tally.third")
class Third:
    key: str


@event("tally.fourth")
class Fourth:
    key: str


class Spy:
    """Notes what a handler was called with, by key, and raises what it is told to."""

    def __init__(self, *raises: BaseException) -> None:
        self.calls: list[tuple[str, int]] = []
        self.raises = list(raises)
        self._mutex = threading.Lock()

    def __call__(self, e: Recorded[Counted]) -> None:
        with self._mutex:
            self.calls.append((e.data.key, e.position))
            raised = self.raises.pop(0) if self.raises else None
        if raised is not None:
            raise raised

    def positions(self, key: str | None = None) -> list[int]:
        return [position for called, position in self.calls if key in (None, called)]


def spying(spy: Callable[[Recorded[Counted]], None], **options: Any) -> Processor[Counted]:
    return processor("spy", on=Counted, **{"retry": QUICK, **options})(spy)


def run(platform: Platform, *keys: str, times: int = 1) -> Log:
    """Append events of these keys, and let a worker see them; the log is left open for a look."""
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), keys, times)
        settled(log)
    return platform.open()


def lanes(log: Log, name: str = "spy") -> list[Lane]:
    return list(log.store.desk.lanes.find(LaneFilter(name)))


# ---- How handlers are called.


def test_it_sees_every_matching_event_once(at: MakePlatform) -> None:
    spy = Spy()
    with at(spying(spy)).open(worker=True) as log:
        append_many(log.tenant("acme"), ["a", "b"], 30)
        log.tenant("acme").append("s-1", Noted())
        append_many(log.tenant("globex"), ["a"], 5)
        settled(log)
    assert sorted(spy.positions()) == [*range(1, 61), *range(62, 67)]
    run(at(spying(spy)))
    assert len(spy.calls) == 65


def test_the_decorated_function_may_be_called_by_itself() -> None:
    spy = Spy()
    handler = spying(spy)
    handler(_event())
    assert len(spy.calls) == 1


def _event() -> Recorded[Counted]:
    with Platform("memory:", Counted).open() as log:
        append_many(log.tenant(), ["a"])
        return next(log.tenant().events(Counted))


def test_a_handler_may_be_async_and_all_share_one_loop(at: MakePlatform) -> None:
    loops: set[int] = set()
    together: list[int] = []
    inside = 0

    @processor("first", on=Counted)
    async def first(e: Recorded[Counted]) -> None:
        nonlocal inside
        loops.add(id(asyncio.get_running_loop()))
        inside += 1
        together.append(inside)
        await asyncio.sleep(0.02)
        inside -= 1

    @processor("second", on=Counted)
    async def second(e: Recorded[Counted]) -> None:
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)

    with at().open() as log:
        append_many(log.tenant(), [f"k{number}" for number in range(8)], 2)
    run(at(first, second)).close()
    assert len(loops) == 1
    assert (len(together), max(together)) == (16, 8)


def test_what_an_async_handler_raises_counts_as_any_other(at: MakePlatform) -> None:
    calls: list[str] = []

    @processor("spy", on=Counted, retry=QUICK)
    async def handle(e: Recorded[Counted]) -> None:
        calls.append(e.data.key)
        await asyncio.sleep(0)
        if e.data.key == "cancelled":
            raise asyncio.CancelledError
        if e.data.key == "bad":
            raise ValueError("boom")

    with run(at(handle), "good", "bad", "cancelled") as log:
        assert Counter(calls) == {"good": 1, "bad": 3, "cancelled": 3}
        assert sorted((lane.key, lane.status, lane.error.partition(":")[0]) for lane in lanes(log)) == [
            ("default/tally-bad", "parked", "ValueError"),
            ("default/tally-cancelled", "parked", "CancelledError"),
        ]


def test_a_second_argument_is_a_session_of_the_events_tenant_caused_by_it(at: MakePlatform) -> None:
    @processor("note", on=Counted)
    def note(e: Recorded[Counted], session: Session) -> None:
        session.append(f"note-{e.data.key}", Noted(e.data.key), request_id=f"note {e.key}")

    with at(note).open(worker=True) as log:
        acme = log.tenant("acme", actor="ann")
        append_many(acme, ["a"])
        append_many(log.tenant("globex"), ["a"])
        settled(log)
        [noted] = acme.events(Noted)
        cause = next(acme.events(Counted))
        assert (noted.tenant, noted.actor) == ("acme", "ann")
        assert noted.causation_id == noted.correlation_id == cause.id
        assert len(list(log.tenant("globex").events(Noted))) == 1


def test_what_it_causes_keeps_the_correlation_of_its_cause(at: MakePlatform) -> None:
    @processor("chain", on=Counted)
    def chain(e: Recorded[Counted], session: Session) -> None:
        if e.data.n < 4:  # its own events, in its own stream
            session.append(e.stream, Counted(e.data.key, e.data.n + 1), request_id=f"next {e.key}")

    with at(chain).open(worker=True) as log:
        append_many(log.tenant(), ["a"])
        eventually(lambda: log.head().position == 4)
        settled(log)
        events = list(log.tenant().events(Counted))
        assert [e.data.n for e in events] == [1, 2, 3, 4]
        assert [e.correlation_id for e in events] == [None, *[events[0].id] * 3]
        assert [e.causation_id for e in events] == [None, *(e.id for e in events[:-1])]


# ---- Order and concurrency.


def test_events_of_a_key_are_handled_in_order_one_at_a_time(at: MakePlatform) -> None:
    seen: dict[str, list[int]] = {}
    inside: Counter[str] = Counter()
    mutex = threading.Lock()

    def handle(e: Recorded[Counted]) -> None:
        with mutex:
            inside[e.stream] += 1
            assert inside[e.stream] == 1
            seen.setdefault(e.stream, []).append(e.version)
        threading.Event().wait(0.0005)
        with mutex:
            inside[e.stream] -= 1

    with at().open() as log:
        append_many(log.tenant(), [f"k{number}" for number in range(10)], 30)
    run(at(spying(handle))).close()
    assert seen == {f"tally-k{number}": list(range(1, 31)) for number in range(10)}


@pytest.mark.parametrize("concurrency", [1, 3, None])
def test_so_many_keys_are_handled_at_a_time(at: MakePlatform, concurrency: int | None) -> None:
    inside, most, mutex = 0, 0, threading.Lock()
    all_there = threading.Event()
    expected = concurrency or 8

    def handle(e: Recorded[Counted]) -> None:
        nonlocal inside, most
        with mutex:
            inside += 1
            most = max(most, inside)
            if inside == expected:
                all_there.set()
        assert all_there.wait(20)  # whoever comes waits for the others: fewer at a time would never end
        with mutex:
            inside -= 1

    with at().open() as log:
        append_many(log.tenant(), [f"k{number}" for number in range(24)])
    options = {} if concurrency is None else {"concurrency": concurrency}
    run(at(spying(handle, **options))).close()
    assert most == expected


def test_a_key_may_be_anything_of_the_event(at: MakePlatform) -> None:
    """Every event in one lane, so one that fails holds up all of its tenant, and of no other."""
    spy = Spy()

    def handle(e: Recorded[Counted]) -> None:
        spy(e)
        if e.data.key == "bad":
            raise ValueError("boom")

    with at(spying(handle, key=lambda e: "all")).open(worker=True, lease_seconds=LEASE) as log:
        for tenant in ("acme", "globex"):
            append_many(log.tenant(tenant), ["a", "bad", "b"] if tenant == "acme" else ["a", "c", "b"])
        settled(log)
        assert [(lane.key, lane.first, lane.depth) for lane in lanes(log)] == [("acme/all", 2, 2)]
        assert spy.positions() == [1, 2, 4, 5, 6, 2, 2] or sorted(spy.positions()) == [1, 2, 2, 2, 4, 5, 6]


def test_a_key_that_cannot_be_told_is_a_failure_of_its_event(at: MakePlatform) -> None:
    """The handler is not called while nobody knows what must come before it."""
    spy, world = Spy(), {"mended": False}

    def key(e: Recorded[Counted]) -> str:
        if e.data.key == "bad" and not world["mended"]:
            raise KeyError(e.data.key)
        return e.data.key

    platform = at(spying(spy, key=key))
    with run(platform, "a", "bad", "b") as log:
        assert sorted(spy.positions()) == [1, 3]
        [lane] = lanes(log)
        assert (lane.key, lane.status, lane.first) == ("default/tally-bad", "parked", 2)
        assert "its key raised KeyError: 'bad'" in lane.error
        world["mended"] = True
        log.store.desk.lanes.retry(LaneFilter("spy"), canary=False)
    run(platform).close()
    assert sorted(spy.positions()) == [1, 2, 3]


@on_both
def test_one_failing_key_among_a_thousand_holds_up_nobody(at: MakePlatform) -> None:
    """T17: the others are through while it is still being tried, and nothing of it is dropped."""
    spy, world = Spy(), {"mended": False}
    keys = [f"k{number:03}" for number in range(1000)]

    def handle(e: Recorded[Counted]) -> None:
        if e.data.key == "k500" and not world["mended"]:
            raise ValueError("boom")
        spy(e)

    slow = Retry(attempts=5, backoff=Backoff(first=5.0, longest=60.0))
    with at(spying(handle, retry=slow)).open(worker=True) as log:
        for start in range(0, 2000, 250):
            log.tenant().append_batch(*_writes(keys, start, 250))
        others = 1998
        eventually(lambda: len(spy.calls) == others)
        assert [(lane.status, lane.depth) for lane in lanes(log)] == [("retrying", 2)]
        world["mended"] = True
        log.store.desk.lanes.retry(LaneFilter("spy"), canary=False)
        settled(log)
    assert spy.positions("k500") == sorted(spy.positions("k500"))
    assert Counter(key for key, _ in spy.calls) == dict.fromkeys(keys, 2)
    assert all(spy.positions(key) == sorted(spy.positions(key)) for key in keys[490:510])


def _writes(keys: list[str], start: int, count: int) -> list[Any]:
    from everlog import Write

    return [Write(f"tally-{key}", Counted(key)) for key in (keys * 2)[start : start + count]]


# ---- What goes wrong.


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("boom"),
        SystemExit(3),
        RecursionError("deep"),
        MemoryError(),
        GeneratorExit("odd"),
        type("Odd", (BaseException,), {})("odd"),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_any_other_error_is_tried_so_often_and_then_parked(at: MakePlatform, raised: BaseException) -> None:
    spy = Spy(*[raised] * 99)
    with run(at(spying(spy)), "a") as log:
        found = lanes(log)
    assert [(lane.key, lane.status, lane.attempts, lane.first, lane.depth) for lane in found] == [
        ("default/tally-a", "parked", 3, 1, 1)
    ]
    assert found[0].error.startswith(f"{type(raised).__name__}: ")
    assert len(spy.calls) == 3


@pytest.mark.parametrize("attempts", [1, 2, None])
def test_it_has_so_many_attempts(at: MakePlatform, attempts: int | None) -> None:
    retry = Retry(backoff=AT_ONCE) if attempts is None else Retry(attempts=attempts, backoff=AT_ONCE)
    spy = Spy(*[ValueError("boom")] * 99)
    with run(at(spying(spy, retry=retry)), "a") as log:
        assert [lane.attempts for lane in lanes(log)] == [attempts or 5]
    assert len(spy.calls) == (attempts or 5)


def test_an_event_that_fails_a_few_times_is_handled_and_those_behind_it_after_it(at: MakePlatform) -> None:
    spy = Spy(ValueError("one"), ValueError("two"))
    with run(at(spying(spy)), "a", times=4) as log:
        assert lanes(log) == []
    assert spy.positions() == [1, 1, 1, 2, 3, 4]


@on_both
def test_the_later_events_of_a_parked_key_are_parked_in_order(at: MakePlatform) -> None:
    spy = Spy()

    def handle(e: Recorded[Counted]) -> None:
        spy(e)
        if e.position == 3:
            raise ValueError("boom")

    platform = at(spying(handle))
    with run(platform, "a", "b", times=3) as log:
        assert [(lane.first, lane.depth) for lane in lanes(log)] == [(3, 2)]
        append_many(log.tenant(), ["a", "b"], 2)
    with run(platform) as log:
        assert log.store.desk.lanes.positions("spy", "default/tally-a", 99) == [3, 5, 7, 9]
    assert spy.positions("a") == [1, 3, 3, 3]
    assert spy.positions("b") == [2, 4, 6, 8, 10]


class OwnTrouble(Exception):
    pass


@pytest.mark.parametrize(
    "trouble",
    [
        Transient("down"),
        ConnectionResetError("down"),
        TimeoutError("slow"),
        StoreUnavailable("full"),
        OutcomeUnknown("who knows"),
        OwnTrouble("ours"),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
def test_what_is_transient_waits_and_uses_no_attempt(at: MakePlatform, trouble: Exception) -> None:
    spy = Spy(*[trouble] * 20)
    retry = Retry(attempts=1, backoff=AT_ONCE, transient=(*TRANSIENT, OwnTrouble))
    with run(at(spying(spy, retry=retry)), "a", times=2) as log:
        assert lanes(log) == []
    assert spy.positions() == [1] * 21 + [2]


def test_what_is_transient_is_told_by_the_processor(at: MakePlatform) -> None:
    spy = Spy(*[ConnectionError("down")] * 20)
    retry = Retry(attempts=2, backoff=AT_ONCE, transient=(OwnTrouble,))
    with run(at(spying(spy, retry=retry)), "a") as log:
        assert [lane.error.partition(" (")[0] for lane in lanes(log)] == ["ConnectionError: down"]


def test_what_is_transient_in_a_lane_uses_no_attempt_either(at: MakePlatform) -> None:
    spy = Spy(ValueError("boom"), *[Transient("down")] * 5, ValueError("boom"), ValueError("boom"))
    with run(at(spying(spy)), "a") as log:
        assert [(lane.status, lane.attempts) for lane in lanes(log)] == [("parked", 3)]
    assert len(spy.calls) == 8


def test_in_a_lane_too_the_pause_grows_while_the_world_is_down(
    at: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []

    def noting(self: ProcessorHandler, before: int) -> int:
        failures.append(before)
        return 0

    monkeypatch.setattr(ProcessorHandler, "_next", noting)
    down, boom = Transient("down"), ValueError("boom")
    spy = Spy(boom, down, down, down, boom, down, down)
    with run(at(spying(spy)), "a") as log:
        assert lanes(log) == []
    assert failures == [0, 0, 1, 2, 1, 0, 1]


def test_the_pause_is_fully_jittered_and_doubles(at: MakePlatform) -> None:
    backoff = Backoff(first=0.2, longest=60.0)
    for failures, longest in ((0, 0.2), (1, 0.4), (5, 6.4), (9, 60.0), (10_000, 60.0)):
        pauses = [backoff.pause(failures, Random(seed)) for seed in range(400)]
        assert min(pauses) < longest * 0.05
        assert longest * 0.95 < max(pauses) <= longest
        assert longest * 0.4 < sum(pauses) / len(pauses) < longest * 0.6
    assert (RETRY.backoff, RETRY.attempts, RETRY.transient) == (backoff, 5, TRANSIENT)


def test_its_backoff_says_when_a_lane_is_tried_again(at: MakePlatform) -> None:
    spy = Spy(*[ValueError("boom")] * 99)
    retry = Retry(attempts=5, backoff=Backoff(first=1000.0, longest=1000.0))
    with at(spying(spy, retry=retry)).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), [f"k{number}" for number in range(20)])
        eventually(lambda: len(lanes(log)) == 20)
        first = log.head().recorded_at
        waits = sorted((lane.next_at - first) / 1_000_000 for lane in lanes(log))
        assert waits[0] < 400 < waits[-1] < 1010
        assert {lane.status for lane in lanes(log)} == {"retrying"}
        assert len(spy.calls) <= 22


# ---- Stopped and paused.


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_while_the_world_is_down_it_still_obeys(at: MakePlatform, how: str) -> None:
    """A handler that meets a dead service for ever is stopped, or paused, between two tries."""
    spy = Spy(*[Transient("down")] * 100_000)
    retry = Retry(backoff=Backoff(first=0.005, longest=0.005))
    with at(spying(spy, retry=retry)).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a", "b"])
        eventually(lambda: len(spy.calls) > 5)
        assert log.worker is not None
        if how == "stop":
            assert log.worker.stop(5.0)
        else:
            log.store.checkpoints.set_status("spy", "paused")
            eventually(lambda: log.worker is not None and log.worker.followers["spy"].owns is False)
        assert progress_of(log, "spy").position == 0
        assert lanes(log) == []


def test_a_stop_lets_what_is_in_hand_finish_and_begins_nothing(at: MakePlatform) -> None:
    began, go_on = threading.Event(), threading.Event()
    spy = Spy()

    def handle(e: Recorded[Counted]) -> None:
        began.set()
        assert go_on.wait(30)
        spy(e)

    with at().open() as log:
        append_many(log.tenant(), ["a", "b"], 20)
    platform = at(spying(handle, concurrency=1))
    log = platform.open(worker=True, lease_seconds=LEASE)
    assert began.wait(30)
    assert log.worker is not None
    assert not log.worker.stop(0.05)
    go_on.set()
    eventually(log.worker.stop)
    assert spy.positions() == [1]
    known = progress_of(log, "spy")
    assert (known.position, known.owner, known.status) == (1, "", "running")
    log.store.close()
    run(platform).close()
    assert sorted(spy.positions()) == list(range(1, 41))


@on_both
def test_a_restart_goes_on_where_it_stopped(at: MakePlatform) -> None:
    spy = Spy()
    platform = at(spying(spy))
    for _ in range(5):
        run(platform, "a", "b", times=3).close()
    assert sorted(spy.positions()) == list(range(1, 31))


@pytest.mark.parametrize(
    ("start", "seen"),
    [(AfterPosition(2), [3, 4]), (FromNow(), [4]), (FromTime(datetime(2001, 1, 1, tzinfo=UTC)), [1, 2, 3, 4])],
    ids=["position", "now", "time"],
)
def test_it_begins_at_its_start(at: MakePlatform, start: Start, seen: list[int]) -> None:
    spy = Spy()
    with at().open() as log:
        append_many(log.tenant(), ["a"], 3)
    with at(spying(spy, start=start)).open(worker=True) as log:
        eventually(log.lags)
        append_many(log.tenant(), ["a"])
        settled(log)
    assert spy.positions() == seen


# ---- Effects.


def keeping(**options: Any) -> Processor[Counted]:
    """Counts in a table by an update that would count twice what it is given twice."""

    @processor("keep", on=Counted, inbox=True, retry=QUICK, **options)
    def keep(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, n INTEGER)")
        tx.execute("INSERT INTO kept VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET n = kept.n + 1", (e.data.key,))
        if e.data.n < 0:
            raise ValueError("boom")

    return keep


def kept(log: Log) -> dict[str, int]:
    return dict(rows(log, "SELECT key, n FROM kept"))


class Died(BaseException):
    """Stands for the end of the process: nobody catches it."""


@on_both
def test_with_the_inbox_an_effect_happens_once_though_it_is_delivered_twice(at: MakePlatform) -> None:
    left = 3

    def die(point: str) -> None:
        nonlocal left
        if point == "processor.effects" and left:
            left -= 1
            raise OutcomeUnknown("died between effect and checkpoint")

    platform = at(keeping())
    with platform.open() as log:
        append_many(log.tenant(), ["a", "b"], 10)
    with platform.open(worker=True, lease_seconds=LEASE, crash=die) as log:
        settled(log)
        assert left < 3
        assert kept(log) == {"a": 10, "b": 10}
        append_many(log.tenant(), ["a"], 10)
        settled(log)
        assert kept(log) == {"a": 20, "b": 10}


@on_both
def test_an_effect_whose_handler_raises_is_taken_back_whole(at: MakePlatform) -> None:
    platform = at(keeping())
    with platform.open() as log:
        log.tenant().append("tally-a", Counted("a"), Counted("a", -1), Counted("a"))
    with run(platform) as log:
        assert kept(log) == {"a": 1}
        assert [(lane.first, lane.depth, lane.status) for lane in lanes(log, "keep")] == [(2, 2, "parked")]
        assert rows(log, "SELECT position FROM everlog_inbox") == [(1,)]


@on_both
def test_each_part_of_a_split_event_has_its_own_place_in_the_inbox(at: MakePlatform) -> None:
    @event("tally.pair")
    class Pair:
        left: int
        right: int

    @event("tally.noise")
    class Noise:
        pass

    @upcast_split("tally.pair", 1, into=[("tally.counted", 1)])
    def split(old: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("tally.counted", {"key": side, "n": old[side]}) for side in ("left", "right")]

    with Platform(at().url, Pair, Noise).open() as log:
        log.tenant().append("s-1", Pair(1, 1), Noise(), Pair(1, -1))
    with run(at(keeping(), split, upcast_drop("tally.noise", 1))) as log:
        assert kept(log) == {"left": 2, "right": 1}
        assert rows(log, "SELECT position, part FROM everlog_inbox ORDER BY 1, 2") == [(1, 0), (1, 1), (3, 0)]
        assert [(lane.first, lane.depth) for lane in lanes(log, "keep")] == [(3, 1)]


def test_without_an_inbox_a_stable_key_tells_a_repeat(at: MakePlatform) -> None:
    keys: list[str] = []

    def die(point: str) -> None:
        if point == "processor.effects" and len(keys) == 2:
            raise OutcomeUnknown("died between effect and checkpoint")

    platform = at(spying(lambda e: keys.append(e.key)))
    with platform.open() as log:
        append_many(log.tenant(), ["a", "b"])
        ids = [str(e.id) for e in log.tenant().events(Counted)]
    with platform.open(worker=True, lease_seconds=LEASE, crash=die) as log:
        settled(log)
    assert sorted(keys) == sorted(ids * 2)


@on_both
def test_a_repeat_of_a_command_changes_nothing(at: MakePlatform) -> None:
    @processor("note", on=Counted)
    def note(e: Recorded[Counted], session: Session) -> None:
        session.append("note-1", Noted(e.data.key), request_id=f"note {e.key}")

    died: list[str] = []

    def die(point: str) -> None:
        if point == "processor.effects" and not died:
            died.append(point)
            raise OutcomeUnknown("died between effect and checkpoint")

    with at(note).open(worker=True, lease_seconds=LEASE, crash=die) as log:
        append_many(log.tenant(), ["a", "b", "c"])
        eventually(lambda: died)
        settled(log)
        assert sorted(e.data.text for e in log.tenant().events(Noted)) == ["a", "b", "c"]


# ---- A process that ends.


@on_both
def test_what_ends_the_process_again_and_again_is_parked_in_the_end(at: MakePlatform) -> None:
    """T19: attempts are counted before the handler runs. Its page costs one more, because nobody knew the culprit."""
    spy, deaths = Spy(), 0

    def handle(e: Recorded[Counted]) -> None:
        spy(e)
        if e.data.key == "killer":
            raise Died

    platform = at(spying(handle, concurrency=1))
    with platform.open() as log:
        append_many(log.tenant(), ["a", "killer", "b", "killer"])
    while _ends_the_process(platform):
        deaths += 1
    with run(platform, "killer") as log:
        [lane] = lanes(log)
        assert (lane.key, lane.status, lane.depth) == ("default/tally-killer", "parked", 3)
        assert "the process ended while handling it, 3 times" in lane.error
        assert deaths == 1 + QUICK.attempts
        assert spy.positions("b")[-1:] == [3]
        assert Counter(spy.positions("killer")) == {2: deaths}
        log.store.desk.lanes.retry(LaneFilter("spy"), canary=False)
    deaths = 0
    while _ends_the_process(platform):
        deaths += 1
        assert deaths < 10
    with platform.open() as log:
        [lane] = lanes(log)
        assert (lane.status, lane.depth) == ("parked", 3)
        assert "its 3 attempts are used up, and the last one ended the process" in lane.error
        assert deaths == QUICK.attempts


def _ends_the_process(platform: Platform) -> bool:
    """Follow once to the head, in this thread; whether the handler ended the process, as `Died` does here."""
    with platform.open() as log:
        handler, follower = _by_hand(platform, log)
        try:
            follower.run_to(log.head().position)
            claim = log.store.checkpoints.claim("spy", follower.owner, LEASE)
            assert claim is not None
            while handler.idle(claim):
                pass
        except Died:
            return True
        finally:
            handler.close()
    return False


def _by_hand(platform: Platform, log: Log) -> tuple[ProcessorHandler, Any]:
    from everlog.app.following import ProcessorCalls, processor_handler, subscription_of
    from everlog.core.clock import system_clock
    from everlog.core.crash import nothing
    from everlog.subscription.follower import Follower
    from everlog.subscription.tail import Tail

    [part] = platform.processors
    stopping = threading.Event()
    calls = ProcessorCalls(log.store, log.caused_by)
    handler = processor_handler(part, platform.types, log.store, calls.of(part), system_clock, nothing, stopping)
    passing = handler._try

    def let_it_through(claim: Any, stored: Any) -> Any:
        outcome = passing(claim, stored)
        if isinstance(outcome, str) and outcome.startswith("Died"):
            raise Died
        return outcome

    handler._try = let_it_through  # type: ignore[method-assign]
    follower = Follower(
        subscription_of(part, platform.types), handler, log.store, log.store.checkpoints, Tail(log.store),
        owner="by hand", stopping=stopping, lease_seconds=LEASE,
    )  # fmt: skip
    return handler, follower


def test_restarts_while_the_world_is_down_use_no_attempt(at: MakePlatform) -> None:
    """Each of these restarts finds the event begun and not settled, and none of them was its fault."""
    spy = Spy(*[Transient("down")] * 1_000)
    retry = Retry(attempts=2, backoff=Backoff(first=0.001, longest=0.001))
    platform = at(spying(spy, retry=retry))
    with platform.open() as log:
        append_many(log.tenant(), ["a"])
        with log.store.checkpoints.transaction(_claimed(log), 0) as effects:
            log.store.desk.marks.mark(effects, "spy", 1)
    for _ in range(4):
        with platform.open(worker=True, lease_seconds=LEASE) as log:
            calls = len(spy.calls)
            eventually(lambda calls=calls: len(spy.calls) > calls + 1)  # type: ignore[misc]
            assert log.worker is not None
            assert log.worker.stop(10)
    spy.raises = []
    with run(platform) as log:
        assert lanes(log) == []


def test_a_stop_takes_back_its_own_attempt_and_no_crash_before_it(at: MakePlatform) -> None:
    spy = Spy(*[Transient("down")] * 100_000)
    platform = at(spying(spy, retry=Retry(attempts=3, backoff=Backoff(first=0.001, longest=0.001))))
    with platform.open() as log:
        append_many(log.tenant(), ["a"])
        with log.store.checkpoints.transaction(_claimed(log), 0) as effects:
            log.store.desk.marks.mark(effects, "spy", 1)
            for _ in range(2):  # processes that died with it
                log.store.desk.marks.attempt(effects, "spy", 1)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        eventually(lambda: spy.calls)
        assert log.worker is not None
        assert log.worker.stop(10)
        assert rows(log, "SELECT number FROM everlog_mark WHERE position = 1") == [(2,)]


def _claimed(log: Log) -> Any:
    log.store.checkpoints.register("spy", "processor", 1, 0)
    return log.store.checkpoints.claim("spy", "a test", 0.0)


# ---- Mistakes found before any I/O.


def _plain(e: Recorded[Counted]) -> None: ...


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "no name"}, "cannot name"),
        ({"on": []}, "needs an event class"),
        ({"on": [str]}, "str"),
        ({"concurrency": 0}, "are 1 or more"),
        ({"max_lanes": 0}, "are 1 or more"),
        ({"max_parked": 0}, "are 1 or more"),
        ({"retry": Retry(attempts=0)}, "are 1 or more"),
        ({"inbox": True, "isolate": True}, "choose one"),
    ],
    ids=str,
)
def test_a_processor_that_cannot_work_is_refused(options: dict[str, Any], told: str) -> None:
    given = {"name": "spy", "on": Counted, **options}
    with pytest.raises((Misconfigured, InvalidInput), match=told):
        Platform("memory:", processor(given.pop("name"), **given)(_plain))


def test_many_classes_keep_their_types() -> None:
    """A tuple of up to four is checked; of more, and of a list, the handler says what it takes."""

    @processor("four", on=(Counted, Noted, Third, Fourth))
    def four(e: Recorded[Counted | Noted | Third | Fourth]) -> None: ...

    @processor("list", on=[Counted, Noted, Third])
    def several(e: Recorded[Counted | Noted | Third]) -> None: ...

    @processor("wrong", on=(Counted, Noted, Third, Fourth))  # type: ignore[arg-type]
    def wrong(e: Recorded[Counted]) -> None: ...

    assert four.events == wrong.events == (Counted, Noted, Third, Fourth)
    assert several.events == (Counted, Noted, Third)


@pytest.mark.parametrize("options", [{"inbox": True}, {"isolate": True}], ids=str)
def test_an_async_handler_has_neither_inbox_nor_isolation(at: MakePlatform, options: dict[str, Any]) -> None:
    async def handle(e: Recorded[Counted]) -> None: ...

    with pytest.raises(InvalidInput, match="neither inbox nor isolation"):
        at(processor("spy", on=Counted, **options)(handle)).open(worker=True)


def test_it_reacts_to_several_classes(at: MakePlatform) -> None:
    seen: list[str] = []

    @processor("both", on=[Counted, Noted])
    def both(e: Recorded[Counted | Noted]) -> None:
        seen.append(e.type)

    with at(both).open(worker=True) as log:
        log.tenant().append("s-1", Counted("a"), Noted(), Counted("a"))
        settled(log)
    assert seen == ["tally.counted", "tally.noted", "tally.counted"]


def test_an_async_log_runs_it_as_well(at: MakePlatform) -> None:
    spy = Spy()

    async def use() -> None:
        log: AsyncLog
        async with at(spying(spy)).open_async(worker=True) as log:
            for _ in range(3):
                await log.tenant().append("tally-a", Counted("a"))

    asyncio.run(use())
    assert spy.positions() == [1, 2, 3]  # closing the log let them be handled
