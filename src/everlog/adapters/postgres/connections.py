"""The connections to one PostgreSQL database: a pool for reads and effects, one connection that appends, none shared
with a forked child."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.errors import InvalidSqlStatementName
from psycopg.types.numeric import Int8
from psycopg_pool import ConnectionPool

from everlog.adapters.postgres import packed
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.translate import closed, translated

HOLDER_MS = 2000
"""Who holds the head and is idle, or stuck in one statement, for longer is cut off by the server."""

_HOLDER = f"""SELECT set_config('statement_timeout', '{HOLDER_MS}', %s),
    set_config('idle_in_transaction_session_timeout', '{HOLDER_MS}', %s), set_config('enable_seqscan', 'off', %s)"""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0

T = TypeVar("T")


class ConnectionLost(Exception):
    """The connection is gone, and with it the answer to what was sent last."""


class Connections:
    """Opened lazily and again after a fork, a restart or a failover. Thread-safe."""

    def __init__(self, settings: PostgresSettings) -> None:
        self.settings = settings
        self._forking = threading.Lock()
        self.closed = False
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._pool = self._made_pool(self.settings.connections, _configure)
        self._writers = self._made_pool(2, _configure_writer)

    def _made_pool(self, size: int, configure: Callable[[Connection], None]) -> ConnectionPool:
        return ConnectionPool(
            self.settings.conninfo,
            kwargs={"autocommit": True},
            min_size=0,
            max_size=size,
            open=True,
            configure=configure,
            timeout=self.settings.lock_timeout,
            max_waiting=0,
            reconnect_timeout=self.settings.lock_timeout,
        )

    def rows(self, sql: str, values: Sequence[object] = (), *, tenant: str | None = None) -> list[Any]:
        """All rows of one short query with `?` for its values; asked again while the server restarts or fails over.

        With a `tenant`, and a role for tenants in the settings, it runs as that role, which sees no other tenant.
        """
        role = self.settings.tenant_role
        statement = translated_placeholders(sql)
        values = [Int8(value) if type(value) is int else value for value in values]  # one prepared statement, not three

        def ask(connection: Connection) -> list[Any]:
            if tenant is None or role is None:
                return connection.execute(statement, values, binary=True).fetchall()
            with connection.pipeline(), connection.transaction():
                connection.execute(
                    "SELECT set_config('role', %s, true), set_config('everlog.tenant', %s, true)", (role, tenant)
                )
                found = connection.execute(statement, values, binary=True)
            return found.fetchall()

        return self.asked(ask)

    def asked(self, ask: Callable[[Connection], T]) -> T:
        """The answer of a question that changes nothing, on any connection, and on the next where one is lost."""
        with translated():
            until = time.monotonic() + self.settings.lock_timeout
            for pause in pauses():
                with self.connection() as connection:
                    try:
                        return ask(connection)
                    except psycopg.OperationalError as error:
                        if not lost(error, connection) or time.monotonic() + pause > until:
                            raise
                time.sleep(pause)
        raise AssertionError("pauses never end")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        self.check_ready()
        with self._pool.connection() as connection:
            yield connection

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """A connection that appends: the server cuts it off when it holds the head too long.

        Raises `ConnectionLost` when it broke in the block, so that nobody knows what became of what was sent last.
        """
        self.check_ready()
        with self._writers.connection() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                if isinstance(error, InvalidSqlStatementName):  # prepared in a flush that was refused before that
                    connection.close()
                if lost(error, connection):
                    raise ConnectionLost(str(error)) from error
                raise

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that commits when the block ends; the driver's errors pass through."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._process == os.getpid():
            self._pool.close()
            self._writers.close()

    def check_ready(self) -> None:
        if self.closed:
            raise closed()
        if self._process != os.getpid():
            with self._forking:
                if self._process != os.getpid():  # in a forked child: what the parent has open stays the parent's
                    self._open()


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt: full jitter, so that a herd does not return at once."""
    longest = _FIRST_PAUSE
    while True:
        yield random.uniform(0, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def lost(error: psycopg.Error, connection: Connection) -> bool:
    """Whether the connection is gone, or the server is about to go."""
    return connection.broken or connection.closed or isinstance(error, psycopg.errors.CannotConnectNow)


def is_pooled(connection: Connection) -> bool:
    """Whether something like PgBouncer stands between: then the process that answers is another one than it says."""
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return found is None or found[0] != connection.info.backend_pid


def bound_holder(connection: Connection) -> None:
    """Bound how long this transaction may hold the head, where the session cannot be."""
    connection.execute(_HOLDER, (True, True, True))


def _configure(connection: Connection) -> None:
    packed.register(connection)
    if is_pooled(connection):
        connection.prepare_threshold = None  # a statement prepared on one server process is unknown to the next


def _configure_writer(connection: Connection) -> None:
    _configure(connection)
    if connection.prepare_threshold is None:
        return
    connection.prepare_threshold = 0
    connection.execute(_HOLDER, (False, False, False))
