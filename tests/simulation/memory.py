"""A log in memory and what follows it: the words of `everlog.adapters.sqlite`, as one conformance suite says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from everlog.core.envelope import Append, Appended, FoldKey, FoldState, Head, NewEvent, Place, StoredEvent
from everlog.core.errors import Fenced, NotFound
from everlog.processing.contract import Desk
from everlog.store.query import Filter
from everlog.subscription.contract import Claim, Effects, Kind, Progress, Status
from tests.simulation.database import Database, MemoryEffects, Subscribed, tables_of
from tests.simulation.desk import MemoryInbox, MemoryLanes, MemoryMarks


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
        folds = tables_of(effects).folds
        kept = folds.get((projection, version), {})
        folds[projection, version] = kept | {FoldKey(state.tenant, state.key): state for state in states}

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        tables_of(effects).folds.pop((projection, version), None)

    def keep_only(self, effects: Effects, projection: str, version: int) -> None:
        folds = tables_of(effects).folds
        for one in [one for one in folds if one[0] == projection and one[1] != version]:
            del folds[one]

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        states = self._database.read().folds.get((projection, version), {})
        yield from (states[key] for key in sorted(states) if tenant in (None, key.tenant))


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
        self,
        where: Filter,
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
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
