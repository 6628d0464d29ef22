"""What looking back at one aggregate costs in a log of any size, in steps of SQLite's virtual machine, not in time.

`cost_of_travel(1_000_000, path)` is the campaign's size; it takes about a minute to fill.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from everlog import AtPosition, AtVersion, Log, Money, OccurredAt, Platform, RecordedAt, Session
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from tests.command.sides import FAST
from tests.history.ledger import Booked, Clock, Moved, accounts, hours

EVENTS = 240
BATCH = 500
SMALLEST = 10_000
with_snapshots = replace(accounts, snapshot_every=100)
without_snapshots = replace(accounts, name="ledger", snapshot_every=None)
platform = Platform("memory:", with_snapshots, without_snapshots)


def cost_of_travel(size: int, path: Path) -> Mapping[str, int]:
    """Steps by way of looking, in the log at `path`, which is filled up to so many events first."""
    clock = Clock()
    with platform.open(f"sqlite:///{path}{FAST}", clock=clock) as log:
        if log.head().position == 0:
            _live(log, clock)
        _fill(log, size)
    with counting_steps() as steps, platform.open(f"sqlite:///{path}{FAST}") as log:
        log.head()  # the connection, and the schema it reads once
        return {name: steps(look) for name, look in _looks(log.tenant()).items()}


def _looks(acme: Session) -> Mapping[str, Callable[[], object]]:
    middle = AtPosition(SMALLEST // 2)
    moment = next(event for event in acme.stream("account-ann", after=EVENTS // 2)).recorded_at
    found: dict[str, Callable[[], object]] = {}
    for decider in (with_snapshots, without_snapshots):
        for at in (
            None,
            AtVersion(EVENTS // 2),
            middle,
            RecordedAt(moment),
            OccurredAt(moment),
            RecordedAt(hours(10**5)),
        ):
            found[f"{decider.name} at {at}"] = lambda d=decider, at=at: acme.state(d, "ann", at=at)  # type: ignore[misc]
        found[f"{decider.name} since"] = lambda d=decider: acme.difference(d, "ann", middle)  # type: ignore[misc]
        found[f"{decider.name} since then"] = lambda d=decider: acme.difference(d, "ann", RecordedAt(moment))  # type: ignore[misc]
    found["stream"] = lambda: list(acme.stream("account-ann"))
    found["stream backwards"] = lambda: next(iter(acme.stream("account-ann", backwards=True)))
    return found


def _live(log: Log, clock: Clock) -> None:
    """The aggregates that are looked at, among others, in the first events of the log."""
    acme = log.tenant()
    for number in range(EVENTS):
        for decider in (with_snapshots, without_snapshots):
            acme.execute(decider, "ann", Booked("ann", Money(number, "EUR")) if number % 3 else Moved(str(number)))
        _others(log, 30)
        clock.forward(minutes=1)


def _fill(log: Log, size: int) -> None:
    while (missing := size - log.head().position) > 0:
        _others(log, missing)


def _others(log: Log, count: int) -> None:
    """Events of the same types, tags and tenant in ever new streams."""
    requests = []
    for start in range(0, min(count, 20 * BATCH), BATCH):
        stream = f"account-{new_id().hex()}"
        events = tuple(
            NewEvent(new_id(), stream, "account.moved", 1, b'{"city":"Bern"}', ("owner:ann",))
            for _ in range(min(BATCH, count - start))
        )
        requests.append(Append("default", events))
    log.store.append_each(requests)


@contextmanager
def counting_steps() -> Iterator[Callable[[Callable[[], Any]], int]]:
    """Counts what connections opened meanwhile execute during a call."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connect = sqlite3.connect

    def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_progress_handler(step, 1)
        return connection

    def steps_of(call: Callable[[], Any]) -> int:
        before = count
        call()
        return count - before

    with mock.patch.object(sqlite3, "connect", watched):
        yield steps_of
