"""The connections to one PostgreSQL database: a pool for reads, one for followers' transactions, one connection that
appends, and none that a forked child shares."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.errors import InvalidSqlStatementName
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8
from psycopg_pool import ConnectionPool, PoolTimeout

from everlog.adapters.postgres import packed
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.translate import closed, outcome_unknown, translated

HOLDER_MS = 2000
"""Who holds the head and is idle, or stuck in one statement, for longer is cut off by the server."""
ENDS_TRANSACTIONS = 170000
"""The first server that can end a transaction which is too long, and not only one that is idle or in one statement."""

HOLDER_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")
"""The settings that do so, each to be `HOLDER_MS` at most."""
# In a transaction of the caller's own only the limits: what is right for our plans may spoil theirs.
_HOLDER = [*((name, str(HOLDER_MS)) for name in HOLDER_LIMITS), ("enable_seqscan", "off")]
_SET = "SELECT set_config(name, value, %s) FROM unnest(%s::text[], %s::text[]) AS given (name, value)"
_IDLE_LIMIT = f"SET LOCAL idle_in_transaction_session_timeout = {HOLDER_MS}"
AS_TENANT = "SELECT set_config('role', %s, true), set_config('everlog.tenant', %s, true)"
"""Until the transaction ends, and never for the session: a pooled connection would hand it to whoever comes next."""

# Planning an append takes the server as long as the append. An append is a transaction by itself, as these say.
_WRITER = """SELECT set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('default_transaction_read_only', 'off', false)"""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_SHORTEST_WAIT = 0.05

T = TypeVar("T")


class ConnectionLost(Exception):
    """The connection is gone, and with it the answer to what was sent last."""


class Connections:
    """Opened lazily and again after a fork, a restart or a failover. Thread-safe."""

    def __init__(self, settings: PostgresSettings, prepare: Callable[[Connection], None], *, begin: str = "") -> None:
        """`prepare` makes a connection that keeps its session ready to append; `begin` is how transactions begin."""
        self.settings, self._prepare, self.begin = settings, prepare, begin
        self._forking = threading.Lock()
        self.closed = False
        self._open()

    def beside(self, begin: str) -> "Connections":
        """Others to the same database, whose transactions begin with this statement."""
        return Connections(self.settings, self._prepare, begin=begin)

    def _open(self) -> None:
        self._process = os.getpid()
        self._pool = self._made_pool(self.settings.connections, _configure)
        self._followers = self._made_pool(self.settings.connections, _configure)
        self._writer: Connection | None = None

    def _made_pool(self, size: int, configure: Callable[[Connection], None]) -> ConnectionPool:
        return ConnectionPool(
            self.settings.conninfo,
            kwargs={"autocommit": True},
            min_size=0,
            max_size=size,
            open=True,
            configure=configure,
            max_waiting=0,
            reconnect_timeout=0,  # it would wait ever longer, and stop while somebody waits; `_living` asks again
        )

    def rows(self, sql: str, values: Sequence[object] = (), *, tenant: str | None = None) -> list[Any]:
        """All rows of one short query with `?` for its values; asked again while the server restarts or fails over.

        With a `tenant`, and a role for tenants in the settings, it runs as that role, which sees no other tenant.
        """
        role = self.settings.tenant_role
        statement = translated_placeholders(sql)
        values = [Int8(value) if type(value) is int else value for value in values]  # one prepared statement, not three

        def ask(connection: Connection) -> list[Any]:
            as_tenant = tenant is not None and role is not None
            if not as_tenant and not self.begin:
                return connection.execute(statement, values, binary=True).fetchall()
            with connection.pipeline(), connection.transaction():
                if self.begin:
                    connection.execute(self.begin)
                if as_tenant:
                    connection.execute(AS_TENANT, (role, tenant))
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
        with self._taken(lambda: self._pool) as connection:
            yield connection

    @contextmanager
    def follower(self) -> Iterator[Connection]:
        """One for a handler's transaction, of a pool of their own: a handler may read, and must get a connection."""
        with self._taken(lambda: self._followers) as connection:
            yield connection

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """The connection that appends, for one at a time: the server cuts it off when it holds the head too long.

        Raises `ConnectionLost` when it broke in the block, so that nobody knows what became of what was sent last.
        """
        self.check_ready()
        connection = self._living_writer()
        try:
            yield connection
        except psycopg.Error as error:
            if isinstance(error, InvalidSqlStatementName):  # prepared in a flush that was refused before that
                connection.close()
            if lost(error, connection):
                raise ConnectionLost(str(error)) from error
            raise
        finally:
            if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
                _roll_back(connection)

    def _living_writer(self) -> Connection:
        if self._writer is None or self._writer.closed or _is_ended(self._writer):
            connection = psycopg.connect(self.settings.conninfo, autocommit=True)
            try:
                _configure_writer(connection)
                if connection.prepare_threshold is not None:
                    self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer

    @contextmanager
    def _taken(self, pool: Callable[[], ConnectionPool]) -> Iterator[Connection]:
        self.check_ready()  # which may open other pools
        taken_from = pool()
        connection = self._living(taken_from)
        try:
            with connection:
                yield connection
        finally:
            taken_from.putconn(connection)

    def _living(self, pool: ConnectionPool) -> Connection:
        """A connection that the server has not ended meanwhile; raises `PoolTimeout`.

        A pool that could not connect tries again when it is asked again, so how often that is is said here.
        """
        until = time.monotonic() + self.settings.lock_timeout
        for pause in pauses():
            # A machine that stood still may be past the end already; the server is asked all the same.
            left = max(until - time.monotonic(), _SHORTEST_WAIT)
            try:
                connection: Connection = pool.getconn(min(_SHORTEST_WAIT + pause, left))
            except PoolTimeout:
                if left <= _SHORTEST_WAIT + pause:
                    raise
                continue
            if not _is_ended(connection):
                return connection
            connection.close()
            pool.putconn(connection)
        raise AssertionError("pauses never end")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that commits when the block ends, and may hold the head: the server cuts it off when idle.

        The driver's errors pass through, but for a lost COMMIT, which raises `OutcomeUnknown`. Apart from the reads,
        because the block may read.
        """
        with self.follower() as connection:
            ended = False
            try:
                with connection.transaction():
                    connection.execute(_IDLE_LIMIT)
                    yield connection
                    ended = True
            except psycopg.Error as error:
                if ended and lost(error, connection):
                    raise outcome_unknown(error) from error
                raise

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._process == os.getpid():
            for pool in (self._pool, self._followers):
                pool.close()
            if self._writer is not None:
                self._writer.close()

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


def _is_ended(connection: Connection) -> bool:
    """Whether the server has hung up, as far as this end has heard; asks nobody, so it costs no time."""
    try:
        for _ in range(2):  # the first may be taken up by its last words
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


def _roll_back(connection: Connection) -> None:
    """A connection that cannot is of no more use, and the next one is asked for what became of it."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


def is_pooled(connection: Connection) -> bool:
    """Whether something like PgBouncer stands between: then the process that answers is another one than it says."""
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return found is None or found[0] != connection.info.backend_pid


def bound_holder(connection: Connection) -> None:
    """Make this transaction of our own what a session that appends is, where the session cannot be."""
    set_all(connection, _HOLDER, local=True)


def set_all(connection: Connection, settings: Iterable[tuple[str, str]], *, local: bool) -> None:
    """Set these in turn, for the session or, `local`, until its transaction ends."""
    names, values = zip(*settings, strict=True)
    connection.execute(_SET, (local, list(names), list(values)))


def _configure(connection: Connection) -> None:
    packed.register(connection)
    if is_pooled(connection):
        connection.prepare_threshold = None  # a statement prepared on one server process is unknown to the next


def _configure_writer(connection: Connection) -> None:
    _configure(connection)
    if connection.prepare_threshold is None:
        return
    connection.prepare_threshold = 0
    set_all(connection, _HOLDER, local=False)
    connection.execute(_WRITER)
    if connection.info.server_version >= ENDS_TRANSACTIONS:  # waiting for the head, and then holding it
        connection.execute(f"SET transaction_timeout = {2 * HOLDER_MS}")
