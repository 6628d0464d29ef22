"""Stores the model test runs against; another one joins by a class here and its name in the test's parameters."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Protocol
from unittest.mock import patch

import psycopg

from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.adapters.postgres import read as postgres_read
from everlog.adapters.postgres import snapshots as postgres_snapshots
from everlog.adapters.postgres import store as postgres_store
from everlog.adapters.postgres import streams as postgres_streams
from everlog.adapters.sqlite import SqliteSettings, SqliteStore, append, read, snapshots, store, streams
from everlog.core.clock import Clock
from everlog.core.envelope import StoredSnapshot
from everlog.store import prepare
from everlog.store.contract import Store
from everlog.store.inline import NO_INLINE
from tests.model.twins import twins
from tests.postgres.server import empty_database


class Backend(Protocol):
    """One empty log: how to open it (and open it again), and how to do damage behind its back."""

    def open(self, clock: Clock) -> Store: ...

    def damage(self, snapshot: StoredSnapshot) -> None:
        """Change bytes of the stored snapshot as a failing disk would."""
        ...

    def remove(self) -> None: ...


class SqliteBackend:
    """A file in memory rather than `memory:`, which is the same file but gone when the store is opened again."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(prefix="everlog-model-", dir=shared if shared.is_dir() else None)
        self._file = Path(self._folder.name, "log.db")

    def open(self, clock: Clock) -> Store:
        return SqliteStore(SqliteSettings(self._file), clock=clock)

    def damage(self, snapshot: StoredSnapshot) -> None:
        sql = """UPDATE everlog_snapshot SET state = CAST(state || x'00' AS BLOB)
            WHERE tenant = ? AND stream = ? AND fingerprint = ? AND version = ?"""
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            connection.execute(sql, snapshot[:4])

    def remove(self) -> None:
        self._folder.cleanup()


class PostgresBackend:
    """A database that is emptied for each log: making one would take longer than most examples."""

    _spare: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self._url = self._spare.pop() if self._spare else _until_the_end.enter_context(empty_database())

    def open(self, clock: Clock) -> PostgresStore:
        return PostgresStore(PostgresSettings.from_url(self._url), clock=clock)

    def damage(self, snapshot: StoredSnapshot) -> None:
        sql = """UPDATE everlog_snapshot SET state = state || '\\x00'
            WHERE tenant = %s AND stream = %s AND fingerprint = %s AND version = %s"""
        with psycopg.connect(self._url) as connection:
            connection.execute(sql, snapshot[:4])

    def remove(self) -> None:
        with psycopg.connect(self._url, options="-c session_replication_role=replica") as connection:
            for table in ("event", "payload", "tag", "release", "snapshot"):
                connection.execute(f"DELETE FROM everlog_{table}")
            connection.execute("UPDATE everlog_log SET position = 0, recorded_at = 0")
        self._spare.append(self._url)


class BothBackends:
    """The same log on SQLite and PostgreSQL, so that even leaves are equal: it has one id, and salts are zeros."""

    def __init__(self) -> None:
        self._file, self._database = SqliteBackend(), PostgresBackend()
        self._fresh = True

    def open(self, clock: Clock) -> Store:
        file, database = self._file.open(clock), self._database.open(clock)
        if self._fresh:
            self._fresh = False
            log_id = file.head().log_id
            database.exact.become(log_id, "for the test")
            database.exact.open(1, NO_INLINE)
            database.close()
            return self.open(clock)
        return twins(file, database)

    def damage(self, snapshot: StoredSnapshot) -> None:
        self._file.damage(snapshot)
        self._database.damage(snapshot)

    def remove(self) -> None:
        self._file.remove()
        self._database.remove()


_until_the_end = ExitStack()


@contextmanager
def salts_of_zeros() -> Iterator[None]:
    with patch.object(prepare, "os", SimpleNamespace(urandom=bytes)):
        yield


@contextmanager
def small_pages() -> Iterator[None]:
    """Pages of two or three rows, so that even the short logs of this test are read over several."""
    with ExitStack() as stack:
        for module, size, rows in (
            (read, "PAGE", 3),
            (streams, "_PAGE", 2),
            (snapshots, "_PAGE", 2),
            (append, "_LOOKUP", 2),
            (store, "_IDS", 2),
            (postgres_read, "PAGE", 3),
            (postgres_streams, "_PAGE", 2),
            (postgres_snapshots, "_PAGE", 2),
            (postgres_store, "_PAGE", 3),
        ):
            stack.enter_context(patch.object(module, size, rows))
        yield
