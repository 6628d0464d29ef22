"""The PostgreSQL of a run: one durable server for all contestants, reached over its socket, and a database a case."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from everlog.testing.postgres import running

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "max_connections": "400",  # of 256 threads that have one each, and those that run beside them
}
"""Durable, and the same for everybody."""

_SERVER, _PID = "EVERLOG_BENCH_POSTGRES", "EVERLOG_BENCH_POSTGRES_PID"


@contextmanager
def serving() -> Iterator[None]:
    """A server for this process and those it starts; one that serves them already goes on."""
    if _SERVER in os.environ:
        yield
        return
    with running(settings=SETTINGS) as server:
        os.environ |= {_SERVER: server.url(), _PID: str(server.pid)}
        try:
            yield
        finally:
            del os.environ[_SERVER]


def pid() -> int:
    return int(os.environ[_PID])


def on_one_disk(folder: Path | None) -> bool:
    """Whether what else is written lies where the server lies; else they cannot be compared."""
    return Path(folder or tempfile.gettempdir()).stat().st_dev == Path("/var/tmp").stat().st_dev


def database(name: str) -> str:
    """The URL of the database of that name, made where it is missing."""
    with _connected() as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    url, _, _ = os.environ[_SERVER].rpartition("/")
    return f"{url}/{name}"


def settle(name: str) -> None:
    """After filling: nothing is left to be tidied while something is measured."""
    with psycopg.connect(database(name), autocommit=True) as connection:
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        connection.execute("CHECKPOINT")


def drop(name: str) -> None:
    with _connected() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _connected() -> psycopg.Connection:
    return psycopg.connect(os.environ[_SERVER], autocommit=True)
