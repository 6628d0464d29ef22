"""`eventsource-py` on PostgreSQL: the same business code as on SQLite, its store over SQLAlchemy and asyncpg.

Durable as the server is: it sets nothing on a connection. The schema is the one it brings, without an outbox.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from eventsource import create_async_engine
from eventsource.adapters.postgresql.store import PostgreSQLEventStore
from eventsource.ports import FullEventStore
from psycopg.conninfo import conninfo_to_dict

from benchmarks import postgres
from benchmarks.inputs import database_of, url
from benchmarks.one import Job
from benchmarks.peer_eventsource_py import appending, fill, loading, reading
from benchmarks.timing import Slice


@contextmanager
def append_tasks(job: Job) -> Iterator[Slice]:
    with asyncio.Runner() as runner, _open(runner, job.folder) as store:
        yield appending(runner, store)


@contextmanager
def load(job: Job) -> Iterator[Slice]:
    with asyncio.Runner() as runner, _open(runner, job.folder) as store:
        yield loading(runner, store)


@contextmanager
def whole_log(job: Job) -> Iterator[Slice]:
    folder = job.prepared("eventsource-py-postgres", lambda folder: _fill(folder, job.sizes.log))
    with asyncio.Runner() as runner, _open(runner, folder) as store:
        yield reading(runner, store)


@contextmanager
def _open(runner: asyncio.Runner, folder: Path) -> Iterator[FullEventStore]:
    """As many connections as by default, 15, but kept: opening the 10 above 5 anew made it a quarter slower."""
    engine = create_async_engine(_url(folder), pool_size=15, max_overflow=0)
    store = PostgreSQLEventStore(engine, create_schema=True, owns_engine=True)
    yield store
    runner.run(store.close())


def _url(folder: Path) -> str:
    """SQLAlchemy wants the socket's folder as a parameter."""
    at = conninfo_to_dict(url(folder, "postgres"))
    return f"postgresql+asyncpg://{at['user']}@/{at['dbname']}?" + urlencode({"host": at["host"], "port": at["port"]})


def _fill(folder: Path, events: int) -> None:
    with asyncio.Runner() as runner, _open(runner, folder) as store:
        fill(runner, store, events)
    postgres.settle(database_of(folder))
