"""`Shadows` on SQLite: each is a file beside the log's, from which the log can be read and not be written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from sqlite3 import SQLITE_READONLY, Connection

from everlog.adapters.sqlite.checkpoints import LeaseClock, SqliteCheckpoints, SqliteEffects
from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.tables import sqlite_tables
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint
from everlog.core.errors import StoreUnavailable
from everlog.projection.tables import quoted, writes_elsewhere
from everlog.subscription.contract import Claim, Effects
from everlog.telemetry import Counters

_MARK = ".shadow-"
_KEPT = "~"  # ends the name of what a swap puts aside, and no name of a shadow
_OTHERS = ("-wal", "-shm", "-journal", "-next.lock", "-write.lock")
_THERE = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)"
_MADE = "SELECT sql FROM main.sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type <> 'table', rowid"


class _ShadowCheckpoints(SqliteCheckpoints):
    """As any, but what is written outside of the shadow is refused in words that say what to do.

    A subclass, because all the rest is the same to the letter.
    """

    @contextmanager
    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> Iterator[SqliteEffects]:
        try:
            with super().transaction(claim, position, upto=upto) as effects:
                yield effects
        except StoreUnavailable as error:
            if getattr(error.__cause__, "sqlite_errorcode", 0) == SQLITE_READONLY:
                raise writes_elsewhere(claim.name, "a table") from error
            raise


class SqliteShadow:
    """One file. What a projection's functions write goes into it; names it does not know are the log's."""

    def __init__(self, connections: Connections, clock: Clock, lease_clock: LeaseClock, crash: CrashPoint) -> None:
        self.connections = connections
        self.checkpoints = _ShadowCheckpoints(connections, clock, lease_clock, crash)
        self.tables = sqlite_tables(connections)

    def drop(self) -> None:
        self.close()
        _remove(self.connections.path)

    def close(self) -> None:
        self.connections.close()


class SqliteShadows:
    def __init__(self, log: Connections, clock: Clock, lease_clock: LeaseClock, crash: CrashPoint) -> None:
        self._log, self._clock, self._lease_clock, self._crash = log, clock, lease_clock, crash

    def open(self, name: str, *, fresh: bool = False) -> SqliteShadow:
        path = self._log.path.with_name(f"{self._log.path.name}{_MARK}{name}")
        if fresh:
            _remove(path)
        # It can be built once more, so not every commit is synced; a power cut leaves it sound all the same.
        settings = replace(self._log.settings, path=path, synchronous="NORMAL")
        connections = Connections(settings, Counters(), beside=self._log.path)
        return SqliteShadow(connections, self._clock, self._lease_clock, self._crash)

    def names(self) -> list[str]:
        start = f"{self._log.path.name}{_MARK}"
        files = [path.name for path in self._log.path.parent.iterdir() if path.name.startswith(start)]
        return sorted(name.removeprefix(start) for name in files if not name.endswith((*_OTHERS, _KEPT)))

    def swap(self, effects: Effects, name: str, tables: Sequence[str], kept: str) -> None:
        live: Connection = effects.connection
        shadow, aside = self.open(name), self.open(f"{name}{_KEPT}", fresh=True)
        try:
            with aside.connections.committing() as old:
                # A version may have tables that another one has not: those stay where they are.
                tables = [table for table in tables if _is_there(shadow.connections, table)]
                both = [table for table in tables if _is_there_on(live, table)]
                for table in both:
                    _move(live, old, table)
            with shadow.connections.committing() as new, aside.connections.committing() as old:
                for table in tables:
                    _move(new, live, table)
                    if table in both:
                        _move(old, new, table)
                    else:
                        new.execute(f"DROP TABLE main.{quoted(table)}")
                # Two files: where the log's transaction fails after this, the shadow says that it holds what serves.
                new.execute("DELETE FROM main.everlog_subscription")
                for row in live.execute("SELECT * FROM main.everlog_subscription WHERE subscription = ?", (kept,)):
                    new.execute(f"INSERT INTO main.everlog_subscription VALUES ({', '.join('?' * len(row))})", row)
        finally:
            shadow.close()
            aside.drop()


def _is_there(connections: Connections, table: str) -> bool:
    return bool(connections.rows(_THERE, (table,)))


def _is_there_on(connection: Connection, table: str) -> bool:
    return connection.execute(_THERE, (table,)).fetchone() is not None


def _move(source: Connection, target: Connection, table: str) -> None:
    """The table and its rows, in place of what the target has under its name; names of indexes come along."""
    target.execute(f"DROP TABLE IF EXISTS main.{quoted(table)}")
    for (sql,) in source.execute(_MADE, (table,)).fetchall():
        target.execute(sql)
    found = source.execute("SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0 ORDER BY cid", (table,))
    columns = [quoted(name) for (name,) in found.fetchall()]
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    rows = source.execute(f"SELECT {names} FROM main.{quoted(table)}")
    target.executemany(f"INSERT INTO main.{quoted(table)} ({names}) VALUES ({marks})", rows)


def _remove(path: Path) -> None:
    for each in (path, *[path.with_name(path.name + other) for other in _OTHERS]):
        each.unlink(missing_ok=True)
