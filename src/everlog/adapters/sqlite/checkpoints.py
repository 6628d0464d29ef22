"""`Checkpoints` on the log's own file: lease, fence, effect and checkpoint share its transactions."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from everlog.adapters.sqlite.connections import Connections, unavailable
from everlog.adapters.sqlite.translate import translated
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import Fenced, InvalidInput, NotFound
from everlog.subscription.contract import Claim, Kind, Progress, Status

_PROGRESS = """SELECT name, kind, version, position, status, epoch,
    CASE WHEN lease_boot = ? AND lease_until > ? THEN owner ELSE '' END, error, failed_position, moved_at
    FROM everlog_subscription"""


# A full disk or a busy file, not a mistake in a statement: to be waited out.
_TROUBLE = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
})  # fmt: skip


class _Theirs(Exception):
    """An error of the user's own SQL, on its way past the translation of ours."""


@contextmanager
def _their_errors() -> Iterator[None]:
    try:
        yield
    except _Theirs as wrapped:
        raise wrapped.args[0] from None


LeaseClock = Callable[[], tuple[str, int]]


def boot_clock() -> tuple[str, int]:
    """Which run of this machine, and microseconds since it began: all processes agree, and no clock jump moves it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    except (OSError, AttributeError):  # not Linux: the monotonic clock is the machine's there too
        return "", time.monotonic_ns() // 1000


class SqliteEffects:
    """The open transaction; `connection` is for an ORM, and must not be committed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if _is_trouble(error):
                raise unavailable(error) from error
            raise


def _is_trouble(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _TROUBLE


class SqliteCheckpoints:
    def __init__(
        self,
        connections: Connections,
        clock: Clock,
        lease_clock: LeaseClock = boot_clock,
        crash: CrashPoint = nothing,
    ) -> None:
        self._connections, self._clock, self._lease_clock, self._crash = connections, clock, lease_clock, crash

    def register(self, name: str, kind: Kind, version: int, start: int) -> Progress:
        sql = """INSERT INTO everlog_subscription VALUES (?1, ?2, ?3, ?4, 'running', 0, '', '', 0, '', 0, ?5, 0)
            ON CONFLICT (name) DO UPDATE SET version = ?3, position = ?4, kind = ?2, status = 'running', error = '',
                failed_position = 0, epoch = epoch + 1, owner = '', lease_until = 0, moved_at = ?5, anew = 1
            WHERE version <> ?3"""
        with self._writing() as connection:
            connection.execute(sql, (name, kind, version, start, self._clock()))
        return next(progress for progress in self.progress() if progress.name == name)

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        boot, now = self._lease_clock()
        sql = """UPDATE everlog_subscription
            SET epoch = epoch + 1, owner = ?2, lease_boot = ?3, lease_until = ?4
            WHERE name = ?1 AND status = 'running' AND (owner = ?2 OR lease_boot <> ?3 OR lease_until <= ?5)
                AND (SELECT closed FROM everlog_log) = ''"""
        with self._writing() as connection:
            until = now + int(lease_seconds * 1_000_000)
            if not connection.execute(sql, (name, owner, boot, until, now)).rowcount:
                return None
            name, epoch, position, version, anew = connection.execute(
                "SELECT name, epoch, position, version, anew FROM everlog_subscription WHERE name = ?", (name,)
            ).fetchone()
        return Claim(name, epoch, position, version, bool(anew))

    def renew(self, claim: Claim, lease_seconds: float) -> bool:
        boot, now = self._lease_clock()
        sql = """UPDATE everlog_subscription SET lease_boot = ?, lease_until = ?
            WHERE name = ? AND epoch = ? AND status = 'running'"""
        with self._writing() as connection:
            values = (boot, now + int(lease_seconds * 1_000_000), claim.name, claim.epoch)
            return connection.execute(sql, values).rowcount == 1

    def leave(self, claim: Claim) -> None:
        with self._writing() as connection:
            connection.execute(
                "UPDATE everlog_subscription SET owner = '', lease_until = 0 WHERE name = ? AND epoch = ?",
                (claim.name, claim.epoch),
            )

    @contextmanager
    def transaction(self, claim: Claim, position: int) -> Iterator[SqliteEffects]:
        sql = """UPDATE everlog_subscription SET position = ?, moved_at = ?, anew = 0
            WHERE name = ? AND epoch = ? AND position <= ? AND status = 'running'"""
        with _their_errors(), translated(), self._connections.committing() as connection:
            # The fence comes first: an owner that lost it runs no user code, and holds the lock until COMMIT anyway.
            moved = connection.execute(sql, (position, self._clock(), claim.name, claim.epoch, position)).rowcount
            if not moved:
                raise Fenced(claim.name, claim.epoch)
            try:
                yield SqliteEffects(connection)
            except sqlite3.Error as error:
                if _is_trouble(error):
                    raise
                raise _Theirs(error) from error
            if not connection.in_transaction:
                raise InvalidInput(f"{claim.name!r} ended the transaction itself: leave COMMIT and ROLLBACK to everlog")
            self._crash("checkpoint.before_commit")
        self._crash("checkpoint.after_commit")

    def set_status(
        self, name: str, status: Status, *, error: str = "", position: int = 0, epoch: int | None = None
    ) -> bool:
        sql = """UPDATE everlog_subscription SET status = ?, error = ?, failed_position = ?, moved_at = ?,
            owner = '', lease_until = 0, epoch = epoch + 1 WHERE name = ? AND (? IS NULL OR epoch = ?)"""
        with self._writing() as connection:
            values = (status, error, position, self._clock(), name, epoch, epoch)
            return connection.execute(sql, values).rowcount == 1

    def reset(self, name: str, position: int = 0) -> None:
        sql = """UPDATE everlog_subscription SET position = ?, epoch = epoch + 1, owner = '', lease_until = 0,
            status = 'running', error = '', failed_position = 0, moved_at = ?, anew = 1 WHERE name = ?"""
        with self._writing() as connection:
            if not connection.execute(sql, (position, self._clock(), name)).rowcount:
                raise NotFound(f"there is no subscription {name!r}")

    def progress(self) -> list[Progress]:
        return [Progress(*row) for row in self._connections.rows(f"{_PROGRESS} ORDER BY name", self._lease_clock())]

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(), self._connections.committing() as connection:
            yield connection
