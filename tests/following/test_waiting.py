"""Reading your own write: waiting for a projection by position, blocking and async, here or in another process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from everlog import (
    Decider,
    Fold,
    Misconfigured,
    Platform,
    Recorded,
    Retry,
    SubscriptionFailed,
    WaitTimeout,
    processor,
)
from everlog.app.waiting import WAIT_SECONDS
from tests.following.parts import LEASE, Counted, Noted, append_many, counter, eventually, failed, tally

MakePlatform = Callable[..., Platform]


@pytest.fixture
def at(tmp_path: Path) -> MakePlatform:
    """Platforms on one file."""
    return lambda *parts: Platform(f"sqlite:///{tmp_path}/log.db", Counted, Noted, *parts)


def adder() -> Decider[int, int, Counted]:
    def decide(command: int, total: int) -> list[Counted]:
        return [Counted("a", command)] if command else []

    def evolve(total: int, event: Counted) -> int:
        return total + event.n

    return Decider("tally", initial=0, decide=decide, evolve=evolve)


class Gate:
    """A fold that stands still until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.fold: Fold[int] = Fold("gated", initial=0)

        @self.fold.on(Counted, key=lambda e: e.data.key)
        def add(total: int, e: Recorded[Counted]) -> int:
            assert self.open.wait(30)
            return total + e.data.n


def test_a_command_returns_once_its_projections_have_seen_it(at: MakePlatform) -> None:
    decider, fold, table = adder(), tally(), counter()
    with at(decider, fold, table).open(worker=True) as log:
        for number in range(1, 30):
            log.tenant().execute(decider, "a", 1, wait_for=[fold, table])
            assert log.tenant().get(fold, "a") == number


def test_a_command_that_stored_nothing_waits_for_what_it_knew(at: MakePlatform) -> None:
    decider, fold = adder(), tally()
    with at(decider, fold).open(worker=True) as log:
        assert log.tenant().execute(decider, "a", 0, wait_for=[fold], timeout=5.0).events == ()


def test_it_waits_for_the_head_unless_told_a_position(at: MakePlatform) -> None:
    gate = Gate()
    with at(gate.fold).open(worker=True) as log:
        gate.open.set()
        append_many(log.tenant(), ["a", "b"])
        log.tenant().wait_for(gate.fold)
        gate.open.clear()
        append_many(log.tenant(), ["a"])
        log.tenant().wait_for(gate.fold, position=2)
        with pytest.raises(WaitTimeout, match=r"gated did not reach position 3 within 0\.05 s"):
            log.tenant().wait_for(gate.fold, timeout=0.05)
        gate.open.set()
        log.tenant().wait_for(gate.fold)
        assert log.tenant().get(gate.fold, "a") == 2


def test_time_that_runs_out_says_that_the_event_is_stored(at: MakePlatform) -> None:
    decider, fold = adder(), tally()
    with at(decider, fold).open() as log:  # and nobody runs a worker
        began = time.monotonic()
        with pytest.raises(WaitTimeout, match=r"the event is stored.*that a worker runs") as late:
            log.tenant().execute(decider, "a", 1, wait_for=[fold], timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 2.0
        assert late.value.retryable
        assert log.head().position == 1
    assert WAIT_SECONDS == 10.0


def test_it_waits_for_a_worker_elsewhere(at: MakePlatform) -> None:
    fold, table = tally(), counter()
    with at(fold, table).open() as here, at(tally(), counter()).open(worker=True):
        append_many(here.tenant(), ["a"], 4)
        here.tenant().wait_for(fold, table)
        assert here.tenant().get(fold, "a") == 10


def test_what_means_nothing_to_it_is_not_waited_for(at: MakePlatform) -> None:
    """Its checkpoint over events of others is a second late, and a wait is not."""
    fold, the_same = tally(), tally()
    with at(fold).open() as here, at(the_same).open(worker=True) as there:
        append_many(here.tenant(), ["a"])
        here.tenant().wait_for(fold)
        began = time.monotonic()
        for _ in range(10):
            here.tenant().append("s-1", Noted())
            here.tenant().wait_for(fold)
            there.tenant().wait_for(the_same)
        assert time.monotonic() - began < 9.0  # ten times a second, if it were waited for


def test_one_that_fails_ends_the_wait_at_once_and_says_why(at: MakePlatform) -> None:
    fold = Fold("tally", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def refuse(total: int, e: Recorded[Counted]) -> int:
        raise ValueError("boom")

    with at(fold).open(worker=True, lease_seconds=LEASE) as log, at(fold).open() as elsewhere:
        append_many(log.tenant(), ["a"])
        for session in (log.tenant(), elsewhere.tenant()):
            began = time.monotonic()
            with pytest.raises(SubscriptionFailed, match=r"'tally' stopped at position 1: .*ValueError: boom"):
                session.wait_for(fold)
            assert time.monotonic() - began < 5.0


def test_a_failure_from_before_the_fix_is_no_news_to_the_mended_worker(at: MakePlatform) -> None:
    fold = Fold("tally", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def refuse(total: int, e: Recorded[Counted]) -> int:
        raise ValueError("boom")

    with at(fold).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a"])
        failed(log, "tally")
    for _ in range(5):
        mended = tally()
        with at(mended).open(worker=True) as log:
            log.tenant().wait_for(mended)
            log.store.checkpoints.set_status("tally", "failed", error="as before", position=1)


def test_a_projection_of_no_platform_is_not_waited_for(at: MakePlatform) -> None:
    decider, stranger = adder(), tally()
    with at(decider).open() as log, pytest.raises(Misconfigured, match="not part of this platform"):
        log.tenant().execute(decider, "a", 1, wait_for=[stranger])


# ---- Processors.


def test_a_processor_is_waited_for_too_and_what_it_parked_counts(at: MakePlatform) -> None:
    handled: list[int] = []

    @processor("note", on=Counted, retry=Retry(attempts=1))
    def note(e: Recorded[Counted]) -> None:
        if e.data.key == "bad":
            raise ValueError("boom")
        handled.append(e.position)

    with at(note).open(worker=True) as log, at(note).open() as elsewhere:
        append_many(log.tenant(), ["a", "bad", "b"])
        for session in (log.tenant(), elsewhere.tenant()):
            session.wait_for(note)
            assert sorted(handled) == [1, 3]
        with pytest.raises(Misconfigured, match="'note' is a Processor and keeps no states"):
            log.tenant().get(note, "a")  # type: ignore[arg-type]


def test_a_processor_that_has_stopped_ends_the_wait_for_what_lies_behind(at: MakePlatform) -> None:
    @processor("note", on=Counted, retry=Retry(attempts=1), max_lanes=1)
    def note(e: Recorded[Counted]) -> None:
        raise ValueError("boom")

    with at(note).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a", "b"])
        eventually(lambda: log.lags() and log.lags()[0].progress.status == "stopped")
        log.tenant().wait_for(note, position=1)
        append_many(log.tenant(), ["c"])
        with pytest.raises(SubscriptionFailed, match="more than it may park"):
            log.tenant().wait_for(note)


# ---- Async.


def test_async_callers_wait_the_same_way(at: MakePlatform) -> None:
    decider, fold, table = adder(), tally(), counter()

    async def use() -> None:
        async with at(decider, fold, table).open_async(worker=True) as log:
            acme = log.tenant("acme")
            for number in range(1, 10):
                await acme.execute(decider, "a", 1, wait_for=[fold, table])
                assert await acme.get(fold, "a") == number
            await acme.append("tally-b", Counted("b"))
            await acme.wait_for(fold)
            assert [(key, total) async for key, total in acme.all(fold)] == [("a", 9), ("b", 1)]
            assert await acme.get(fold, "a", at=4) == 4
            assert {lag.progress.name for lag in await log.lags()} == {"tally", "counter"}

    asyncio.run(use())


def test_async_waits_time_out_fail_and_refuse_the_same_way(at: MakePlatform) -> None:
    gate, stranger = Gate(), tally()

    async def use() -> None:
        async with at(gate.fold).open_async(worker=True) as log:
            await log.tenant().append("tally-a", Counted("a"))
            with pytest.raises(WaitTimeout, match="gated did not reach position 1"):
                await log.tenant().wait_for(gate.fold, timeout=0.05)
            with pytest.raises(Misconfigured):
                await log.tenant().wait_for(stranger)
            log._blocking.store.checkpoints.set_status("gated", "failed", error="boom", position=1)
            with pytest.raises(SubscriptionFailed, match="boom"):
                await log.tenant().wait_for(gate.fold)
            gate.open.set()

    asyncio.run(use())


def test_a_hundred_async_waits_hold_no_thread(at: MakePlatform) -> None:
    """There are four threads for reads: while all wait, reads and appends go on."""
    gate = Gate()

    async def use() -> None:
        async with at(gate.fold).open_async(worker=True) as log:
            await log.tenant().append("tally-a", Counted("a"))
            threads = threading.active_count()
            waits = [asyncio.create_task(log.tenant().wait_for(gate.fold, position=1)) for _ in range(100)]
            for number in range(2, 12):
                placed = await log.tenant().append("tally-a", Counted("a"))
                assert placed.position == number == (await log.head()).position
            assert threading.active_count() <= threads + 4
            assert not any(wait.done() for wait in waits)
            gate.open.set()
            await asyncio.gather(*waits)

    asyncio.run(use())


def test_waits_of_many_threads_all_end(at: MakePlatform) -> None:
    fold = tally()
    with at(fold).open(worker=True) as log:
        ended: list[int] = []

        def write_and_wait(number: int) -> None:
            placed = log.tenant().append(f"tally-{number}", Counted(str(number)))
            log.tenant().wait_for(fold, position=placed.position)
            ended.append(log.tenant().get(fold, str(number)))

        threads = [threading.Thread(target=write_and_wait, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [1] * 20
        eventually(lambda: log.lags()[0].events == 0)
