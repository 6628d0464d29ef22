"""The adapters that keep what follows the log: one line each."""

from pathlib import Path

from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.clock import Clock
from everlog.testing.conformance.following import following_conformance
from everlog.testing.conformance.following.suite import LeaseClock
from everlog.testing.conformance.verifying import verifying_conformance
from tests.postgres.folders import database_of


def _open_file(folder: Path, clock: Clock, lease: LeaseClock) -> SqliteStore:
    return SqliteStore(SqliteSettings(folder / "log.db"), clock=clock, lease_clock=lease)


def _open_memory(folder: Path, clock: Clock, lease: LeaseClock) -> SqliteStore:
    return SqliteStore(SqliteSettings.from_url("memory:"), clock=clock, lease_clock=lease)


def _open_postgres(folder: Path, clock: Clock, lease: LeaseClock) -> PostgresStore:
    return PostgresStore(PostgresSettings.from_url(database_of(folder)), clock=clock, lease_clock=lease)


TestSqliteFile = following_conformance(_open_file)
TestSqliteMemory = following_conformance(_open_memory, shared=False)
TestPostgres = following_conformance(_open_postgres, boots=False)
TestVerifyingSqlite = verifying_conformance(_open_file)
TestVerifyingPostgres = verifying_conformance(_open_postgres)
