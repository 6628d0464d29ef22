"""`Store` on one PostgreSQL database."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from uuid import UUID

import psycopg
from psycopg import Connection

from everlog.adapters.postgres.announce import Announcer, Listener
from everlog.adapters.postgres.append import (
    IN_THE_WAY,
    append_in_one_flush,
    append_under_lock,
    prepare_append,
    tells_versions,
)
from everlog.adapters.postgres.checkpoints import LeaseClock, PostgresCheckpoints
from everlog.adapters.postgres.connections import ConnectionLost, Connections, pauses
from everlog.adapters.postgres.desk import postgres_desk
from everlog.adapters.postgres.exact import PostgresExact
from everlog.adapters.postgres.examine import examine
from everlog.adapters.postgres.folds import PostgresFoldStates
from everlog.adapters.postgres.inline import put_in_force
from everlog.adapters.postgres.join import JoinedTransaction, joined
from everlog.adapters.postgres.migrate import check, migrate, stored_format
from everlog.adapters.postgres.read import COLUMNS, PAGED, PAYLOAD, Rows, bounded, read_log, read_stream
from everlog.adapters.postgres.relays import PostgresRelays
from everlog.adapters.postgres.roles import refuse_role
from everlog.adapters.postgres.server import refuse_unsafe
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.shadows import PostgresShadows
from everlog.adapters.postgres.snapshots import PostgresSnapshots
from everlog.adapters.postgres.streams import list_streams
from everlog.adapters.postgres.tables import postgres_tables
from everlog.adapters.postgres.timers import PostgresTimers
from everlog.adapters.postgres.translate import TROUBLE, outcome_unknown, translated, unavailable
from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.envelope import Append, Appended, Head, StoredEvent, StreamHead
from everlog.core.errors import EverlogError
from everlog.store import moments
from everlog.store.contract import Finding, Inline, LeafRow, Release, Verdict
from everlog.store.exact import refuse_closed
from everlog.store.group import GroupCommit, answer_each
from everlog.store.prepare import PreparedAppend
from everlog.store.query import Filter

_GROUP_EVENTS, _GROUP_BYTES = 1000, 4 * 1024 * 1024
_PAGE = 1000
_RECORD_RELEASE = """
    INSERT INTO everlog_release SELECT e.position, %s, %s, %s FROM everlog_event e
    WHERE e.position = ANY(%s::bigint[]) ON CONFLICT DO NOTHING"""
_RELEASE = "DELETE FROM everlog_payload WHERE position = ANY(%s::bigint[])"


def log_exists(settings: PostgresSettings) -> bool:
    """Whether the database holds a log, without making one; raises `StoreUnavailable` when nobody answers."""
    with translated(), psycopg.connect(settings.conninfo, autocommit=True) as connection:
        return stored_format(connection) > 0


def migrate_log(settings: PostgresSettings) -> list[int]:
    """Bring the tables to what this everlog writes, and say which steps that took."""
    with translated(), psycopg.connect(settings.conninfo, autocommit=True) as connection:
        refuse_unsafe(connection, settings)
        return migrate(connection)


class PostgresStore:
    """One log in one database; see `everlog.store.contract.Store` for what each call promises."""

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        clock: Clock = system_clock,
        crash: CrashPoint = nothing,
        inline: Inline | None = None,
        lease_clock: LeaseClock | None = None,
    ) -> None:
        self._connections = Connections(settings, prepare_append)
        self._clock, self._crash, self._inline = clock, crash, inline
        self._hint: Callable[[], None] = lambda: None
        self._listener: Listener | None = None
        self._announcer = Announcer(settings)
        self._group = GroupCommit(self._write_group)
        try:
            # Not from the pool, which keeps trying: a wrong password is told at once, and in the server's words.
            with translated(), psycopg.connect(settings.conninfo, autocommit=True) as connection:
                refuse_unsafe(connection, settings)
                check(connection)
                refuse_role(connection, settings)
            self._log_id = self.head().log_id
        except BaseException:
            self._connections.close()
            raise
        self.snapshots = PostgresSnapshots(self._connections)
        self.checkpoints = PostgresCheckpoints(self._connections, clock, lease_clock, crash)
        self.fold_states = PostgresFoldStates(self._connections)
        self.tables = postgres_tables(self._connections)
        self.shadows = PostgresShadows(self._connections, clock, lease_clock, crash)
        self.desk = postgres_desk(self._connections, clock)
        self.timers = PostgresTimers(self._connections)
        self.relays = PostgresRelays(self._connections)
        self.exact = PostgresExact(self._connections)

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
        # Who says how far is not asked for the head: nothing lies beyond it.
        last = head = self.head().position if upto is None else upto
        if where.recorded_since is not None or where.recorded_until is not None:
            head = self.head().position
        if where.recorded_since is not None:
            after = max(after, self._position_before(where.recorded_since, head))
        if where.recorded_until is not None:
            last = min(last, self._position_before(where.recorded_until + 1, head))
        rows = self._rows_of(where.tenant)
        return read_log(rows, where, after, last, backwards=backwards, limit=limit)

    def read_stream(
        self, tenant: str, stream: str, *, after: int = 0, upto: int | None = None, backwards: bool = False
    ) -> Iterator[StoredEvent]:
        return read_stream(self._rows_of(tenant), tenant, stream, after, upto, backwards=backwards)

    def find(self, tenant: str, ids: Iterable[bytes]) -> dict[bytes, StoredEvent]:
        sql = f"SELECT {COLUMNS} FROM everlog_event e {PAYLOAD} WHERE e.id = ANY(?) AND e.tenant = ?"
        found = self._rows_of(tenant)(sql, ([UUID(bytes=id) for id in ids if len(id) == 16], tenant))
        return {row[4]: StoredEvent(*row) for row in found}

    def streams(self, tenant: str | None, category: str | None = None) -> Iterator[StreamHead]:
        return list_streams(self._rows_of(tenant), tenant, category)

    def version_at(
        self, tenant: str, stream: str, *, position: int | None = None, recorded_at: int | None = None
    ) -> int:
        sql = "SELECT max(version) FROM everlog_event WHERE tenant = ? AND stream = ?"
        last = self._number(sql, tenant, stream, tenant=tenant)

        def of(column: moments.Column, version: int) -> int:
            # The last one up to it, in order: else a plan made on a new table may read all that the tenant has.
            sql = f"""SELECT {column} FROM everlog_event WHERE tenant = ? AND stream = ? AND version <= ?
                ORDER BY version DESC LIMIT 1"""
            return self._number(sql, tenant, stream, version, tenant=tenant)

        return moments.version_at(last, position, recorded_at, of)

    def head(self) -> Head:
        sql = "SELECT position, recorded_at, log_id, incarnation FROM everlog_log"
        return Head(*self._connections.rows(sql)[0])

    def release(self, release: Release) -> int:
        positions = list(release.positions)
        with translated(), self._connections.transaction() as connection:
            # FOR SHARE: a copy that closes the log meanwhile waits, and sees this release.
            [(closed,)] = connection.execute("SELECT closed FROM everlog_log FOR SHARE").fetchall()
            refuse_closed(closed)
            connection.execute(_RECORD_RELEASE, (release.act, release.reason, self._clock(), positions))
            return connection.execute(_RELEASE, (positions,)).rowcount

    def leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[LeafRow]:
        last = self.head().position if upto is None else upto
        # By bounds on both tables: with LIMIT, a server that has not analysed them reads all the rest for every page.
        sql = f"""SELECT {PAGED}, e.claimed_at, e.segments, p.salt, p.client_salt, e.leaf
            FROM everlog_event e {PAYLOAD} AND p.position > ? AND p.position <= ?
            WHERE e.position > ? AND e.position <= ? ORDER BY e.position"""
        rows = self._connections.rows
        while page := rows(sql, (after, min(after + _PAGE, last)) * 2):
            page = bounded(rows, page)
            for row in page:
                claimed_at, segments, salt, client_salt, leaf = row[14:]
                yield LeafRow(StoredEvent(*row[:14]), claimed_at, segments, (salt, client_salt), leaf)
            after = page[-1][0]

    def join(self, connection: object) -> AbstractContextManager[JoinedTransaction]:
        self._connections.check_ready()
        return joined(self._connections.settings, self._log_id, self._clock, self._inline, connection)

    def put_in_force(self, inline: Inline) -> None:
        put_in_force(self._connections, self, inline)

    def on_append(self, hint: Callable[[], None]) -> None:
        """Also called when another process says that it appended; that costs a connection that listens."""
        self._hint = hint
        if self._listener is None:
            self._listener = Listener(self._connections.settings, lambda: self._hint())

    def examine(self, *, deep: bool = False) -> Iterator[Finding]:
        return examine(self._connections, self.leaves() if deep else None, self._clock, self._log_id)

    def close(self, timeout: float = 10.0) -> None:
        self._group.close(timeout)
        self._announcer.close()
        if self._listener is not None:
            self._listener.close()
        self._connections.close()

    def _write_group(self, requests: Iterator[PreparedAppend]) -> list[Verdict]:
        """Appended again under the same ids, on a new connection, while its outcome is open: that settles it."""
        drawn = _drawn(requests)
        until = time.monotonic() + self._connections.settings.lock_timeout
        unanswered: ConnectionLost | None = None
        failed: Exception
        with translated():
            for attempt, pause in enumerate(pauses()):
                try:
                    with self._connections.writer() as connection:
                        return self._commit_group(connection, drawn, again=attempt > 0)
                except ConnectionLost as error:
                    unanswered = failed = error
                except TROUBLE as error:
                    failed = error
                except EverlogError as error:
                    if unanswered is None:
                        raise
                    raise outcome_unknown(error) from error
                if time.monotonic() + pause > until:
                    raise outcome_unknown(unanswered) if unanswered else unavailable(failed) from failed
                time.sleep(pause)
        raise AssertionError("pauses never end")

    def _commit_group(self, connection: Connection, drawn: list[PreparedAppend], *, again: bool) -> list[Verdict]:
        pooled = connection.prepare_threshold is None
        verdicts: list[Verdict] | None = None
        stored = 1
        self._crash("append.before_commit")
        if not again and tells_versions(drawn):
            try:
                verdicts = append_in_one_flush(connection, self._log_id, drawn, self._clock, pooled=pooled)
            except IN_THE_WAY:
                connection.rollback()
        if verdicts is None:
            verdicts, stored = append_under_lock(
                connection, self._log_id, drawn, self._clock, self._inline, pooled=pooled
            )
        self._crash("append.after_commit")
        if stored:
            self._hint()
            self._announcer.appended()
        return verdicts

    def _rows_of(self, tenant: str | None) -> Rows:
        return partial(self._connections.rows, tenant=tenant)

    def _position_before(self, recorded_at: int, head: int) -> int:
        sql = "SELECT recorded_at FROM everlog_event WHERE position = ?"
        return moments.position_before(recorded_at, head, lambda position: self._number(sql, position))

    def _number(self, sql: str, *values: object, tenant: str | None = None) -> int:
        return int(self._connections.rows(sql, values, tenant=tenant)[0][0] or 0)


def _drawn(requests: Iterator[PreparedAppend]) -> list[PreparedAppend]:
    """As many as one transaction should hold."""
    drawn: list[PreparedAppend] = []
    events = size = 0
    for prepared in requests:
        drawn.append(prepared)
        events += len(prepared.events)
        size += sum(len(event.new.data) for event in prepared.events)
        if events >= _GROUP_EVENTS or size >= _GROUP_BYTES:
            break
    return drawn
