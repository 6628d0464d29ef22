"""The adapters that keep the contract: one line each."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.clock import Clock
from everlog.testing.conformance import store_conformance
from tests.postgres.folders import database_of


def _open_file(folder: Path, clock: Clock) -> SqliteStore:
    return SqliteStore(SqliteSettings(folder / "log.db"), clock=clock)


def _open_memory(folder: Path, clock: Clock) -> SqliteStore:
    return SqliteStore(SqliteSettings.from_url("memory:"), clock=clock)


def _open_postgres(folder: Path, clock: Clock) -> PostgresStore:
    return PostgresStore(PostgresSettings.from_url(database_of(folder)), clock=clock)


TestSqliteFile = store_conformance(_open_file, connect=lambda folder: closing(sqlite3.connect(folder / "log.db")))
TestSqliteMemory = store_conformance(_open_memory, shared=False)
TestPostgres = store_conformance(_open_postgres, connect=lambda folder: closing(psycopg.connect(database_of(folder))))
