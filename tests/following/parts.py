"""What these tests follow: an event that counts, one that is only noted, and the ways to wait and to look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest

from everlog import Fold, Log, Recorded, Session, SqlProjection, Transaction, event
from everlog.subscription.contract import Progress
from everlog.subscription.start import BEGINNING, Start

T = TypeVar("T")

SECONDS = 30.0  # until something that should have happened counts as never happening
on_both = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
"""What is told of whole workers, on every store that has them."""

LEASE = 0.4  # of workers alone on their log: they look at lanes and stops four times as often


@event("tally.counted")
class Counted:
    key: str
    n: int = 1


@event("tally.noted")
class Noted:
    text: str = ""


def eventually(look: Callable[[], T], *, seconds: float | None = None) -> T:
    """What `look` gives, once that is true; the only place where these tests wait for a moment to pass."""
    seconds = SECONDS if seconds is None else seconds
    until = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < until, f"not within {seconds:g} s, but {seen!r}"
        time.sleep(0.005)
    return seen


def tally(name: str = "tally", *, version: int = 1, inline: bool = False, start: Start = BEGINNING) -> Fold[int]:
    """Sums by key; an event whose key is empty belongs to none."""
    fold = Fold(name, initial=0, version=version, inline=inline, start=start)

    @fold.on(Counted, key=lambda e: e.data.key or None)
    def add(total: int, e: Recorded[Counted]) -> int:
        return total + e.data.n

    return fold


TABLE = "CREATE TABLE IF NOT EXISTS counted (tenant TEXT, key TEXT, n INTEGER, PRIMARY KEY (tenant, key))"
ADD = "INSERT INTO counted VALUES (?, ?, ?) ON CONFLICT (tenant, key) DO UPDATE SET n = counted.n + excluded.n"


def counter(name: str = "counter", *, version: int = 1, start: Start = BEGINNING) -> SqlProjection:
    """The same sums in a table, by a statement that counts twice what it is given twice."""
    projection = SqlProjection(name, setup=[TABLE], tables=["counted"], version=version, start=start)

    @projection.on(Counted)
    def add(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute(ADD, (e.tenant, e.data.key, e.data.n))

    return projection


def counted(log: Log) -> dict[tuple[str, str], int]:
    """The rows of `counter`."""
    return {(tenant, key): n for tenant, key, n in rows(log, "SELECT tenant, key, n FROM counted")}


def rows(log: Log, sql: str) -> list[Any]:
    """Rows of the database under a log, as any tool would read them."""
    connections: Any = log.store
    return list(connections._connections.rows(sql))


def sums(events: Iterable[Recorded[Counted]]) -> dict[str, int]:
    """What `tally` must hold, by the plainest loop."""
    found: dict[str, int] = {}
    for each in events:
        if each.data.key:
            found[each.data.key] = found.get(each.data.key, 0) + each.data.n
    return found


def append_many(session: Session, keys: Sequence[str], times: int = 1) -> int:
    """One event for each key in turn, each in the stream of its key; gives the last position."""
    position = 0
    for number in range(times):
        for key in keys:
            position = session.append(f"tally-{key}", Counted(key, number + 1)).position
    return position


def progress_of(log: Log, name: str) -> Progress:
    return {known.name: known for known in log.store.checkpoints.progress()}[name]


def failed(log: Log, *names: str) -> None:
    """Wait until these subscriptions have failed."""
    eventually(lambda: {k.name for k in log.store.checkpoints.progress() if k.status == "failed"}.issuperset(names))


def settled(log: Log, *names: str) -> None:
    """Wait until these subscriptions (all, when none is named) have seen the whole log, and their lanes are quiet."""

    def quiet() -> bool:
        lags = {lag.progress.name: lag.events for lag in log.lags() if not names or lag.progress.name in names}
        return len(lags) >= max(1, len(names)) and not any(lags.values()) and not rows(log, _UNSETTLED)

    eventually(quiet)


_UNSETTLED = "SELECT 1 FROM everlog_lane WHERE status <> 'parked' LIMIT 1"
