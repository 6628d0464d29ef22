"""A database of dicts, for a simulation that owns every step.

A transaction works on a copy, which takes the place of what was there when it commits; one writes at a time, and
readers see what is committed, as with SQLite.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from everlog.core.clock import Clock
from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.core.errors import StoreUnavailable
from everlog.processing.contract import Feed, LaneStatus
from everlog.subscription.contract import Claim, Effects, Kind, Status

LeaseClock = Callable[[], tuple[str, int]]

Key = tuple[str, str]
"""Processor and key."""


class Subscribed(NamedTuple):
    name: str
    kind: Kind
    version: int
    position: int
    status: Status
    epoch: int
    owner: str
    boot: str
    lease_until: int
    error: str
    failed_position: int
    moved_at: int
    anew: bool
    subscription: str
    part: int
    parts: int
    until: int | None = None
    build: int = 1


class OpenLane(NamedTuple):
    status: LaneStatus
    attempts: int
    next_at: int
    error: str
    since: int
    waits_for: str | None = None


@dataclass(slots=True)
class Tables:
    subscriptions: dict[str, Subscribed] = field(default_factory=dict)
    folds: dict[tuple[str, int], dict[FoldKey, FoldState]] = field(default_factory=dict)
    lanes: dict[Key, OpenLane] = field(default_factory=dict)
    parked: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    marks: dict[tuple[str, int], int] = field(default_factory=dict)
    inbox: dict[tuple[str, int, int, int], None] = field(default_factory=dict)
    received: dict[tuple[str, int], tuple[int, StoredEvent]] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    attendance: dict[Key, tuple[str, int]] = field(default_factory=dict)
    taken: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    """Rows of the user's own: what a handler wrote, by processor and key, in the order written."""

    def copy(self) -> Tables:
        return Tables(
            self.subscriptions.copy(),
            self.folds.copy(),
            self.lanes.copy(),
            self.parked.copy(),
            self.marks.copy(),
            self.inbox.copy(),
            self.received.copy(),
            self.feeds.copy(),
            self.attendance.copy(),
            self.taken.copy(),
        )


class Gate(Protocol):
    """Where a call of the database may be held up, or fail."""

    def read(self) -> None: ...

    def acquire(self) -> bool:
        """The right to write; false when it was not to be had in time."""
        ...

    def release(self) -> None: ...

    def before_commit(self) -> None: ...

    def after_commit(self) -> None: ...


class OpenGate:
    """Holds nobody up, beyond one writer at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def read(self) -> None: ...

    def acquire(self) -> bool:
        return self._lock.acquire(timeout=10)

    def release(self) -> None:
        self._lock.release()

    def before_commit(self) -> None: ...

    def after_commit(self) -> None: ...


class Committed(NamedTuple):
    """What one transaction did: by whom, if by the owner of a subscription."""

    act: str
    claim: Claim | None
    before: Tables
    after: Tables


class MemoryEffects:
    """An open transaction. SQL of the user's own goes to a database of its own, which commits with this one."""

    def __init__(self, tables: Tables, begin: Callable[[], sqlite3.Connection]) -> None:
        self.tables, self._begin = tables, begin

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, values).fetchall()

    @property
    def connection(self) -> sqlite3.Connection:
        return self._begin()


def tables_of(effects: Effects) -> Tables:
    assert isinstance(effects, MemoryEffects)
    return effects.tables


class Database:
    """All handles on one database share one of these."""

    def __init__(self, clock: Clock, lease_clock: LeaseClock, gate: Gate | None = None) -> None:
        self.clock, self.lease_clock, self.gate = clock, lease_clock, gate or OpenGate()
        self.now = Tables()
        self.watch: Callable[[Committed], None] = lambda committed: None
        self._sql: sqlite3.Connection | None = None

    def read(self) -> Tables:
        self.gate.read()
        return self.now

    @contextmanager
    def write(self, act: str, claim: Claim | None = None) -> Iterator[MemoryEffects]:
        if not self.gate.acquire():
            raise StoreUnavailable("somebody else writes: nothing was stored; try again")
        try:
            before, tables = self.now, self.now.copy()
            yield MemoryEffects(tables, self._begin)
            self.gate.before_commit()
            if self._sql is not None and self._sql.in_transaction:
                self._sql.commit()
            self.now = tables
            self.watch(Committed(act, claim, before, tables))
        finally:
            if self._sql is not None and self._sql.in_transaction:
                self._sql.rollback()
            self.gate.release()
        self.gate.after_commit()

    def _begin(self) -> sqlite3.Connection:
        if self._sql is None:
            self._sql = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if not self._sql.in_transaction:
            self._sql.execute("BEGIN")
        return self._sql
