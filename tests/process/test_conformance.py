"""The adapters that keep timers: one line each."""

from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.testing.conformance.timing import timing_conformance
from tests.postgres.folders import database_of

TestSqlite = timing_conformance(lambda folder: SqliteStore(SqliteSettings(folder / "log.db")))
TestPostgres = timing_conformance(lambda folder: PostgresStore(PostgresSettings.from_url(database_of(folder))))
