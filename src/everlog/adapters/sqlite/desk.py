"""Lanes, marks, inbox and what came from brokers, on the log's own file."""

from collections.abc import Iterable, Iterator, Sequence

from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.translate import translated
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
_MATCHING = """processor = ? AND (? IS NULL OR key = ?) AND (? IS NULL OR key >= ? || '/' AND key < ? || '0')
    AND (? IS NULL OR instr(error, ?) > 0)"""

_RETRY = """
    UPDATE everlog_lane SET
        status = CASE WHEN ?2 IS NULL OR key = ?2 THEN 'retrying' ELSE 'waiting' END,
        waits_for = CASE WHEN key = ?2 THEN NULL ELSE ?2 END,
        attempts = 0, next_at = 0
    WHERE processor = ?1 AND (?3 IS NULL OR key = ?3)
        AND (?4 IS NULL OR key >= ?4 || '/' AND key < ?4 || '0') AND (?5 IS NULL OR instr(error, ?5) > 0)"""
_TAKE = "DELETE FROM everlog_parked WHERE processor = ? AND key = ? AND position = ?"
_INTO_INBOX = f"""INSERT INTO everlog_inbox
    SELECT processor, incarnation, position, {ALL_PARTS} FROM everlog_received WHERE processor = ? AND position = ?
    ON CONFLICT DO NOTHING"""
_FORGET = "DELETE FROM everlog_received WHERE processor = ? AND position = ?"
_CLOSE = "DELETE FROM everlog_lane WHERE processor = ? AND key = ?"
_BEGIN = """
    UPDATE everlog_lane SET attempts = attempts + 1
    WHERE processor = ?1 AND key = ?2 AND status = 'retrying'
        AND ?3 = (SELECT min(position) FROM everlog_parked WHERE processor = ?1 AND key = ?2)
    RETURNING attempts"""
# Whatever a person does to a lane sets its attempts to 0.
_FAILED = """
    UPDATE everlog_lane SET status = ?4, attempts = ?5, next_at = ?6, error = ?7
    WHERE processor = ?1 AND key = ?2 AND attempts = ?3
    RETURNING 1"""
_TRY_REST = """UPDATE everlog_lane SET status = 'retrying', attempts = 0, next_at = 0, waits_for = NULL
    WHERE processor = ? AND key = ?"""
_LET_WAITING_GO = """UPDATE everlog_lane SET status = 'retrying', next_at = 0, waits_for = NULL
    WHERE processor = ? AND waits_for = ?"""
# A canary may itself wait for another one, so those behind it are found step by step.
_PARK_WAITING = """
    WITH RECURSIVE behind (key) AS (
        SELECT ?2 UNION SELECT l.key FROM everlog_lane l JOIN behind b ON l.waits_for = b.key WHERE l.processor = ?1)
    UPDATE everlog_lane SET status = 'parked', waits_for = NULL
    WHERE processor = ?1 AND waits_for IN (SELECT key FROM behind)"""
# What a person says of a log that began anew (?1 processor, ?2 source, ?3 incarnation, ?4 shared).
_FED = "SELECT f.incarnation FROM everlog_feed f JOIN everlog_subscription s ON s.name = f.partition"
_ACCEPT = (
    f"""DELETE FROM everlog_inbox WHERE consumer = ?1 AND incarnation = ?3 AND position > ?4
        AND EXISTS ({_FED} WHERE s.subscription = ?1 AND f.source <> ?2)""",
    # Below the first checkpoint nobody asks for it.
    f"""INSERT INTO everlog_inbox SELECT consumer, ?3, position, part FROM everlog_inbox
        WHERE consumer = ?1 AND incarnation IN ({_FED} WHERE s.subscription = ?1) AND position <= ?4
            AND position > (SELECT min(position) FROM everlog_subscription WHERE subscription = ?1)
        ON CONFLICT DO NOTHING""",
    f"""UPDATE everlog_received SET incarnation = ?3
        WHERE processor = ?1 AND position <= ?4 AND incarnation IN ({_FED} WHERE s.subscription = ?1)""",
    """UPDATE everlog_feed AS f SET source = ?2, incarnation = ?3, floor = min(?4, max(s.position, f.floor)),
            shared = ?4, position = min(?4, s.position)
        FROM everlog_subscription s WHERE s.name = f.partition AND s.subscription = ?1""",
    """UPDATE everlog_subscription SET position = min(?4, position), status = 'running', error = '',
            failed_position = 0, epoch = epoch + 1, owner = '', lease_until = 0, moved_at = ?5
        WHERE subscription = ?1""",
)


class SqliteLanes:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def open(self, processor: str, keys: Iterable[str]) -> set[str]:
        wanted = list(keys)
        found: set[str] = set()
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            sql = f"SELECT key FROM everlog_lane WHERE processor = ? AND key IN ({', '.join('?' * len(page))})"
            found.update(row[0] for row in self._connections.rows(sql, [processor, *page]))
        return found

    def due(self, processor: str, now: int, limit: int, keys: Slice = ALL_KEYS) -> list[Lane]:
        sql = f"""{_LANE} WHERE processor = ? AND status = 'retrying' AND next_at <= ? AND hash % ? = ?
            ORDER BY next_at LIMIT ?"""
        values = (processor, now, keys.parts, keys.part, limit)
        return [Lane(*row) for row in self._connections.rows(sql, values)]

    def positions(self, processor: str, key: str, limit: int) -> list[int]:
        sql = "SELECT position FROM everlog_parked WHERE processor = ? AND key = ? ORDER BY position LIMIT ?"
        return [row[0] for row in self._connections.rows(sql, (processor, key, limit))]

    def totals(self, processor: str) -> tuple[int, int]:
        sql = """SELECT (SELECT count(*) FROM everlog_lane WHERE processor = ?1),
            (SELECT count(*) FROM everlog_parked WHERE processor = ?1)"""
        lanes, events = self._connections.rows(sql, (processor,))[0]
        return lanes, events

    def find(self, where: LaneFilter) -> Iterator[Lane]:
        after = ""
        while page := self._connections.rows(
            f"{_LANE} WHERE {_MATCHING} AND key > ? ORDER BY key LIMIT {_PAGE}", [*_values(where), after]
        ):
            yield from map(Lane._make, page)
            after = page[-1][1]

    def park(self, effects: Effects, processor: str, key: str, positions: Sequence[int]) -> None:
        rows = [(processor, key, position) for position in positions]
        if not positions:
            return
        effects.execute(
            "INSERT INTO everlog_lane VALUES (?, ?, ?, 'retrying', 0, 0, '', ?, NULL) ON CONFLICT DO NOTHING",
            (processor, key, key_hash(key), self._clock()),
        )
        effects.connection.executemany("INSERT OR IGNORE INTO everlog_parked VALUES (?, ?, ?)", rows)

    def set(
        self, effects: Effects, processor: str, key: str, status: LaneStatus, attempts: int, next_at: int, error: str
    ) -> None:
        effects.execute(
            """INSERT INTO everlog_lane VALUES (?1, ?2, ?8, ?3, ?4, ?5, ?6, ?7, NULL)
            ON CONFLICT (processor, key) DO UPDATE SET status = ?3, attempts = ?4, next_at = ?5, error = ?6""",
            (processor, key, status, attempts, next_at, error, self._clock(), key_hash(key)),
        )
        if status == "parked":
            effects.execute(_PARK_WAITING, (processor, key))

    def begin(self, effects: Effects, processor: str, key: str, position: int) -> int:
        begun = effects.execute(_BEGIN, (processor, key, position))
        return int(begun[0][0]) if begun else 0

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
        stands = bool(effects.execute(_FAILED, (processor, key, attempt, status, attempts, next_at, error)))
        if stands and status == "parked":
            effects.execute(_PARK_WAITING, (processor, key))
        return stands

    def done(self, effects: Effects, processor: str, key: str, position: int) -> bool:
        values = (processor, key)
        effects.execute(_TAKE, (*values, position))
        for statement in (_INTO_INBOX, _FORGET):
            effects.execute(statement, (processor, position))
        if effects.execute("SELECT 1 FROM everlog_parked WHERE processor = ? AND key = ? LIMIT 1", values):
            effects.execute("UPDATE everlog_lane SET attempts = 0 WHERE processor = ? AND key = ?", values)
            return False
        effects.execute(_CLOSE, values)
        effects.execute(_LET_WAITING_GO, values)
        return True

    def retry(self, where: LaneFilter, *, canary: bool) -> int:
        with translated(), self._connections.committing() as connection:
            # In one transaction: the canary may be worked off at this moment, and the others would wait for ever.
            first = connection.execute(f"{_LANE} WHERE {_MATCHING} ORDER BY key LIMIT 1", _values(where)).fetchone()
            if first is None:
                return 0
            values = [where.processor, Lane(*first).key if canary else None, where.key, where.tenant, where.error]
            return connection.execute(_RETRY, values).rowcount

    def skip(self, processor: str, key: str, position: int) -> None:
        values = (processor, key)
        with translated(), self._connections.committing() as connection:
            found = connection.execute(f"{_LANE} WHERE processor = ? AND key = ?", values).fetchone()
            if found is None:
                raise NotFound(f"processor {processor!r} has no lane {key!r}: everlog dlq list shows them")
            lane = Lane(*found)
            if lane.status == "retrying":
                raise InvalidInput(f"lane {key!r} is being tried now: wait until it is parked again")
            if lane.first != position:
                raise InvalidInput(
                    f"lane {key!r} begins with the event at {lane.first} by now, not {position}: look again"
                )
            connection.execute(_TAKE, (*values, position))
            for statement in (_INTO_INBOX, _FORGET):
                connection.execute(statement, (processor, position))
            for statement in (_TRY_REST,) if lane.depth > 1 else (_CLOSE, _LET_WAITING_GO):
                connection.execute(statement, values)


class SqliteMarks:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def mark(self, effects: Effects, partition: str, upto: int) -> None:
        effects.execute(
            "INSERT INTO everlog_mark VALUES (?1, 0, ?2) ON CONFLICT (processor, position) DO UPDATE SET number = ?2",
            (partition, upto),
        )

    def marked(self, partition: str) -> int:
        found = self._connections.rows(
            "SELECT number FROM everlog_mark WHERE processor = ? AND position = 0", (partition,)
        )
        return found[0][0] if found else 0

    def attempt(self, effects: Effects, partition: str, position: int) -> int:
        [(number,)] = effects.execute(
            """INSERT INTO everlog_mark VALUES (?, ?, 1)
            ON CONFLICT (processor, position) DO UPDATE SET number = number + 1 RETURNING number""",
            (partition, position),
        )
        return int(number)

    def clear(self, effects: Effects, partition: str, upto: int) -> None:
        effects.execute(
            "DELETE FROM everlog_mark WHERE processor = ? AND position > 0 AND position <= ?", (partition, upto)
        )


class SqliteInbox:
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
            WHERE consumer = ? AND incarnation = ? AND part = {ALL_PARTS} AND position IN"""
        return _found(self._connections, sql, (consumer, incarnation), positions)

    def remember(self, effects: Effects, consumer: str, incarnation: int, positions: Sequence[int]) -> None:
        rows = [(consumer, incarnation, position, ALL_PARTS) for position in positions]
        effects.connection.executemany("INSERT OR IGNORE INTO everlog_inbox VALUES (?, ?, ?, ?)", rows)


class SqliteReceived:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def keep(self, effects: Effects, processor: str, incarnation: int, events: Sequence[StoredEvent]) -> None:
        rows = [(processor, event.position, incarnation, packed(event)) for event in events]
        effects.connection.executemany("INSERT OR IGNORE INTO everlog_received VALUES (?, ?, ?, ?)", rows)

    def find(self, processor: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        sql = "SELECT position FROM everlog_received WHERE processor = ? AND incarnation = ? AND position IN"
        return _found(self._connections, sql, (processor, incarnation), positions)

    def get(self, processor: str, position: int) -> StoredEvent | None:
        sql = "SELECT event FROM everlog_received WHERE processor = ? AND position = ?"
        found = self._connections.rows(sql, (processor, position))
        return unpacked(found[0][0]) if found else None


class SqliteFeeds:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def get(self, partition: str) -> Feed | None:
        found = self._connections.rows(f"SELECT {FEED} FROM everlog_feed WHERE partition = ?", (partition,))
        return Feed(*found[0]) if found else None

    def put(self, effects: Effects, partition: str, feed: Feed) -> None:
        effects.execute("INSERT OR REPLACE INTO everlog_feed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (partition, *feed))

    def accept(self, processor: str, source: str, incarnation: int, shared: int) -> None:
        values, (*others, partitions) = (processor, source, incarnation, shared), _ACCEPT
        with translated(), self._connections.committing() as connection:
            for statement in others:
                connection.execute(statement, values)
            connection.execute(partitions, (*values, self._clock()))


def sqlite_desk(connections: Connections, clock: Clock) -> Desk:
    return Desk(
        SqliteLanes(connections, clock),
        SqliteMarks(connections),
        SqliteInbox(connections),
        SqliteReceived(connections),
        SqliteFeeds(connections, clock),
    )


def _found(connections: Connections, sql: str, values: Sequence[object], positions: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(positions), _PAGE):
        page = positions[start : start + _PAGE]
        found.update(row[0] for row in connections.rows(f"{sql} ({', '.join('?' * len(page))})", [*values, *page]))
    return found


def _values(where: LaneFilter) -> list[object]:
    tenant, error = where.tenant, where.error
    return [where.processor, where.key, where.key, tenant, tenant, tenant, error, error]
