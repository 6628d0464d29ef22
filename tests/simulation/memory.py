"""What follows a log, kept in dicts: the same words as `everlog.adapters.sqlite`, for a simulation that owns every step.

A transaction works on a copy, which takes the place of what was there when it commits; one writes at a time, and
readers see what is committed. The conformance suite says that this means the same as SQLite.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol

from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended, FoldKey, FoldState, Head, NewEvent, Place, StoredEvent
from everlog.core.errors import Fenced, InvalidInput, NotFound, StoreUnavailable
from everlog.processing.contract import Desk, Lane, LaneFilter, LaneStatus
from everlog.store.query import Filter
from everlog.subscription.contract import Claim, Effects, Kind, Progress, Status

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


def _tables(effects: Effects) -> Tables:
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


class MemoryCheckpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, name: str, kind: Kind, version: int, start: int) -> Progress:
        clock = self._database.clock
        with self._database.write("register") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(name)
            if known is None:
                rows[name] = Subscribed(name, kind, version, start, "running", 0, "", "", 0, "", 0, clock(), False)
            elif known.version != version:
                rows[name] = Subscribed(
                    name, kind, version, start, "running", known.epoch + 1, "", known.boot, 0, "", 0, clock(), True
                )
        return next(progress for progress in self.progress() if progress.name == name)

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        boot, now = self._database.lease_clock()
        with self._database.write("claim") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(name)
            if known is None or known.status != "running":
                return None
            if known.owner != owner and known.boot == boot and known.lease_until > now:
                return None
            until = now + int(lease_seconds * 1_000_000)
            row = rows[name] = known._replace(epoch=known.epoch + 1, owner=owner, boot=boot, lease_until=until)
        return Claim(name, row.epoch, row.position, row.version, row.anew)

    def renew(self, claim: Claim, lease_seconds: float) -> bool:
        boot, now = self._database.lease_clock()
        with self._database.write("renew") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            if known is None or known.epoch != claim.epoch or known.status != "running":
                return False
            rows[claim.name] = known._replace(boot=boot, lease_until=now + int(lease_seconds * 1_000_000))
        return True

    def leave(self, claim: Claim) -> None:
        with self._database.write("leave") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            if known is not None and known.epoch == claim.epoch:
                rows[claim.name] = known._replace(owner="", lease_until=0)

    @contextmanager
    def transaction(self, claim: Claim, position: int) -> Iterator[MemoryEffects]:
        with self._database.write("transaction", claim) as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            if known is None or not self.may_commit(known, claim, position):
                raise Fenced(claim.name, claim.epoch)
            rows[claim.name] = known._replace(position=position, moved_at=self._database.clock(), anew=False)
            yield effects

    def may_commit(self, known: Subscribed, claim: Claim, position: int) -> bool:
        """The fence."""
        return known.epoch == claim.epoch and known.position <= position and known.status == "running"

    def set_status(
        self, name: str, status: Status, *, error: str = "", position: int = 0, epoch: int | None = None
    ) -> bool:
        with self._database.write("set_status") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(name)
            if known is None or (epoch is not None and known.epoch != epoch):
                return False
            rows[name] = known._replace(
                status=status,
                error=error,
                failed_position=position,
                moved_at=self._database.clock(),
                owner="",
                lease_until=0,
                epoch=known.epoch + 1,
            )
        return True

    def reset(self, name: str, position: int = 0) -> None:
        with self._database.write("reset") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(name)
            if known is None:
                raise NotFound(f"there is no subscription {name!r}")
            rows[name] = known._replace(
                position=position,
                epoch=known.epoch + 1,
                owner="",
                lease_until=0,
                status="running",
                error="",
                failed_position=0,
                moved_at=self._database.clock(),
                anew=True,
            )

    def progress(self) -> list[Progress]:
        boot, now = self._database.lease_clock()
        rows = self._database.read().subscriptions
        return [
            Progress(
                row.name,
                row.kind,
                row.version,
                row.position,
                row.status,
                row.epoch,
                row.owner if row.boot == boot and row.lease_until > now else "",
                row.error,
                row.failed_position,
                row.moved_at,
            )
            for row in map(rows.__getitem__, sorted(rows))
        ]


class MemoryFoldStates:
    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, projection: str, version: int, keys: Iterable[FoldKey]) -> Mapping[FoldKey, FoldState]:
        states = self._database.read().folds.get((projection, version), {})
        return {key: states[key] for key in keys if key in states}

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None:
        folds = _tables(effects).folds
        kept = folds.get((projection, version), {})
        folds[projection, version] = kept | {FoldKey(state.tenant, state.key): state for state in states}

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        _tables(effects).folds.pop((projection, version), None)

    def keep_only(self, effects: Effects, projection: str, version: int) -> None:
        folds = _tables(effects).folds
        for one in [one for one in folds if one[0] == projection and one[1] != version]:
            del folds[one]

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        states = self._database.read().folds.get((projection, version), {})
        yield from (states[key] for key in sorted(states) if tenant in (None, key.tenant))


class MemoryLanes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, processor: str, keys: Iterable[str]) -> set[str]:
        lanes = self._database.read().lanes
        return {key for key in keys if (processor, key) in lanes}

    def due(self, processor: str, now: int, limit: int) -> list[Lane]:
        tables = self._database.read()
        lanes = [_lane(tables, *one) for one in sorted(tables.lanes) if one[0] == processor]
        due = [lane for lane in lanes if lane.status == "retrying" and lane.next_at <= now]
        return sorted(due, key=lambda lane: lane.next_at)[:limit]

    def positions(self, processor: str, key: str, limit: int) -> list[int]:
        return list(self._database.read().parked.get((processor, key), ())[:limit])

    def totals(self, processor: str) -> tuple[int, int]:
        tables = self._database.read()
        parked = [len(positions) for (name, _), positions in tables.parked.items() if name == processor]
        return sum(name == processor for name, _ in tables.lanes), sum(parked)

    def find(self, where: LaneFilter) -> Iterator[Lane]:
        tables = self._database.read()
        yield from (_lane(tables, *one) for one in sorted(tables.lanes) if _matches(where, tables, *one))

    def park(self, effects: Effects, processor: str, key: str, positions: Sequence[int]) -> None:
        if not positions:
            return
        tables, one = _tables(effects), (processor, key)
        tables.lanes.setdefault(one, OpenLane("retrying", 0, 0, "", self._database.clock()))
        tables.parked[one] = tuple(sorted({*tables.parked.get(one, ()), *positions}))

    def set(
        self, effects: Effects, processor: str, key: str, status: LaneStatus, attempts: int, next_at: int, error: str
    ) -> None:
        lanes, one = _tables(effects).lanes, (processor, key)
        known = lanes.get(one) or OpenLane(status, attempts, next_at, error, self._database.clock())
        lanes[one] = known._replace(status=status, attempts=attempts, next_at=next_at, error=error)
        if status == "parked":
            self._park_waiting(lanes, processor, key)

    def begin(self, effects: Effects, processor: str, key: str, position: int) -> int:
        tables, one = _tables(effects), (processor, key)
        known = tables.lanes.get(one)
        if known is None or known.status != "retrying" or tables.parked.get(one, (0,))[0] != position:
            return 0
        tables.lanes[one] = known._replace(attempts=known.attempts + 1)
        return known.attempts + 1

    def failed(
        self,
        effects: Effects,
        processor: str,
        key: str,
        attempt: int,
        *,
        status: LaneStatus,
        attempts: int,
        next_at: int,
        error: str,
    ) -> bool:
        lanes, one = _tables(effects).lanes, (processor, key)
        known = lanes.get(one)
        if known is None or known.attempts != attempt:
            return False
        lanes[one] = known._replace(status=status, attempts=attempts, next_at=next_at, error=error)
        if status == "parked":
            self._park_waiting(lanes, processor, key)
        return True

    def done(self, effects: Effects, processor: str, key: str, position: int) -> bool:
        tables, one = _tables(effects), (processor, key)
        if _take(tables, one, position):
            if one in tables.lanes:
                tables.lanes[one] = tables.lanes[one]._replace(attempts=0)
            return False
        self._close(tables, one)
        return True

    def retry(self, where: LaneFilter, *, canary: bool) -> int:
        with self._database.write("retry") as effects:
            tables = effects.tables
            meant = sorted(one for one in tables.lanes if _matches(where, tables, *one))
            for one in meant:
                first = meant[0][1]
                waits = canary and one[1] != first
                tables.lanes[one] = tables.lanes[one]._replace(
                    status="waiting" if waits else "retrying",
                    waits_for=first if waits else None,
                    attempts=0,
                    next_at=0,
                )
        return len(meant)

    def skip(self, processor: str, key: str, position: int) -> None:
        one = processor, key
        with self._database.write("skip") as effects:
            tables = effects.tables
            if one not in tables.lanes:
                raise NotFound(f"processor {processor!r} has no lane {key!r}: everlog dlq list shows them")
            lane = _lane(tables, *one)
            if lane.status == "retrying":
                raise InvalidInput(f"lane {key!r} is being tried now: wait until it is parked again")
            if lane.first != position:
                raise InvalidInput(
                    f"lane {key!r} begins with the event at {lane.first} by now, not {position}: look again"
                )
            if _take(tables, one, position):
                known = tables.lanes[one]
                tables.lanes[one] = known._replace(status="retrying", attempts=0, next_at=0, waits_for=None)
            else:
                self._close(tables, one)

    def _close(self, tables: Tables, one: Key) -> None:
        tables.lanes.pop(one, None)
        for other, lane in list(tables.lanes.items()):
            if other[0] == one[0] and lane.waits_for == one[1]:
                tables.lanes[other] = lane._replace(status="retrying", next_at=0, waits_for=None)

    def _park_waiting(self, lanes: dict[Key, OpenLane], processor: str, key: str) -> None:
        behind = [key]
        for canary in behind:
            for other, lane in list(lanes.items()):
                if other[0] == processor and lane.waits_for == canary:
                    lanes[other] = lane._replace(status="parked", waits_for=None)
                    behind.append(other[1])


def _lane(tables: Tables, processor: str, key: str) -> Lane:
    lane, parked = tables.lanes[processor, key], tables.parked.get((processor, key), ())
    first = parked[0] if parked else 0
    return Lane(
        processor, key, lane.status, lane.attempts, lane.next_at, lane.error, lane.since, first, len(parked)
    )


def _matches(where: LaneFilter, tables: Tables, processor: str, key: str) -> bool:
    return (
        processor == where.processor
        and where.key in (None, key)
        and (where.tenant is None or key.startswith(f"{where.tenant}/"))
        and (where.error is None or where.error in tables.lanes[processor, key].error)
    )


def _take(tables: Tables, one: Key, position: int) -> bool:
    """Whether others are left."""
    left = tuple(other for other in tables.parked.get(one, ()) if other != position)
    if left:
        tables.parked[one] = left
    else:
        tables.parked.pop(one, None)
    return bool(left)


class MemoryMarks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self, effects: Effects, processor: str, upto: int) -> None:
        _tables(effects).marks[processor, 0] = upto

    def marked(self, processor: str) -> int:
        return self._database.read().marks.get((processor, 0), 0)

    def attempt(self, effects: Effects, processor: str, position: int) -> int:
        marks = _tables(effects).marks
        marks[processor, position] = marks.get((processor, position), 0) + 1
        return marks[processor, position]

    def clear(self, effects: Effects, processor: str, upto: int) -> None:
        marks = _tables(effects).marks
        for one in [one for one in marks if one[0] == processor and 0 < one[1] <= upto]:
            del marks[one]


class MemoryInbox:
    def first(self, effects: Effects, consumer: str, incarnation: int, position: int, part: int) -> bool:
        inbox, row = _tables(effects).inbox, (consumer, incarnation, position, part)
        known = row in inbox
        inbox[row] = None
        return not known


class MemoryFollowing:
    """What one database keeps beside a log, behind one handle."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.checkpoints = MemoryCheckpoints(database)
        self.fold_states = MemoryFoldStates(database)
        self.desk = Desk(MemoryLanes(database), MemoryMarks(database), MemoryInbox())

    def close(self) -> None: ...


class MemoryLog(MemoryFollowing):
    """A log with what follows it: of a store, only what is called when a log is followed."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.events: list[StoredEvent] = []
        self.appended: Callable[[StoredEvent], None] = lambda event: None

    def head(self) -> Head:
        self.database.gate.read()
        return Head(len(self.events), self.events[-1].recorded_at if self.events else 0, b"l" * 16, 1)

    def read(
        self, where: Filter, *, after: int = 0, upto: int | None = None, backwards: bool = False, limit: int | None = None
    ) -> Iterator[StoredEvent]:
        assert not backwards
        assert replace(where, types=()) == Filter(None), f"the simulation answers no {where}"
        self.database.gate.read()
        names = {name for name, _ in where.types}
        found = (event for event in self.events[after:upto] if not names or event.type in names)
        yield from islice(found, limit)

    def append(self, request: Append) -> Appended:
        """Wherever its streams are; the same ids again change nothing."""
        self.database.gate.read()
        known = {event.id: event for event in self.events}
        stored = [known.get(new.id) or self.put(request.tenant, new) for new in request.events]
        return Appended(tuple(Place(event.position, event.version) for event in stored), self.database.clock())

    def put(self, tenant: str, new: NewEvent) -> StoredEvent:
        now, position = self.database.clock(), len(self.events) + 1
        event = StoredEvent(
            position,
            tenant,
            new.stream,
            position,
            new.id,
            new.type,
            new.schema_version,
            now,
            now,
            new.actor,
            new.correlation_id,
            new.causation_id,
            new.data,
            new.client,
        )
        self.events.append(event)
        self.appended(event)
        return event
