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
from everlog.subscription.contract import Attendance, Claim, Effects, Kind, Progress, Status
from everlog.subscription.partition import ASIDE, BESIDE, first_of, partition_name, refuse_fed, to_divide, to_exchange

_PROGRESS = """SELECT name, kind, version, position, status, epoch,
    CASE WHEN lease_boot = ? AND lease_until > ? THEN owner ELSE '' END, error, failed_position, moved_at,
    subscription, part, parts, until, build
    FROM everlog_subscription"""
_REGISTER = """
    INSERT INTO everlog_subscription
    VALUES (?1, ?2, ?3, ?4, NULL, ?5, ?6, ?7, ?8, ?9, ?10, '', '', 0, '', 0, ?10, 0)"""
_ANEW = """
    UPDATE everlog_subscription SET position = ?2, epoch = epoch + 1, owner = '', lease_until = 0, status = 'running',
        error = '', failed_position = 0, moved_at = ?3, anew = (part = 0)
    WHERE subscription = ?1 AND until IS NULL"""
_GO_BACK = """
    UPDATE everlog_subscription SET position = ?, moved_at = ?, epoch = epoch + 1, owner = '', lease_until = 0
    WHERE name = ? AND epoch = ?"""
# Its own partitions wait for those that end, and for the first of them to clear what was sent back.
_CLAIM = """
    UPDATE everlog_subscription AS s SET epoch = epoch + 1, owner = ?2, lease_boot = ?3, lease_until = ?4
    WHERE name = ?1 AND status = 'running' AND (owner = ?2 OR lease_boot <> ?3 OR lease_until <= ?5)
        AND (SELECT closed FROM everlog_log) = ''
        AND NOT EXISTS (SELECT 1 FROM everlog_subscription o WHERE o.subscription = s.subscription
            AND (s.until IS NULL AND o.until IS NOT NULL OR s.part > 0 AND o.part = 0 AND o.anew))
    RETURNING name, epoch, position, version, anew, build, until"""
_RENEW = """
    UPDATE everlog_subscription SET lease_boot = ?, lease_until = ?
    WHERE name = ? AND epoch = ? AND status = 'running'
    RETURNING until"""
_MOVE = """
    UPDATE everlog_subscription SET position = ?1, moved_at = ?2, anew = 0
    WHERE name = ?3 AND epoch = ?4 AND position <= ?1 AND status = 'running'
        AND (until IS NULL OR max(?1, ?5) <= until)"""
_RENAME = """
    UPDATE everlog_subscription SET subscription = ?2, name = ?2 || substr(name, length(?1) + 1), epoch = ?3,
        owner = '', lease_until = 0
    WHERE subscription = ?1"""
_SET_STATUS = """
    UPDATE everlog_subscription SET status = ?1, error = ?2, failed_position = ?3, moved_at = ?4,
        owner = '', lease_until = 0, epoch = epoch + 1
    WHERE CASE WHEN ?6 IS NULL THEN subscription = ?5 ELSE name = ?5 AND epoch = ?6 END"""


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

    def register(self, name: str, kind: Kind, version: int, start: int, *, parts: int = 1) -> Progress:
        with self._writing() as connection:
            known = connection.execute("SELECT version FROM everlog_subscription WHERE subscription = ?", (name,))
            row = known.fetchone()
            if row is None:
                family = [(name.rstrip(BESIDE) + suffix) for suffix in ("", *BESIDE)]
                # Nor a number under which an inline projection of that name has kept its states.
                sql = f"""SELECT 1 + max(
                    (SELECT coalesce(max(build), 0) FROM everlog_subscription
                        WHERE subscription IN ({", ".join("?" * len(family))})),
                    (SELECT coalesce(max(version), 0) FROM everlog_fold WHERE projection = ?))"""
                [(build,)] = connection.execute(sql, (*family, family[0])).fetchall()
                self._insert(connection, name, parts, build=build, kind=kind, version=version, position=start)
            elif row[0] != version:
                self._send_back(connection, name, start)
                values = (version, kind, name)
                connection.execute(
                    "UPDATE everlog_subscription SET version = ?, kind = ? WHERE subscription = ?", values
                )
        return first_of(name, self.progress())

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        boot, now = self._lease_clock()
        values = (name, owner, boot, now + _micros(lease_seconds), now)
        with self._writing() as connection:
            claimed = connection.execute(_CLAIM, values).fetchall()
        if not claimed:
            return None
        name, epoch, position, version, anew, build, until = claimed[0]
        return Claim(name, epoch, position, version, bool(anew), build, until, lease_seconds)

    def renew(self, claim: Claim, lease_seconds: float) -> Claim | None:
        boot, now = self._lease_clock()
        with self._writing() as connection:
            values = (boot, now + _micros(lease_seconds), claim.name, claim.epoch)
            renewed = connection.execute(_RENEW, values).fetchall()
        return claim._replace(until=renewed[0][0]) if renewed else None

    def divide(self, name: str, parts: int) -> None:
        with self._writing() as connection:
            rows = connection.execute(f"{_PROGRESS} WHERE subscription = ?", ("", 0, name)).fetchall()
            old = to_divide(name, [Progress(*row) for row in rows], parts)
            if old is None:
                return
            marks = ", ".join("?" * len(rows))
            fed = connection.execute(
                f"SELECT 1 FROM everlog_feed WHERE partition IN ({marks})", [row[0] for row in rows]
            ).fetchone()
            refuse_fed(name, fed)
            [(head,)] = connection.execute("SELECT position FROM everlog_log").fetchall()
            end = max(head, old.position)
            connection.execute("UPDATE everlog_subscription SET until = ? WHERE subscription = ?", (end, name))
            self._insert(
                connection, name, parts, build=old.build, kind=old.kind, version=old.version, position=end,
                status=old.status,
            )  # fmt: skip

    def retire(self, claim: Claim) -> None:
        with self._writing() as connection:
            gone = connection.execute(
                "DELETE FROM everlog_subscription WHERE name = ? AND epoch = ? AND position = until",
                (claim.name, claim.epoch),
            )
            if gone.rowcount:
                connection.execute("DELETE FROM everlog_mark WHERE processor = ?", (claim.name,))

    def attend(self, name: str, owner: str, lease_seconds: float) -> Attendance:
        boot, now = self._lease_clock()
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO everlog_attendance VALUES (?, ?, ?, ?)",
                (name, owner, boot, now + _micros(lease_seconds)),
            )
            connection.execute("DELETE FROM everlog_attendance WHERE boot <> ? OR until <= ?", (boot, now))
            sql = "SELECT count(*), count(*) FILTER (WHERE owner < ?) FROM everlog_attendance WHERE subscription = ?"
            return Attendance(*connection.execute(sql, (owner, name)).fetchone())

    def leave(self, claim: Claim) -> None:
        with self._writing() as connection:
            connection.execute(
                "UPDATE everlog_subscription SET owner = '', lease_until = 0 WHERE name = ? AND epoch = ?",
                (claim.name, claim.epoch),
            )

    @contextmanager
    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> Iterator[SqliteEffects]:
        with _their_errors(), translated(), self._connections.committing() as connection:
            # The fence comes first: an owner that lost it runs no user code, and holds the lock until COMMIT anyway.
            values = (position, self._clock(), claim.name, claim.epoch, upto)
            moved = connection.execute(_MOVE, values).rowcount
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
        with self._writing() as connection:
            values = (status, error, position, self._clock(), name, epoch)
            return connection.execute(_SET_STATUS, values).rowcount > 0

    def reset(self, name: str, position: int = 0) -> None:
        with self._writing() as connection:
            if not self._send_back(connection, name, position):
                raise NotFound(f"there is no subscription {name!r}")

    def go_back(self, claim: Claim, position: int) -> None:
        with self._writing() as connection:
            if not connection.execute(_GO_BACK, (position, self._clock(), claim.name, claim.epoch)).rowcount:
                raise Fenced(claim.name, claim.epoch)

    def exchange(
        self, name: str, other: str, kept: str = "", within: Callable[[Effects], None] = lambda effects: None
    ) -> bool:
        with _their_errors(), self._writing() as connection:
            rows = connection.execute(f"{_PROGRESS} WHERE subscription IN (?, ?)", ("", 0, name, other)).fetchall()
            if not to_exchange(name, other, [Progress(*row) for row in rows]):
                return False
            # Names change hands, so no epoch that either row ever had may fit the other.
            epoch = 1 + max(row[5] for row in rows)
            for old, new in ((name, ASIDE), (other, name), (ASIDE, kept or other)):
                connection.execute(_RENAME, (old, new, epoch))
            within(SqliteEffects(connection))
        return True

    def forget(self, name: str, within: Callable[[Effects, int], None] = lambda effects, build: None) -> None:
        sql = "DELETE FROM everlog_subscription WHERE subscription = ? RETURNING build"
        with self._writing() as connection:
            for build in {build for (build,) in connection.execute(sql, (name,)).fetchall()}:
                within(SqliteEffects(connection), build)

    def build(self, names: Sequence[str], version: int) -> int | None:
        sql = f"""SELECT subscription, build FROM everlog_subscription
            WHERE subscription IN ({", ".join("?" * len(names))}) AND version = ?"""
        found = dict(self._connections.rows(sql, (*names, version)))
        return next((found[name] for name in names if name in found), None)

    def progress(self) -> list[Progress]:
        found = self._connections.rows(f"{_PROGRESS} ORDER BY subscription, part, name", self._lease_clock())
        return [Progress(*row) for row in found]

    def _insert(
        self,
        connection: Connection,
        name: str,
        parts: int,
        *,
        build: int,
        kind: Kind,
        version: int,
        position: int,
        status: Status = "running",
    ) -> None:
        for part in range(parts):
            row = (partition_name(name, part, parts), name, part, parts, build, kind, version, position, status)
            connection.execute(_REGISTER, (*row, self._clock()))

    def _send_back(self, connection: Connection, name: str, position: int) -> bool:
        """What was to end, while it was divided anew, ends here."""
        ended = "DELETE FROM everlog_subscription WHERE subscription = ? AND until IS NOT NULL"
        connection.execute(ended, (name,))
        return connection.execute(_ANEW, (name, position, self._clock())).rowcount > 0

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(), self._connections.committing() as connection:
            yield connection


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)
