"""`Store` on one SQLite file."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice

from everlog.adapters.sqlite.append import close_group, open_group
from everlog.adapters.sqlite.checkpoints import LeaseClock, SqliteCheckpoints, boot_clock
from everlog.adapters.sqlite.connections import Connections, outcome_unknown
from everlog.adapters.sqlite.desk import sqlite_desk
from everlog.adapters.sqlite.exact import SqliteExact
from everlog.adapters.sqlite.examine import examine
from everlog.adapters.sqlite.folds import SqliteFoldStates
from everlog.adapters.sqlite.inline import put_in_force
from everlog.adapters.sqlite.join import JoinedTransaction, joined
from everlog.adapters.sqlite.read import COLUMNS, PAYLOAD, read_log, read_stream, take_page
from everlog.adapters.sqlite.relays import SqliteRelays
from everlog.adapters.sqlite.settings import SqliteSettings
from everlog.adapters.sqlite.shadows import SqliteShadows
from everlog.adapters.sqlite.snapshots import SqliteSnapshots
from everlog.adapters.sqlite.streams import list_streams
from everlog.adapters.sqlite.tables import sqlite_tables
from everlog.adapters.sqlite.timers import SqliteTimers
from everlog.adapters.sqlite.translate import translated
from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.envelope import Append, Appended, Head, StoredEvent, StreamHead
from everlog.core.errors import EverlogError, StoreUnavailable
from everlog.store import moments
from everlog.store.contract import Finding, Inline, LeafRow, Release, Verdict
from everlog.store.exact import refuse_closed
from everlog.store.group import GroupCommit, answer_each
from everlog.store.prepare import PreparedAppend
from everlog.store.query import Filter
from everlog.telemetry import Counters

_IDS = 500
DRAWN = 64  # requests that are looked up together, before the group asks whether it may take more
RECORD_RELEASE = """
    INSERT INTO everlog_release SELECT ?1, ?2, ?3, ?4
    WHERE EXISTS (SELECT 1 FROM everlog_event WHERE position = ?1)
        AND NOT EXISTS (SELECT 1 FROM everlog_release WHERE position = ?1)"""


class _CommitFailed(sqlite3.OperationalError):
    """COMMIT itself raised, so the outcome is open."""


class SqliteStore:
    """One log on one file; see `everlog.store.contract.Store` for what each call promises."""

    def __init__(
        self,
        settings: SqliteSettings,
        *,
        clock: Clock = system_clock,
        crash: CrashPoint = nothing,
        counters: Counters | None = None,
        inline: Inline | None = None,
        lease_clock: LeaseClock = boot_clock,
    ) -> None:
        self._connections = Connections(settings, counters or Counters())
        self._clock, self._crash, self._inline = clock, crash, inline
        self._hint: Callable[[], None] = lambda: None
        self._group = GroupCommit(self._write_group)
        try:
            self._log_id = self.head().log_id
        except BaseException:
            self._connections.close()  # under the turnstile, unlike the garbage collector
            raise
        self.snapshots = SqliteSnapshots(self._connections)
        self.checkpoints = SqliteCheckpoints(self._connections, clock, lease_clock, crash)
        self.fold_states = SqliteFoldStates(self._connections)
        self.tables = sqlite_tables(self._connections)
        self.shadows = SqliteShadows(self._connections, clock, lease_clock, crash)
        self.desk = sqlite_desk(self._connections, clock)
        self.timers = SqliteTimers(self._connections)
        self.relays = SqliteRelays(self._connections)
        self.exact = SqliteExact(self._connections)

    def append(self, request: Append) -> Appended:
        verdict = self.append_each([request])[0]
        if isinstance(verdict, EverlogError):
            raise verdict
        return verdict

    def append_each(self, requests: Sequence[Append]) -> list[Verdict]:
        return answer_each(requests, self._log_id, self._group.append_each)

    def read(
        self,
        where: Filter,
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> Iterator[StoredEvent]:
        head = self.head().position
        last = head if upto is None else min(upto, head)
        if where.recorded_since is not None:
            after = max(after, self._position_before(where.recorded_since, head))
        if where.recorded_until is not None:
            last = min(last, self._position_before(where.recorded_until + 1, head))
        return read_log(self._connections.rows, where, after, last, backwards=backwards, limit=limit)

    def read_stream(
        self, tenant: str, stream: str, *, after: int = 0, upto: int | None = None, backwards: bool = False
    ) -> Iterator[StoredEvent]:
        return read_stream(self._connections.rows, tenant, stream, after, upto, backwards=backwards)

    def find(self, tenant: str, ids: Iterable[bytes]) -> dict[bytes, StoredEvent]:
        wanted = list(ids)
        found: dict[bytes, StoredEvent] = {}
        for start in range(0, len(wanted), _IDS):
            page = wanted[start : start + _IDS]
            marks = ", ".join("?" * len(page))
            sql = f"SELECT {COLUMNS} FROM everlog_event e {PAYLOAD} WHERE e.id IN ({marks}) AND e.tenant = ?"
            found.update((row[4], StoredEvent(*row)) for row in self._connections.rows(sql, [*page, tenant]))
        return found

    def streams(self, tenant: str | None, category: str | None = None) -> Iterator[StreamHead]:
        return list_streams(self._connections.rows, tenant, category)

    def version_at(
        self, tenant: str, stream: str, *, position: int | None = None, recorded_at: int | None = None
    ) -> int:
        last = self._number("SELECT max(version) FROM everlog_event WHERE tenant = ? AND stream = ?", tenant, stream)

        def of(column: moments.Column, version: int) -> int:
            sql = f"SELECT {column} FROM everlog_event WHERE tenant = ? AND stream = ? AND version = ?"
            return self._number(sql, tenant, stream, version)

        return moments.version_at(last, position, recorded_at, of)

    def head(self) -> Head:
        sql = "SELECT position, recorded_at, log_id, incarnation FROM everlog_log"
        return Head(*self._connections.rows(sql)[0])

    def release(self, release: Release) -> int:
        rows = [(position, release.act, release.reason, self._clock()) for position in release.positions]
        with translated(), self._connections.committing() as connection:
            refuse_closed(*connection.execute("SELECT closed FROM everlog_log").fetchone())
            connection.executemany(RECORD_RELEASE, rows)
            before = connection.total_changes
            connection.executemany("DELETE FROM everlog_payload WHERE position = ?", [row[:1] for row in rows])
            return connection.total_changes - before

    def leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[LeafRow]:
        last = self.head().position if upto is None else upto
        sql = f"""SELECT {COLUMNS}, e.claimed_at, e.segments, p.salt, p.client_salt, e.leaf
            FROM everlog_event e {PAYLOAD} WHERE e.position > ? AND e.position <= ? ORDER BY e.position LIMIT 1000"""
        while page := self._connections.rows(sql, (after, last), take_page):
            for row in page:
                claimed_at, segments, salt, client_salt, leaf = row[14:]
                yield LeafRow(StoredEvent(*row[:14]), claimed_at, segments, (salt, client_salt), leaf)
            after = page[-1][0]

    def join(self, connection: object) -> AbstractContextManager[JoinedTransaction]:
        return joined(self._connections, self._log_id, self._clock, self._inline, connection)

    def put_in_force(self, inline: Inline) -> None:
        put_in_force(self._connections, self, inline)

    def on_append(self, hint: Callable[[], None]) -> None:
        self._hint = hint

    def examine(self, *, deep: bool = False) -> Iterator[Finding]:
        return examine(self._connections, self.leaves() if deep else None, self._clock, self._log_id)

    def close(self, timeout: float = 10.0) -> None:
        self._group.close(timeout)
        self._connections.close()

    def _write_group(self, requests: Iterator[PreparedAppend]) -> list[Verdict]:
        drawn: list[PreparedAppend] = []
        with translated():
            try:
                return self._commit_group(_noting(requests, drawn))
            except _CommitFailed:
                return self._look_again(drawn)

    def _look_again(self, drawn: list[PreparedAppend]) -> list[Verdict]:
        """The commit frame may have reached the file without being synced, so nobody knows the outcome yet: appending
        again under the same ids, on a new connection, settles it one way or the other."""
        try:
            return self._commit_group(iter(drawn))
        except (sqlite3.Error, StoreUnavailable) as error:
            raise outcome_unknown(error) from error

    def _commit_group(self, requests: Iterator[PreparedAppend]) -> list[Verdict]:
        with self._connections.write() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                group = open_group(connection, self._log_id, self._clock, self._inline)
                verdicts: list[Verdict] = []
                while drawn := list(islice(requests, DRAWN)):
                    verdicts += group.add(drawn)
                stored = close_group(connection, group)
                self._crash("append.before_commit")
            except BaseException:
                connection.rollback()
                raise
            try:
                connection.commit()
            except sqlite3.Error as error:
                raise _CommitFailed(str(error)) from error
            self._crash("append.after_commit")
            self._connections.checkpoint_when_due(connection, stored)
        if stored:
            self._hint()
        return verdicts

    def _position_before(self, recorded_at: int, head: int) -> int:
        sql = "SELECT recorded_at FROM everlog_event WHERE position = ?"
        return moments.position_before(recorded_at, head, lambda position: self._number(sql, position))

    def _number(self, sql: str, *values: object) -> int:
        return int(self._connections.rows(sql, values)[0][0] or 0)


def _noting(requests: Iterator[PreparedAppend], drawn: list[PreparedAppend]) -> Iterator[PreparedAppend]:
    for request in requests:
        drawn.append(request)
        yield request
