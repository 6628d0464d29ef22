"""Lanes, marks, inbox and what came from brokers, in the log's own database."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from everlog.adapters.postgres.checkpoints import PostgresEffects
from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.nul import given, kept, shown
from everlog.adapters.postgres.packed import blobs, int8s, texts
from everlog.adapters.postgres.transactions import begun, commit
from everlog.adapters.postgres.translate import translated
from everlog.core.clock import Clock
from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput, NotFound
from everlog.processing.contract import ALL_PARTS, FEED, Desk, Feed, Lane, LaneFilter, LaneStatus, packed, unpacked
from everlog.subscription.contract import Effects
from everlog.subscription.partition import ALL_KEYS, Slice, key_hash

_PAGE = 500
_LANE = """SELECT processor, key, status, attempts, next_at, error, since,
    coalesce((SELECT min(position) FROM everlog_parked p WHERE p.processor = l.processor AND p.key = l.key), 0),
    (SELECT count(*) FROM everlog_parked p WHERE p.processor = l.processor AND p.key = l.key)
    FROM everlog_lane l"""
_MATCHING = """processor = ? AND (?::text IS NULL OR key = ?)
    AND (?::text IS NULL OR key >= ?::text || '/' AND key < ?::text || '0')
    AND (?::text IS NULL OR strpos(error, ?) > 0)"""

# A processor's transactions hold the row of a partition, so whoever holds all of them has the lanes to themselves.
_LOCK = "SELECT 1 FROM everlog_subscription WHERE subscription = ? ORDER BY name FOR NO KEY UPDATE"
_OPEN = """INSERT INTO everlog_lane VALUES (?, ?, ?, 'retrying', 0, 0, '', ?, NULL) ON CONFLICT DO NOTHING"""
_PARK = "INSERT INTO everlog_parked SELECT ?, ?, unnest(?) ON CONFLICT DO NOTHING"
_SET = """
    INSERT INTO everlog_lane VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)
    ON CONFLICT (processor, key) DO UPDATE SET status = excluded.status, attempts = excluded.attempts,
        next_at = excluded.next_at, error = excluded.error"""
_RETRY = f"""
    UPDATE everlog_lane SET
        status = CASE WHEN ?::text IS NULL OR key = ? THEN 'retrying' ELSE 'waiting' END,
        waits_for = CASE WHEN key = ? THEN NULL ELSE ? END,
        attempts = 0, next_at = 0
    WHERE {_MATCHING}
    RETURNING 1"""
_TAKE = "DELETE FROM everlog_parked WHERE processor = ? AND key = ? AND position = ?"
_INTO_INBOX = f"""
    WITH gone AS (DELETE FROM everlog_received WHERE processor = ? AND position = ? RETURNING *)
    INSERT INTO everlog_inbox SELECT processor, incarnation, position, {ALL_PARTS} FROM gone ON CONFLICT DO NOTHING"""
_CLOSE = "DELETE FROM everlog_lane WHERE processor = ? AND key = ?"
_BEGIN = """
    UPDATE everlog_lane l SET attempts = attempts + 1
    WHERE processor = ? AND key = ? AND status = 'retrying'
        AND ? = (SELECT min(position) FROM everlog_parked p WHERE p.processor = l.processor AND p.key = l.key)
    RETURNING attempts"""
# Whatever a person does to a lane sets its attempts to 0.
_FAILED = """
    UPDATE everlog_lane SET status = ?, attempts = ?, next_at = ?, error = ?
    WHERE processor = ? AND key = ? AND attempts = ?
    RETURNING 1"""
_PUT_FEED = f"""
    INSERT INTO everlog_feed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (partition) DO UPDATE SET ({FEED}) = ROW ({", ".join([f"excluded.{name}" for name in Feed._fields])})"""
_TRY_REST = """UPDATE everlog_lane SET status = 'retrying', attempts = 0, next_at = 0, waits_for = NULL
    WHERE processor = ? AND key = ?"""
_LET_WAITING_GO = """UPDATE everlog_lane SET status = 'retrying', next_at = 0, waits_for = NULL
    WHERE processor = ? AND waits_for = ?"""
# A canary may itself wait for another one, so those behind it are found step by step.
_PARK_WAITING = """
    WITH RECURSIVE behind (processor, key) AS (
        SELECT ?::text COLLATE "C", ?::text COLLATE "C"
        UNION SELECT l.processor, l.key FROM everlog_lane l JOIN behind b USING (processor) WHERE l.waits_for = b.key)
    UPDATE everlog_lane l SET status = 'parked', waits_for = NULL
    FROM behind b WHERE l.processor = b.processor AND l.waits_for = b.key"""

# What a person says of a log that began anew; processor, source, incarnation and what it shares are `told`.
_FED = "SELECT f.incarnation FROM everlog_feed f JOIN everlog_subscription s ON s.name = f.partition, told"
_TOLD = """WITH told (processor, source, incarnation, shared) AS
    (SELECT ?::text COLLATE "C", ?::text COLLATE "C", ?::bigint, ?::bigint)"""
_ACCEPT = (
    f"""{_TOLD} DELETE FROM everlog_inbox i USING told
        WHERE consumer = processor AND i.incarnation = told.incarnation AND position > told.shared
            AND EXISTS ({_FED} WHERE s.subscription = processor AND f.source <> told.source)""",
    # Below the first checkpoint nobody asks for it.
    f"""{_TOLD} INSERT INTO everlog_inbox SELECT consumer, told.incarnation, position, part FROM everlog_inbox i, told
        WHERE consumer = processor AND i.incarnation IN ({_FED} WHERE s.subscription = processor)
            AND position <= told.shared
            AND position > (SELECT min(position) FROM everlog_subscription WHERE subscription = processor)
        ON CONFLICT DO NOTHING""",
    f"""{_TOLD} UPDATE everlog_received r SET incarnation = told.incarnation FROM told
        WHERE r.processor = told.processor AND position <= told.shared
            AND r.incarnation IN ({_FED} WHERE s.subscription = told.processor)""",
    f"""{_TOLD} UPDATE everlog_feed f SET source = told.source, incarnation = told.incarnation,
            floor = least(told.shared, greatest(s.position, f.floor)), shared = told.shared,
            position = least(told.shared, s.position)
        FROM told, everlog_subscription s WHERE s.name = f.partition AND s.subscription = processor""",
    f"""{_TOLD} UPDATE everlog_subscription SET position = least(told.shared, position), status = 'running', error = '',
            failed_position = 0, epoch = epoch + 1, owner = '', lease_until = 0, moved_at = ?
        FROM told WHERE subscription = processor""",
)


class PostgresLanes:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def open(self, processor: str, keys: Iterable[str]) -> set[str]:
        wanted = [kept(key) for key in keys]
        if not wanted:
            return set()
        sql = "SELECT key FROM everlog_lane WHERE processor = ? AND key = ANY(?)"
        return {given(key) for (key,) in self._connections.rows(sql, (processor, texts(wanted)))}

    def due(self, processor: str, now: int, limit: int, keys: Slice = ALL_KEYS) -> list[Lane]:
        sql = f"""{_LANE} WHERE processor = ? AND status = 'retrying' AND next_at <= ? AND hash % ? = ?
            ORDER BY next_at LIMIT ?"""
        values = (processor, now, keys.parts, keys.part, limit)
        return [_lane(row) for row in self._connections.rows(sql, values)]

    def positions(self, processor: str, key: str, limit: int) -> list[int]:
        sql = "SELECT position FROM everlog_parked WHERE processor = ? AND key = ? ORDER BY position LIMIT ?"
        return [row[0] for row in self._connections.rows(sql, (processor, kept(key), limit))]

    def totals(self, processor: str) -> tuple[int, int]:
        sql = """SELECT (SELECT count(*) FROM everlog_lane WHERE processor = ?),
            (SELECT count(*) FROM everlog_parked WHERE processor = ?)"""
        lanes, events = self._connections.rows(sql, (processor, processor))[0]
        return lanes, events

    def find(self, where: LaneFilter) -> Iterator[Lane]:
        after = ""
        sql = f"{_LANE} WHERE {_MATCHING} AND key > ? ORDER BY key LIMIT {_PAGE}"
        while page := self._connections.rows(sql, [*_values(where), after]):
            yield from map(_lane, page)
            after = page[-1][1]

    def park(self, effects: Effects, processor: str, key: str, positions: Sequence[int]) -> None:
        if not positions:
            return
        effects.execute(_OPEN, (processor, kept(key), key_hash(key), self._clock()))
        effects.execute(_PARK, (processor, kept(key), int8s(positions)))

    def set(
        self, effects: Effects, processor: str, key: str, status: LaneStatus, attempts: int, next_at: int, error: str
    ) -> None:
        effects.execute(
            _SET, (processor, kept(key), key_hash(key), status, attempts, next_at, shown(error), self._clock())
        )
        if status == "parked":
            effects.execute(_PARK_WAITING, (processor, kept(key)))

    def begin(self, effects: Effects, processor: str, key: str, position: int) -> int:
        counted = effects.execute(_BEGIN, (processor, kept(key), position))
        return int(counted[0][0]) if counted else 0

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
        values = (status, attempts, next_at, shown(error), processor, kept(key), attempt)
        stands = bool(effects.execute(_FAILED, values))
        if stands and status == "parked":
            effects.execute(_PARK_WAITING, (processor, kept(key)))
        return stands

    def done(self, effects: Effects, processor: str, key: str, position: int) -> bool:
        values = (processor, kept(key))
        effects.execute(_TAKE, (*values, position))
        effects.execute(_INTO_INBOX, (processor, position))
        if effects.execute("SELECT 1 FROM everlog_parked WHERE processor = ? AND key = ? LIMIT 1", values):
            effects.execute("UPDATE everlog_lane SET attempts = 0 WHERE processor = ? AND key = ?", values)
            return False
        effects.execute(_CLOSE, values)
        effects.execute(_LET_WAITING_GO, values)
        return True

    def retry(self, where: LaneFilter, *, canary: bool) -> int:
        with self._alone(where.processor) as effects:
            first = effects.execute(f"{_LANE} WHERE {_MATCHING} ORDER BY key LIMIT 1", _values(where))
            if not first:
                return 0
            # As it is stored, for that is what the others wait for.
            awaited = first[0][1] if canary else None
            return len(effects.execute(_RETRY, [awaited, awaited, awaited, awaited, *_values(where)]))

    def skip(self, processor: str, key: str, position: int) -> None:
        values = (processor, kept(key))
        with self._alone(processor) as effects:
            found = effects.execute(f"{_LANE} WHERE processor = ? AND key = ?", values)
            if not found:
                raise NotFound(f"processor {processor!r} has no lane {key!r}: everlog dlq list shows them")
            lane = _lane(found[0])
            if lane.status == "retrying":
                raise InvalidInput(f"lane {key!r} is being tried now: wait until it is parked again")
            if lane.first != position:
                raise InvalidInput(
                    f"lane {key!r} begins with the event at {lane.first} by now, not {position}: look again"
                )
            effects.execute(_TAKE, (*values, position))
            effects.execute(_INTO_INBOX, (processor, position))
            for statement in (_TRY_REST,) if lane.depth > 1 else (_CLOSE, _LET_WAITING_GO):
                effects.execute(statement, values)

    @contextmanager
    def _alone(self, processor: str) -> Iterator[Effects]:
        """What a person does to lanes, while the processor does nothing to them."""
        with begun(self._connections, _LOCK, (processor,)) as (connection, _), translated():
            yield PostgresEffects(connection)
            commit(connection)


class PostgresMarks:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def mark(self, effects: Effects, partition: str, upto: int) -> None:
        effects.execute(
            """INSERT INTO everlog_mark VALUES (?, 0, ?)
            ON CONFLICT (processor, position) DO UPDATE SET number = excluded.number""",
            (partition, upto),
        )

    def marked(self, partition: str) -> int:
        sql = "SELECT number FROM everlog_mark WHERE processor = ? AND position = 0"
        found = self._connections.rows(sql, (partition,))
        return found[0][0] if found else 0

    def attempt(self, effects: Effects, partition: str, position: int) -> int:
        [(number,)] = effects.execute(
            """INSERT INTO everlog_mark AS m VALUES (?, ?, 1)
            ON CONFLICT (processor, position) DO UPDATE SET number = m.number + 1 RETURNING number""",
            (partition, position),
        )
        return int(number)

    def clear(self, effects: Effects, partition: str, upto: int) -> None:
        effects.execute(
            "DELETE FROM everlog_mark WHERE processor = ? AND position > 0 AND position <= ?", (partition, upto)
        )


class PostgresInbox:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def first(self, effects: Effects, consumer: str, incarnation: int, position: int, part: int) -> bool:
        added = effects.execute(
            "INSERT INTO everlog_inbox VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
            (consumer, incarnation, position, part),
        )
        return bool(added)

    def known(self, consumer: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        sql = f"""SELECT position FROM everlog_inbox
            WHERE consumer = ? AND incarnation = ? AND part = {ALL_PARTS} AND position = ANY(?)"""
        return {row[0] for row in self._connections.rows(sql, (consumer, incarnation, int8s(positions)))}

    def remember(self, effects: Effects, consumer: str, incarnation: int, positions: Sequence[int]) -> None:
        sql = f"INSERT INTO everlog_inbox SELECT ?, ?, unnest(?), {ALL_PARTS} ON CONFLICT DO NOTHING"
        effects.execute(sql, (consumer, incarnation, int8s(positions)))


class PostgresReceived:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def keep(self, effects: Effects, processor: str, incarnation: int, events: Sequence[StoredEvent]) -> None:
        positions, packs = int8s([event.position for event in events]), blobs([packed(event) for event in events])
        sql = "INSERT INTO everlog_received SELECT ?, p, ?, e FROM unnest(?, ?) AS t (p, e) ON CONFLICT DO NOTHING"
        effects.execute(sql, (processor, incarnation, positions, packs))

    def find(self, processor: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        sql = "SELECT position FROM everlog_received WHERE processor = ? AND incarnation = ? AND position = ANY(?)"
        return {row[0] for row in self._connections.rows(sql, (processor, incarnation, int8s(positions)))}

    def get(self, processor: str, position: int) -> StoredEvent | None:
        sql = "SELECT event FROM everlog_received WHERE processor = ? AND position = ?"
        found = self._connections.rows(sql, (processor, position))
        return unpacked(found[0][0]) if found else None


class PostgresFeeds:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def get(self, partition: str) -> Feed | None:
        found = self._connections.rows(f"SELECT {FEED} FROM everlog_feed WHERE partition = ?", (partition,))
        return Feed(*found[0]) if found else None

    def put(self, effects: Effects, partition: str, feed: Feed) -> None:
        effects.execute(_PUT_FEED, (partition, *feed))

    def accept(self, processor: str, source: str, incarnation: int, shared: int) -> None:
        values = (processor, source, incarnation, shared)
        *others, partitions = _ACCEPT
        with begun(self._connections, _LOCK, (processor,)) as (connection, _), translated():
            effects = PostgresEffects(connection)
            for statement in others:
                effects.execute(statement, values)
            effects.execute(partitions, (*values, self._clock()))
            commit(connection)


def postgres_desk(connections: Connections, clock: Clock) -> Desk:
    return Desk(
        PostgresLanes(connections, clock),
        PostgresMarks(connections),
        PostgresInbox(connections),
        PostgresReceived(connections),
        PostgresFeeds(connections, clock),
    )


def _lane(row: Sequence[Any]) -> Lane:
    lane = Lane(*row)
    return lane._replace(key=given(lane.key))


def _values(where: LaneFilter) -> list[object]:
    key = None if where.key is None else kept(where.key)
    error = None if where.error is None else shown(where.error)
    return [where.processor, key, key, where.tenant, where.tenant, where.tenant, error, error]
