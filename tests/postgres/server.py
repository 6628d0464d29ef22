"""One PostgreSQL per test process, started by the first test that wants it; it ends with the process."""

import contextlib
from collections.abc import Iterator
from functools import cache

import pytest

from everlog.testing.postgres import PostgresNotFound, Server, running
from everlog.testing.postgres.databases import EmptyDatabases

SETTINGS = {"max_connections": "200", "max_prepared_transactions": "20"}

_until_the_end = contextlib.ExitStack()


def postgres_server() -> Server:
    """The server of this process; skips the test where no PostgreSQL can be found."""
    return _databases().server


@contextlib.contextmanager
def empty_database() -> Iterator[str]:
    """The URL of an empty database that no other test sees."""
    with _databases().one() as url:
        yield url


def stop_server() -> None:
    """Called when the tests have ended. Where nobody does, the server notices by itself."""
    _until_the_end.close()
    _databases.cache_clear()


@cache
def _databases() -> EmptyDatabases:
    try:
        return EmptyDatabases(_until_the_end.enter_context(running(settings=SETTINGS, tcp=True)))
    except PostgresNotFound as reason:
        pytest.skip(f"NOT TESTED ON POSTGRESQL: {reason}")
