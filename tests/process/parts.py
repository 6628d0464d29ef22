"""A process that does a little of everything: a parcel that is packed, sent, and taken back when nobody takes it in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from everlog import (
    Action,
    Backoff,
    Cancel,
    CommandRejected,
    Compensate,
    Decider,
    Do,
    Expect,
    ExpectationMissed,
    Finish,
    LaneFilter,
    LaneOperator,
    Log,
    Met,
    Platform,
    ProcessManager,
    Recorded,
    Rejected,
    Retry,
    Timer,
    TimerFired,
    event,
)
from everlog.process import timers
from tests.following.parts import LEASE, SECONDS, eventually

AT_ONCE = Retry(backoff=Backoff(first=0.0))  # the clock of these tests stands still, and a pause would never be over

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@event("order.placed")
class Placed:
    parcel: str


@event("order.taken_in")
class TakenIn:
    parcel: str


@event("order.cancelled")
class Cancelled:
    parcel: str


@event("box.moved")
class Moved:
    parcel: str
    to: str


@dataclass(frozen=True)
class Move:
    parcel: str
    to: str


@dataclass(frozen=True)
class Weigh:
    """Decides on nothing as long as it is there."""

    parcel: str


def decide(command: Move | Weigh, where: tuple[str, ...]) -> list[Moved]:
    if isinstance(command, Weigh):
        return []
    if command.to == "moon":
        raise Rejected("too_far", by=384_400)
    return [Moved(command.parcel, command.to)]


def evolve(where: tuple[str, ...], event: Moved) -> tuple[str, ...]:
    return (*where, event.to)


boxes = Decider("box", initial=(), decide=decide, evolve=evolve)


@event("parcel.waited")
class Waited:
    times: int


def count(times: int, event: Waited) -> int:
    return event.times


def parcels(*, partitions: int = 1) -> ProcessManager[int, Waited]:
    manager = ProcessManager("parcel", initial=0, evolve=count, does=[boxes], retry=AT_ONCE, partitions=partitions)

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(times: int, e: Recorded[Placed]) -> Iterator[Action | Waited]:
        yield Do(boxes, e.data.parcel, Move(e.data.parcel, "shelf"), undo=Move(e.data.parcel, "stock"))
        yield Do(boxes, e.data.parcel, Move(e.data.parcel, "van"), undo=Move(e.data.parcel, "shelf"))
        yield Timer("ask", after=10 * MINUTE)
        yield Expect("taken in", within=15 * MINUTE)

    @manager.on_timer("ask")
    def ask(times: int, e: Recorded[TimerFired]) -> Iterator[Action | Waited]:
        yield Waited(times + 1)
        if times < 2:
            yield Timer("ask", after=10 * MINUTE)

    @manager.on_missed("taken in")
    def missed(times: int, e: Recorded[ExpectationMissed]) -> list[Action]:
        return [Do(boxes, e.stream, Move("moon", "moon")), Do(boxes, e.stream, Weigh("x"))]

    @manager.on_rejected(Move)
    def too_far(times: int, e: Recorded[CommandRejected]) -> list[Action]:
        return [Do(boxes, f"told-{e.stream}", Move(e.data.reason, "desk"))]

    @manager.on(TakenIn, key=lambda e: e.data.parcel)
    def taken_in(times: int, e: Recorded[TakenIn]) -> list[Action]:
        return [Cancel("ask"), Met("taken in")]

    @manager.on(Cancelled, key=lambda e: e.data.parcel)
    def cancelled(times: int, e: Recorded[Cancelled]) -> list[Action]:
        return [Compensate(), Finish()]

    return manager


class Clock:
    """Shows what it is told to."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return int(self.now.timestamp()) * 1_000_000 + self.now.microsecond


def shipping(*more: ProcessManager[Any, Any]) -> Platform:
    return Platform("memory:", boxes, *(more or [parcels()]), Placed, TakenIn, Cancelled)


def quiet(log: Log, clock: Clock) -> None:
    """Return when there is nothing to read, to try again, or due by the clock."""

    def nothing_to_do() -> bool:
        assert log.worker is not None
        head, drained = log.head(), log.worker.drain(SECONDS, everything=True)
        due = timers.every(log.store.timers, until=max(clock(), head.recorded_at))
        return drained and next(due, None) is None and log.head().position == head.position

    eventually(nothing_to_do)


def moves(log: Log, tenant: str = "acme") -> list[str]:
    """Where boxes were moved to, in order."""
    return [e.data.to for e in log.tenant(tenant).events(Moved)]


def types(log: Log, stream: str, tenant: str = "acme") -> list[str]:
    return [e.type for e in log.tenant(tenant).stream(stream)]


def again(log: Log, name: str, clock: Clock) -> None:
    """Send a subscription back to the beginning, and wait until it has been through the log once more."""
    head = log.head().position
    log.store.checkpoints.reset(name)
    eventually(lambda: {one.name: one.position for one in log.store.checkpoints.progress()}[name] >= head)
    quiet(log, clock)


def opened(url: str, clock: Clock, **options: Any) -> Log:
    return shipping().open(url, worker=True, lease_seconds=LEASE, clock=clock, **options)


def parked(log: Log) -> list[tuple[str, str]]:
    """The lanes that wait for a person, each with what went wrong."""
    return [(one.key, one.error) for one in LaneOperator(log.store, None).find(LaneFilter("parcel"))]
