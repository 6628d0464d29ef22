"""`Checkpoints` in the log's own database: lease, fence, effect and checkpoint share its transactions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.errors import UniqueViolation
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.nul import shown
from everlog.adapters.postgres.packed import texts
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.transactions import begun, commit, written
from everlog.adapters.postgres.translate import TROUBLE, translated, unavailable
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import EverlogError, Fenced, InvalidInput, NotFound
from everlog.subscription.contract import Attendance, Claim, Effects, Kind, Progress, Status
from everlog.subscription.partition import ASIDE, BESIDE, first_of, partition_name, refuse_fed, to_divide, to_exchange

LeaseClock = Callable[[], tuple[str, int]]
"""A test's clock in place of the database's; of what it says only the microseconds count."""

_PATIENCE = 1.0
SHORTEST_FROZEN_SECONDS = 2.0
_NOW = "coalesce(?::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
_FREE = "owner = '', lease_until = 0, epoch = epoch + 1"

# Two that register at once with different numbers of partitions would make both.
_LOCK = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended('everlog ' || ?::text, 0))"
_REGISTER = """
    INSERT INTO everlog_subscription
    SELECT name, ?::text, part - 1, ?::bigint, NULL::bigint,
        1 + greatest((SELECT max(build) FROM everlog_subscription WHERE subscription = ANY(?)),
            (SELECT max(version) FROM everlog_fold WHERE projection = ?), 0),
        ?::text, ?::bigint, ?::bigint, 'running', ?::bigint, '', 0, '', 0, ?, false
    FROM unnest(?::text[]) WITH ORDINALITY AS made (name, part)
    WHERE NOT EXISTS (SELECT FROM everlog_subscription WHERE subscription = ?)
    ON CONFLICT DO NOTHING
    RETURNING 1"""
_SEND_BACK = f"""
    WITH ended AS (DELETE FROM everlog_subscription WHERE subscription = ? AND until IS NOT NULL)
    UPDATE everlog_subscription SET position = ?, status = 'running', error = '', failed_position = 0, moved_at = ?,
        version = coalesce(?, version), kind = coalesce(?, kind), anew = (part = 0), {_FREE}
    WHERE subscription = ? AND until IS NULL AND version IS DISTINCT FROM ?
    RETURNING 1"""
# Its own partitions wait for those that end, and for the first of them to clear what was sent back.
_CLAIM = f"""
    UPDATE everlog_subscription s SET epoch = epoch + 1, owner = ?, lease_until = {_NOW} + ?
    WHERE name = ? AND status = 'running' AND (owner = ? OR lease_until <= {_NOW})
        AND (SELECT closed FROM everlog_log) = ''
        AND NOT EXISTS (SELECT FROM everlog_subscription o WHERE o.subscription = s.subscription
            AND (s.until IS NULL AND o.until IS NOT NULL OR s.part > 0 AND o.part = 0 AND o.anew))
    RETURNING name, epoch, position, version, anew, build, until"""
_RENEW = f"""
    UPDATE everlog_subscription SET lease_until = {_NOW} + ? WHERE name = ? AND epoch = ? AND status = 'running'
    RETURNING until"""
_GO_BACK = f"""
    UPDATE everlog_subscription SET position = ?, moved_at = ?, {_FREE} WHERE name = ? AND epoch = ? RETURNING 1"""
_LEAVE = "UPDATE everlog_subscription SET owner = '', lease_until = 0 WHERE name = ? AND epoch = ? RETURNING 1"
_DIVIDE = """
    WITH ending AS (UPDATE everlog_subscription SET until = ? WHERE subscription = ?)
    INSERT INTO everlog_subscription
    SELECT name, ?::text, part - 1, ?::bigint, NULL::bigint, ?::bigint, ?::text, ?::bigint, ?::bigint, ?::text,
        ?::bigint, '', 0, '', 0, ?, false
    FROM unnest(?::text[]) WITH ORDINALITY AS made (name, part)"""
_RETIRE = """
    WITH gone AS (DELETE FROM everlog_subscription WHERE name = ? AND epoch = ? AND position = until RETURNING name)
    DELETE FROM everlog_mark USING gone WHERE processor = gone.name
    RETURNING 1"""
_ATTEND = f"""
    WITH others AS (DELETE FROM everlog_attendance WHERE until <= {_NOW} AND (subscription, owner) <> (?, ?)),
    ours AS (INSERT INTO everlog_attendance VALUES (?, ?, {_NOW} + ?)
        ON CONFLICT (subscription, owner) DO UPDATE SET until = excluded.until)
    SELECT count(*), count(*) FILTER (WHERE owner < ?) FROM everlog_attendance
    WHERE subscription = ? AND owner <> ? AND until > {_NOW}"""
_MOVE = """
    UPDATE everlog_subscription s SET position = ?, moved_at = ?, anew = false
    WHERE name = ? AND epoch = ? AND position <= ? AND status = 'running' AND (until IS NULL OR ? <= until)
        AND (part = 0 OR NOT EXISTS (SELECT FROM everlog_subscription o
            WHERE o.subscription = s.subscription AND o.part = 0 AND o.anew))
    RETURNING 1"""
_RENAME = """
    UPDATE everlog_subscription SET subscription = ?, name = ?::text || substr(name, ?), epoch = ?, owner = '',
        lease_until = 0
    WHERE subscription = ?"""
_SET_STATUS = f"""
    UPDATE everlog_subscription SET status = ?, error = ?, failed_position = ?, moved_at = ?, {_FREE}
    WHERE CASE WHEN ?::bigint IS NULL THEN subscription = ? ELSE name = ? AND epoch = ? END
    RETURNING 1"""
_PROGRESS = f"""
    SELECT name, kind, version, position, status, epoch, CASE WHEN lease_until > {_NOW} THEN owner ELSE '' END, error,
        failed_position, moved_at, subscription, part, parts, until, build
    FROM everlog_subscription"""


class PostgresEffects:
    """The open transaction; `connection` is for an ORM, and must not be committed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with self.connection.cursor(row_factory=tuple_row) as cursor:
                cursor.execute(translated_placeholders(sql), values)
                return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as error:
            if _is_trouble(error):
                raise unavailable(error) from error
            raise


class PostgresCheckpoints:
    def __init__(
        self,
        connections: Connections,
        clock: Clock,
        lease_clock: LeaseClock | None = None,
        crash: CrashPoint = nothing,
    ) -> None:
        self._connections, self._clock, self._lease_clock, self._crash = connections, clock, lease_clock, crash

    def register(self, name: str, kind: Kind, version: int, start: int, *, parts: int = 1) -> Progress:
        names = [partition_name(name, part, parts) for part in range(parts)]
        family = texts([name.rstrip(BESIDE) + suffix for suffix in ("", *BESIDE)])
        now = self._clock()
        row = (name, parts, family, name.rstrip(BESIDE), kind, version, start, now, now, texts(names), name)
        with begun(self._connections, _LOCK, (name,)) as (connection, _), translated():
            made = PostgresEffects(connection).execute(_REGISTER, row)
            commit(connection)
        if not made:
            self._send_back(name, start, version, kind)
        return first_of(name, self.progress())

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        now = self._now()
        values = (owner, now, _micros(lease_seconds), name, owner, now)
        # Whoever keeps the row locked is moving it, or stands still there: either way it is not free.
        claimed = written(self._connections, _CLAIM, values, patience=_PATIENCE)
        return Claim(*claimed[0])._replace(lease_seconds=lease_seconds) if claimed else None

    def renew(self, claim: Claim, lease_seconds: float) -> Claim | None:
        values = (self._now(), _micros(lease_seconds), claim.name, claim.epoch)
        renewed = written(self._connections, _RENEW, values)
        return claim._replace(until=renewed[0][0]) if renewed else None

    def divide(self, name: str, parts: int) -> None:
        lock = f"{_PROGRESS} WHERE subscription = ? ORDER BY name FOR NO KEY UPDATE"
        with begun(self._connections, lock, (self._now(), name)) as (connection, rows), translated():
            old = to_divide(name, [Progress(*row) for row in rows], parts)
            if old is None:
                return
            effects = PostgresEffects(connection)
            sql = "SELECT 1 FROM everlog_feed WHERE partition = ANY(?)"
            refuse_fed(name, effects.execute(sql, (texts([row[0] for row in rows]),)))
            # Read once the partitions are locked: what their owners have in hand lies before it.
            [(head,)] = effects.execute("SELECT position FROM everlog_log")
            end = max(head, old.position)
            names = [partition_name(name, part, parts) for part in range(parts)]
            now = self._clock()
            values = (end, name, name, parts, old.build, old.kind, old.version, end, old.status, now, now)
            effects.execute(_DIVIDE, (*values, texts(names)))
            commit(connection)

    def retire(self, claim: Claim) -> None:
        written(self._connections, _RETIRE, (claim.name, claim.epoch))

    def attend(self, name: str, owner: str, lease_seconds: float) -> Attendance:
        now, ours = self._now(), (name, owner)
        values = (now, *ours, *ours, now, _micros(lease_seconds), owner, *ours, now)
        [(others, before)] = written(self._connections, _ATTEND, values)
        return Attendance(others + (lease_seconds > 0), before)

    def leave(self, claim: Claim) -> None:
        written(self._connections, _LEAVE, (claim.name, claim.epoch))

    @contextmanager
    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> Iterator[PostgresEffects]:
        move = (position, self._clock(), claim.name, claim.epoch, position, max(position, upto))
        # The fence comes first: an owner that lost it runs no user code, and holds the row's lock until COMMIT anyway.
        # Longer than the lease nobody waits for who stands still; but a machine that is busy is not frozen.
        frozen_seconds = max(claim.lease_seconds, SHORTEST_FROZEN_SECONDS)
        with begun(self._connections, _MOVE, move, frozen_seconds=frozen_seconds) as (connection, moved):
            if not moved:
                raise Fenced(claim.name, claim.epoch)
            with _their_errors(connection):
                yield PostgresEffects(connection)
            _refuse_ended(connection, claim.name)
            self._crash("checkpoint.before_commit")
            commit(connection)
        self._crash("checkpoint.after_commit")

    def set_status(
        self, name: str, status: Status, *, error: str = "", position: int = 0, epoch: int | None = None
    ) -> bool:
        values = (status, shown(error), position, self._clock(), epoch, name, name, epoch)
        return bool(written(self._connections, _SET_STATUS, values))

    def reset(self, name: str, position: int = 0) -> None:
        if not self._send_back(name, position, None, None):
            raise NotFound(f"there is no subscription {name!r}")

    def go_back(self, claim: Claim, position: int) -> None:
        if not written(self._connections, _GO_BACK, (position, self._clock(), claim.name, claim.epoch)):
            raise Fenced(claim.name, claim.epoch)

    def exchange(
        self, name: str, other: str, kept: str = "", within: Callable[[Effects], None] = lambda effects: None
    ) -> bool:
        lock = f"{_PROGRESS} WHERE subscription IN (?, ?) ORDER BY name FOR UPDATE"
        with begun(self._connections, lock, (self._now(), name, other)) as (connection, rows), translated():
            if not to_exchange(name, other, [Progress(*row) for row in rows]):
                return False
            effects = PostgresEffects(connection)
            # Names change hands, so no epoch that either row ever had may fit the other.
            epoch = 1 + max(row[5] for row in rows)
            for old, new in ((name, ASIDE), (other, name), (ASIDE, kept or other)):
                effects.execute(_RENAME, (new, new, len(old) + 1, epoch, old))
            within(effects)
            commit(connection)
        return True

    def forget(self, name: str, within: Callable[[Effects, int], None] = lambda effects, build: None) -> None:
        sql = "DELETE FROM everlog_subscription WHERE subscription = ? RETURNING build"
        with begun(self._connections, sql, (name,)) as (connection, rows), translated():
            for build in {build for (build,) in rows}:
                within(PostgresEffects(connection), build)
            commit(connection)

    def build(self, names: Sequence[str], version: int) -> int | None:
        sql = "SELECT subscription, build FROM everlog_subscription WHERE subscription = ANY(?) AND version = ?"
        found = dict(self._connections.rows(sql, (texts(names), version)))
        return next((found[name] for name in names if name in found), None)

    def progress(self) -> list[Progress]:
        found = self._connections.rows(f"{_PROGRESS} ORDER BY subscription, part, name", (self._now(),))
        return [Progress(*row) for row in found]

    def _send_back(self, name: str, position: int, version: int | None, kind: Kind | None) -> bool:
        """What was to end, while it was divided anew, ends here. With a `version`, only one that has another."""
        values = (name, position, self._clock(), version, kind, name, version)
        return bool(written(self._connections, _SEND_BACK, values))

    def _now(self) -> int | None:
        """Nothing where the database's clock counts, which no process of ours can set."""
        return None if self._lease_clock is None else self._lease_clock()[1]


@contextmanager
def _their_errors(connection: Connection) -> Iterator[None]:
    """What the block raises passes untouched, unless what began it is trouble, which an ORM tells in words of its own.

    The connection is left as it was lent.
    """
    lent = connection.row_factory, connection.cursor_factory
    try:
        yield
    except EverlogError:
        raise
    except Exception as error:
        if trouble := _trouble(error, connection):
            raise unavailable(trouble) from error
        raise
    finally:
        connection.row_factory, connection.cursor_factory = lent


def _trouble(error: Exception, connection: Connection) -> Exception | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg.Error) and _is_trouble(cause):
            return cause
        cause = cause.__cause__
    return error if connection.broken or connection.closed else None


def _is_trouble(error: psycopg.Error) -> bool:
    """Also when two make the same table at once: `IF NOT EXISTS` does not spare the second one an error."""
    made_at_once = isinstance(error, UniqueViolation) and error.diag.schema_name == "pg_catalog"
    return made_at_once or isinstance(error, TROUBLE)


def _refuse_ended(connection: Connection, name: str) -> None:
    match connection.info.transaction_status:
        case TransactionStatus.INTRANS:
            return
        case TransactionStatus.INERROR:  # its COMMIT would roll back, and say nothing
            raise InvalidInput(
                f"{name!r} passed over the error of a statement, after which PostgreSQL keeps nothing of it: "
                "put what may fail into `with tx.connection.transaction():`"
            )
        case _:
            raise InvalidInput(f"{name!r} ended the transaction itself: leave COMMIT and ROLLBACK to everlog")


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)
