"""Databases on a running server: copies of a template, and empty ones for tests."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator

import psycopg
from psycopg import sql

from everlog.testing.postgres.server import Server

_numbers = itertools.count(1)

# What a schema does not hold. A database that was left with any of it is not used again.
REMAINS = """
SELECT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = (
                   SELECT oid FROM pg_database WHERE datname = current_database()))
    OR EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql')
    OR EXISTS (SELECT FROM pg_largeobject_metadata)
    OR EXISTS (SELECT FROM pg_publication)
    OR EXISTS (SELECT FROM pg_event_trigger)
    OR EXISTS (SELECT FROM pg_foreign_data_wrapper)
"""
PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
NEW_SCHEMA = "CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC"
NEW_SCHEMA_15 = "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"


@contextlib.contextmanager
def cloned(server: Server, template: str = "template1") -> Iterator[str]:
    """The URL of a new database, a copy of `template`, that is dropped afterwards."""
    name = _new_name()
    with _connected(server) as connection:
        _disconnect(connection, template)
        # The default strategy of PostgreSQL 15 and later: with fsync on, copying files takes ten times as long.
        _execute(connection, "CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield server.url(name)
    finally:
        with _connected(server) as connection:
            _drop(connection, name)


class EmptyDatabases:
    """Empty databases of one server for one test after another: emptying a used one is quicker than making one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._used: list[str] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """The URL of an empty database that nobody else is given meanwhile."""
        name = self._emptied() or self._made()
        try:
            yield self.server.url(name)
        finally:
            self._used.append(name)

    def _made(self) -> str:
        name = _new_name()
        with _connected(self.server) as connection:
            _execute(connection, "CREATE DATABASE {} TEMPLATE template0", name)
        return name

    def _emptied(self) -> str | None:
        """A used one under a new name, so that what a test left running does not find it."""
        while self._used:
            used, name = self._used.pop(), _new_name()
            with _connected(self.server) as connection:
                _disconnect(connection, used)
                if _is_emptied(self.server, used):
                    _disconnect(connection, used)
                    _execute(connection, "ALTER DATABASE {} RENAME TO {}", used, name)
                    return name
                _drop(connection, used)
        return None


def _is_emptied(server: Server, name: str) -> bool:
    with _connected(server, name) as connection:
        # They hold locks, and a database with one can be neither renamed nor dropped.
        for (prepared,) in connection.execute(PREPARED).fetchall():
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(prepared)))
        if _has(connection, REMAINS):
            return False
        with connection.transaction():
            for (schema,) in connection.execute(SCHEMAS).fetchall():
                _execute(connection, "DROP SCHEMA {} CASCADE", schema)
            connection.execute(NEW_SCHEMA_15 if server.version >= (15,) else NEW_SCHEMA)
    return True


def _drop(connection: psycopg.Connection, name: str) -> None:
    _disconnect(connection, name)
    _execute(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def _disconnect(connection: psycopg.Connection, name: str) -> None:
    """PostgreSQL would wait for leaving sessions itself, in steps of 100 ms."""
    while _has(
        connection, "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE datname = %s", name
    ):
        time.sleep(0.001)


def _has(connection: psycopg.Connection, question: str, *values: str) -> bool:
    row = connection.execute(question, values).fetchone()
    return row is not None and bool(row[0])


def _execute(connection: psycopg.Connection, statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _connected(server: Server, database: str = "postgres") -> psycopg.Connection:
    # What we do here need not survive a crash by itself: the first commit of a test takes it along.
    return psycopg.connect(server.url(database), autocommit=True, options="-c synchronous_commit=off")


def _new_name() -> str:
    return f"test_{os.getpid()}_{next(_numbers)}"
