"""Lanes, marks and inbox in dicts: the words of `everlog.adapters.sqlite.desk`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput, NotFound
from everlog.processing.contract import ALL_PARTS, Feed, Lane, LaneFilter, LaneStatus
from everlog.subscription.contract import Effects
from everlog.subscription.partition import ALL_KEYS, Slice
from tests.simulation.database import Database, Key, OpenLane, Tables, tables_of


class MemoryLanes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, processor: str, keys: Iterable[str]) -> set[str]:
        lanes = self._database.read().lanes
        return {key for key in keys if (processor, key) in lanes}

    def due(self, processor: str, now: int, limit: int, keys: Slice = ALL_KEYS) -> list[Lane]:
        tables = self._database.read()
        lanes = [_lane(tables, *one) for one in sorted(tables.lanes) if one[0] == processor]
        due = [lane for lane in lanes if lane.status == "retrying" and lane.next_at <= now and keys.holds(lane.key)]
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
        tables, one = tables_of(effects), (processor, key)
        tables.lanes.setdefault(one, OpenLane("retrying", 0, 0, "", self._database.clock()))
        tables.parked[one] = tuple(sorted({*tables.parked.get(one, ()), *positions}))

    def set(
        self, effects: Effects, processor: str, key: str, status: LaneStatus, attempts: int, next_at: int, error: str
    ) -> None:
        lanes, one = tables_of(effects).lanes, (processor, key)
        known = lanes.get(one) or OpenLane(status, attempts, next_at, error, self._database.clock())
        lanes[one] = known._replace(status=status, attempts=attempts, next_at=next_at, error=error)
        if status == "parked":
            self._park_waiting(lanes, processor, key)

    def begin(self, effects: Effects, processor: str, key: str, position: int) -> int:
        tables, one = tables_of(effects), (processor, key)
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
        lanes, one = tables_of(effects).lanes, (processor, key)
        known = lanes.get(one)
        if known is None or known.attempts != attempt:
            return False
        lanes[one] = known._replace(status=status, attempts=attempts, next_at=next_at, error=error)
        if status == "parked":
            self._park_waiting(lanes, processor, key)
        return True

    def done(self, effects: Effects, processor: str, key: str, position: int) -> bool:
        tables, one = tables_of(effects), (processor, key)
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
    return Lane(processor, key, lane.status, lane.attempts, lane.next_at, lane.error, lane.since, first, len(parked))


def _matches(where: LaneFilter, tables: Tables, processor: str, key: str) -> bool:
    return (
        processor == where.processor
        and where.key in (None, key)
        and (where.tenant is None or key.startswith(f"{where.tenant}/"))
        and (where.error is None or where.error in tables.lanes[processor, key].error)
    )


def _take(tables: Tables, one: Key, position: int) -> bool:
    """Whether others are left; an event from a broker is known to the inbox from now on."""
    received = tables.received.pop((one[0], position), None)
    if received is not None:
        tables.inbox[one[0], received[0], position, ALL_PARTS] = None
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
        tables_of(effects).marks[processor, 0] = upto

    def marked(self, processor: str) -> int:
        return self._database.read().marks.get((processor, 0), 0)

    def attempt(self, effects: Effects, processor: str, position: int) -> int:
        marks = tables_of(effects).marks
        marks[processor, position] = marks.get((processor, position), 0) + 1
        return marks[processor, position]

    def clear(self, effects: Effects, processor: str, upto: int) -> None:
        marks = tables_of(effects).marks
        for one in [one for one in marks if one[0] == processor and 0 < one[1] <= upto]:
            del marks[one]


class MemoryInbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def first(self, effects: Effects, consumer: str, incarnation: int, position: int, part: int) -> bool:
        inbox, row = tables_of(effects).inbox, (consumer, incarnation, position, part)
        known = row in inbox
        inbox[row] = None
        return not known

    def known(self, consumer: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        inbox = self._database.read().inbox
        return {one for one in positions if (consumer, incarnation, one, ALL_PARTS) in inbox}

    def remember(self, effects: Effects, consumer: str, incarnation: int, positions: Sequence[int]) -> None:
        tables_of(effects).inbox.update(dict.fromkeys((consumer, incarnation, one, ALL_PARTS) for one in positions))


class MemoryReceived:
    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, effects: Effects, processor: str, incarnation: int, events: Sequence[StoredEvent]) -> None:
        for event in events:
            tables_of(effects).received.setdefault((processor, event.position), (incarnation, event))

    def find(self, processor: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        received = self._database.read().received
        return {one for one in positions if received.get((processor, one), (None,))[0] == incarnation}

    def get(self, processor: str, position: int) -> StoredEvent | None:
        found = self._database.read().received.get((processor, position))
        return found[1] if found else None


class MemoryFeeds:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, partition: str) -> Feed | None:
        return self._database.read().feeds.get(partition)

    def put(self, effects: Effects, partition: str, feed: Feed) -> None:
        tables_of(effects).feeds[partition] = feed

    def accept(self, processor: str, source: str, incarnation: int, shared: int) -> None:
        with self._database.write("accept") as effects:
            tables = effects.tables
            rows = [row for row in tables.subscriptions.values() if row.subscription == processor]
            fed = [tables.feeds[row.name] for row in rows if row.name in tables.feeds]
            lowest = min((row.position for row in rows), default=0)
            _take_over(tables, processor, fed, source, incarnation, range(lowest + 1, shared + 1))
            for row in rows:
                at = min(shared, row.position)
                if feed := tables.feeds.get(row.name):
                    floor = min(shared, max(row.position, feed.floor))
                    tables.feeds[row.name] = feed._replace(
                        source=source, incarnation=incarnation, position=at, floor=floor, shared=shared
                    )
                tables.subscriptions[row.name] = row._replace(
                    position=at, status="running", error="", failed_position=0, epoch=row.epoch + 1, owner="",
                    lease_until=0, moved_at=self._database.clock(),
                )  # fmt: skip


def _take_over(
    tables: Tables, processor: str, fed: Sequence[Feed], source: str, incarnation: int, shared: range
) -> None:
    """What is known of the incarnations before, and what is forgotten of another log."""
    earlier = {feed.incarnation for feed in fed}
    if any(feed.source != source for feed in fed):
        for row in [row for row in tables.inbox if row[:2] == (processor, incarnation) and row[2] >= shared.stop]:
            del tables.inbox[row]
    for consumer, before, position, part in list(tables.inbox):
        if consumer == processor and before in earlier and position in shared:
            tables.inbox[consumer, incarnation, position, part] = None
    for (name, position), (before, event) in list(tables.received.items()):
        if name == processor and before in earlier and position < shared.stop:
            tables.received[name, position] = incarnation, event
