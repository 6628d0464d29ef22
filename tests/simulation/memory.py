"""A log in memory and what follows it: the words of `everlog.adapters.sqlite`, as one conformance suite says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from everlog.core.envelope import Append, Appended, FoldKey, FoldState, Head, NewEvent, Place, StoredEvent
from everlog.core.errors import Fenced, NotFound
from everlog.processing.contract import Desk
from everlog.store.query import Filter
from everlog.subscription.contract import Attendance, Claim, Effects, Kind, Progress, Status
from everlog.subscription.partition import BESIDE, first_of, partition_name, refuse_fed, to_divide, to_exchange
from tests.simulation.database import Database, MemoryEffects, Subscribed, tables_of
from tests.simulation.desk import MemoryFeeds, MemoryInbox, MemoryLanes, MemoryMarks, MemoryReceived


class MemoryCheckpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, name: str, kind: Kind, version: int, start: int, *, parts: int = 1) -> Progress:
        with self._database.write("register") as effects:
            rows = effects.tables.subscriptions
            known = [row for row in rows.values() if row.subscription == name]
            if not known:
                self._insert(rows, name, parts, kind=kind, version=version, position=start)
            elif known[0].version != version:
                self._send_back(rows, known, start, version=version, kind=kind)
        return first_of(name, self.progress())

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        boot, now = self._database.lease_clock()
        with self._database.write("claim") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(name)
            if known is None or known.status != "running":
                return None
            if known.owner != owner and known.boot == boot and known.lease_until > now:
                return None
            others = [row for row in rows.values() if row.subscription == known.subscription]
            if any(_before(row, known) for row in others):
                return None
            until = now + int(lease_seconds * 1_000_000)
            row = rows[name] = known._replace(epoch=known.epoch + 1, owner=owner, boot=boot, lease_until=until)
        return Claim(name, row.epoch, row.position, row.version, row.anew, row.build, row.until, lease_seconds)

    def renew(self, claim: Claim, lease_seconds: float) -> Claim | None:
        boot, now = self._database.lease_clock()
        with self._database.write("renew") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            if known is None or known.epoch != claim.epoch or known.status != "running":
                return None
            rows[claim.name] = known._replace(boot=boot, lease_until=now + int(lease_seconds * 1_000_000))
        return claim._replace(until=known.until)

    def divide(self, name: str, parts: int) -> None:
        with self._database.write("divide") as effects:
            rows = effects.tables.subscriptions
            old = to_divide(name, [one for one in self.progress() if one.subscription == name], parts)
            if old is None:
                return
            fed = [row.name for row in rows.values() if row.subscription == name and row.name in effects.tables.feeds]
            refuse_fed(name, fed)
            end = old.position  # there is no log here, and nothing in hand
            for row in [row for row in rows.values() if row.subscription == name]:
                rows[row.name] = row._replace(until=end)
            self._insert(
                rows, name, parts, kind=old.kind, version=old.version, position=end, status=old.status, build=old.build
            )

    def retire(self, claim: Claim) -> None:
        with self._database.write("retire") as effects:
            known = effects.tables.subscriptions.get(claim.name)
            if known is not None and known.epoch == claim.epoch and known.position == known.until:
                del effects.tables.subscriptions[claim.name]
                for mark in [mark for mark in effects.tables.marks if mark[0] == claim.name]:
                    del effects.tables.marks[mark]

    def attend(self, name: str, owner: str, lease_seconds: float) -> Attendance:
        boot, now = self._database.lease_clock()
        with self._database.write("attend") as effects:
            there = effects.tables.attendance
            there[name, owner] = boot, now + int(lease_seconds * 1_000_000)
            for one in [one for one, (run, until) in there.items() if run != boot or until <= now]:
                del there[one]
            found = [each for subscription, each in there if subscription == name]
            return Attendance(len(found), sum(each < owner for each in found))

    def leave(self, claim: Claim) -> None:
        with self._database.write("leave") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            if known is not None and known.epoch == claim.epoch:
                rows[claim.name] = known._replace(owner="", lease_until=0)

    @contextmanager
    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> Iterator[MemoryEffects]:
        with self._database.write("transaction", claim) as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            ended = known is not None and known.until is not None and max(position, upto) > known.until
            if known is None or ended or not self.may_commit(known, claim, position):
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
            if epoch is None:
                meant = [row for row in rows.values() if row.subscription == name]
            else:
                meant = [row for row in rows.values() if row.name == name and row.epoch == epoch]
            for row in meant:
                rows[row.name] = row._replace(
                    status=status,
                    error=error,
                    failed_position=position,
                    moved_at=self._database.clock(),
                    owner="",
                    lease_until=0,
                    epoch=row.epoch + 1,
                )
        return bool(meant)

    def reset(self, name: str, position: int = 0) -> None:
        with self._database.write("reset") as effects:
            rows = effects.tables.subscriptions
            known = [row for row in rows.values() if row.subscription == name]
            if not known:
                raise NotFound(f"there is no subscription {name!r}")
            self._send_back(rows, known, position)

    def go_back(self, claim: Claim, position: int) -> None:
        with self._database.write("go_back") as effects:
            rows = effects.tables.subscriptions
            known = rows.get(claim.name)
            if known is None or known.epoch != claim.epoch:
                raise Fenced(claim.name, claim.epoch)
            rows[claim.name] = known._replace(position=position, epoch=known.epoch + 1, owner="", lease_until=0)

    def exchange(
        self, name: str, other: str, kept: str = "", within: Callable[[Effects], None] = lambda effects: None
    ) -> bool:
        with self._database.write("exchange") as effects:
            rows = effects.tables.subscriptions
            if not to_exchange(name, other, self.progress()):
                return False
            epoch = 1 + max(row.epoch for row in rows.values() if row.subscription in (name, other))
            turned = {name: kept or other, other: name}
            for row in [row for row in rows.values() if row.subscription in turned]:
                del rows[row.name]
                new = turned[row.subscription]
                renamed = row._replace(
                    name=new + row.name[len(row.subscription) :], subscription=new, epoch=epoch, owner="",
                    lease_until=0,
                )  # fmt: skip
                rows["?" + renamed.name] = renamed
            for key in [key for key in rows if key.startswith("?")]:
                rows[key[1:]] = rows.pop(key)
            within(effects)
        return True

    def forget(self, name: str, within: Callable[[Effects, int], None] = lambda effects, build: None) -> None:
        with self._database.write("forget") as effects:
            rows = effects.tables.subscriptions
            for row in [row for row in rows.values() if row.subscription == name]:
                del rows[row.name]
                within(effects, row.build)

    def build(self, names: Sequence[str], version: int) -> int | None:
        rows = self._database.read().subscriptions.values()
        found = {row.subscription: row.build for row in rows if row.version == version}
        return next((found[name] for name in names if name in found), None)

    def _number(self, rows: dict[str, Subscribed], subscription: str) -> int:
        """One more than any that a build of this name has."""
        name = subscription.rstrip(BESIDE)
        builds = [row.build for row in rows.values() if row.subscription.rstrip(BESIDE) == name]
        return 1 + max(
            [*builds, *(version for fold, version in self._database.read().folds if fold == name)], default=0
        )

    def _insert(
        self,
        rows: dict[str, Subscribed],
        subscription: str,
        parts: int,
        *,
        kind: Kind,
        version: int,
        position: int,
        status: Status = "running",
        build: int = 0,
    ) -> None:
        moved_at = self._database.clock()
        build = build or self._number(rows, subscription)
        for part in range(parts):
            name = partition_name(subscription, part, parts)
            rows[name] = Subscribed(
                name, kind, version, position, status, moved_at, "", "", 0, "", 0, moved_at, False, subscription, part,
                parts, None, build,
            )  # fmt: skip

    def _send_back(
        self,
        rows: dict[str, Subscribed],
        known: list[Subscribed],
        position: int,
        version: int | None = None,
        kind: Kind | None = None,
    ) -> None:
        for row in known:
            if row.until is not None:
                del rows[row.name]
                continue
            rows[row.name] = row._replace(
                position=position,
                version=version or row.version,
                kind=kind or row.kind,
                epoch=row.epoch + 1,
                owner="",
                lease_until=0,
                status="running",
                error="",
                failed_position=0,
                moved_at=self._database.clock(),
                anew=row.part == 0,
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
                row.subscription,
                row.part,
                row.parts,
                row.until,
                row.build,
            )
            for row in sorted(rows.values(), key=lambda row: (row.subscription, row.part, row.name))
        ]


def _before(one: Subscribed, known: Subscribed) -> bool:
    """Whether a partition must end, or clear what was sent back, before this one may be owned."""
    return (known.until is None and one.until is not None) or (known.part > 0 and one.part == 0 and one.anew)


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

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        states = self._database.read().folds.get((projection, version), {})
        yield from (states[key] for key in sorted(states) if tenant in (None, key.tenant))


class MemoryFollowing:
    """What one database keeps beside a log, behind one handle."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.checkpoints = MemoryCheckpoints(database)
        self.fold_states = MemoryFoldStates(database)
        self.desk = Desk(
            MemoryLanes(database),
            MemoryMarks(database),
            MemoryInbox(database),
            MemoryReceived(database),
            MemoryFeeds(database),
        )

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
