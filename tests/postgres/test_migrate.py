"""Making the tables beside somebody else who does."""

from concurrent.futures import ThreadPoolExecutor

import psycopg

from everlog.adapters.postgres import FORMAT, migrate
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.store import migrate_log
from tests.postgres.roles import admin


def test_who_waited_for_another_migration_sees_it_whatever_level_is_the_default(database: str) -> None:
    name = database.rpartition("/")[2]
    admin(database, f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with (
        ThreadPoolExecutor(1) as second,
        psycopg.connect(database, autocommit=True) as looking,
        psycopg.connect(database, autocommit=True) as first,
    ):
        with first.transaction():
            first.execute("SELECT pg_advisory_xact_lock(%s)", (migrate._LOCK,))
            ran = second.submit(migrate_log, PostgresSettings.from_url(database))
            while looking.execute(waits).fetchone() == (0,) and not ran.done():
                pass
            for _, sql in migrate.steps():
                first.execute(sql, prepare=False)
            first.execute("UPDATE everlog_log SET format = %s", (FORMAT,))
        assert ran.result(10) == []
