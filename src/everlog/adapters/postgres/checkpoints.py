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
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.transactions import begun, commit, written
from everlog.adapters.postgres.translate import TROUBLE, unavailable
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import EverlogError, Fenced, InvalidInput, NotFound
from everlog.subscription.contract import Claim, Kind, Progress, Status

LeaseClock = Callable[[], tuple[str, int]]
"""A test's clock in place of the database's; of what it says only the microseconds count."""

_PATIENCE = 1.0
_NOW = "coalesce(?::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
_FREE = "owner = '', lease_until = 0, epoch = epoch + 1"

_REGISTER = """
    INSERT INTO everlog_subscription AS s VALUES (?, ?, ?, ?, 'running', 0, '', 0, '', 0, ?, false)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, position = excluded.position, kind = excluded.kind,
        status = 'running', error = '', failed_position = 0, epoch = s.epoch + 1, owner = '', lease_until = 0,
        moved_at = excluded.moved_at, anew = true
    WHERE s.version <> excluded.version
    RETURNING 1"""
_CLAIM = f"""
    UPDATE everlog_subscription SET epoch = epoch + 1, owner = ?, lease_until = {_NOW} + ?
    WHERE name = ? AND status = 'running' AND (owner = ? OR lease_until <= {_NOW})
        AND (SELECT closed FROM everlog_log) = ''
    RETURNING name, epoch, position, version, anew"""
_RENEW = f"""
    UPDATE everlog_subscription SET lease_until = {_NOW} + ? WHERE name = ? AND epoch = ? AND status = 'running'
    RETURNING 1"""
_LEAVE = "UPDATE everlog_subscription SET owner = '', lease_until = 0 WHERE name = ? AND epoch = ? RETURNING 1"
_MOVE = """
    UPDATE everlog_subscription SET position = ?, moved_at = ?, anew = false
    WHERE name = ? AND epoch = ? AND position <= ? AND status = 'running'
    RETURNING 1"""
_SET_STATUS = f"""
    UPDATE everlog_subscription SET status = ?, error = ?, failed_position = ?, moved_at = ?, {_FREE}
    WHERE name = ? AND (?::bigint IS NULL OR epoch = ?)
    RETURNING 1"""
_RESET = f"""
    UPDATE everlog_subscription SET position = ?, status = 'running', error = '', failed_position = 0, moved_at = ?,
        anew = true, {_FREE}
    WHERE name = ?
    RETURNING 1"""
_PROGRESS = f"""
    SELECT name, kind, version, position, status, epoch, CASE WHEN lease_until > {_NOW} THEN owner ELSE '' END, error,
        failed_position, moved_at
    FROM everlog_subscription ORDER BY name"""


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

    def register(self, name: str, kind: Kind, version: int, start: int) -> Progress:
        written(self._connections, _REGISTER, (name, kind, version, start, self._clock()))
        return next(progress for progress in self.progress() if progress.name == name)

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        now = self._now()
        values = (owner, now, _micros(lease_seconds), name, owner, now)
        # Whoever keeps the row locked is moving it, or stands still there: either way it is not free.
        claimed = written(self._connections, _CLAIM, values, patience=_PATIENCE)
        return Claim(*claimed[0]) if claimed else None

    def renew(self, claim: Claim, lease_seconds: float) -> bool:
        values = (self._now(), _micros(lease_seconds), claim.name, claim.epoch)
        return bool(written(self._connections, _RENEW, values))

    def leave(self, claim: Claim) -> None:
        written(self._connections, _LEAVE, (claim.name, claim.epoch))

    @contextmanager
    def transaction(self, claim: Claim, position: int) -> Iterator[PostgresEffects]:
        move = (position, self._clock(), claim.name, claim.epoch, position)
        # The fence comes first: an owner that lost it runs no user code, and holds the row's lock until COMMIT anyway.
        with begun(self._connections, _MOVE, move) as (connection, moved):
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
        values = (status, shown(error), position, self._clock(), name, epoch, epoch)
        return bool(written(self._connections, _SET_STATUS, values))

    def reset(self, name: str, position: int = 0) -> None:
        if not written(self._connections, _RESET, (position, self._clock(), name)):
            raise NotFound(f"there is no subscription {name!r}")

    def progress(self) -> list[Progress]:
        return [Progress(*row) for row in self._connections.rows(_PROGRESS, (self._now(),))]

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
