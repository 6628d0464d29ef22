"""Joining a transaction of the caller's own: their rows and our events commit together or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from everlog.adapters.postgres import packed
from everlog.adapters.postgres.append import close_group, open_group
from everlog.adapters.postgres.connections import HOLDER_MS, bound_holder
from everlog.adapters.postgres.translate import outcome_unknown, translated
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended
from everlog.core.errors import EverlogError, Misconfigured, StoreUnavailable
from everlog.store.contract import Inline
from everlog.store.prepare import PreparedAppend, prepare

_TRANSACTION_TIMEOUT = 170000  # the first server that can end a transaction which is too long


class JoinedTransaction:
    """Appends wait here until `flush`, which takes the head; it is called for you as the block ends."""

    def __init__(self, connection: Connection, log_id: bytes, clock: Clock, inline: Inline | None) -> None:
        self._connection, self._log_id, self._clock, self._inline = connection, log_id, clock, inline
        self._waiting: list[PreparedAppend] = []
        self.stored = 0
        self.failed = False

    def append(self, request: Append) -> None:
        self._waiting.append(prepare(request, self._log_id))

    def flush(self) -> Sequence[Appended]:
        """Store what waits, and answer it; raises what `Store.append` raises, and then the transaction must end.

        From here on the transaction holds the head of the log: commit soon, or the server ends it.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        self.failed = True  # until it is known better: rows may be written whose head is not
        with translated(), _plain_rows(self._connection):
            answers = self._store(waiting)
        self.failed = False
        return answers

    def _store(self, waiting: Sequence[PreparedAppend]) -> Sequence[Appended]:
        connection = self._connection
        if connection.info.transaction_status != TransactionStatus.INTRANS:
            raise StoreUnavailable(
                "the transaction everlog opened was ended inside the block: these events are not stored; "
                "leave COMMIT and ROLLBACK to the end of the block"
            )
        bound_holder(connection)
        if connection.info.server_version >= _TRANSACTION_TIMEOUT:
            connection.execute(f"SET LOCAL transaction_timeout = {HOLDER_MS}")
        group = open_group(connection, self._clock, self._inline)
        answers: list[Appended] = []
        for prepared in waiting:
            [verdict] = group.add([prepared])
            if isinstance(verdict, EverlogError):
                raise verdict
            answers.append(verdict)
        close_group(connection, group)
        self.stored += group.size
        return answers


@contextmanager
def joined(log_id: bytes, clock: Clock, inline: Inline | None, connection: object) -> Iterator[JoinedTransaction]:
    """A transaction on the caller's connection, or the one that is open there; their own errors pass untouched.

    Where we opened it COMMIT is ours, and raises `OutcomeUnknown` when its answer is lost: then the whole block is to
    be run again. Where it was open, the caller commits, and nothing else may come in between.
    """
    if not isinstance(connection, Connection):
        raise Misconfigured(f"a PostgreSQL log joins a psycopg.Connection, not {type(connection).__name__}")
    ours = connection.info.transaction_status == TransactionStatus.IDLE
    with translated(), _plain_rows(connection):
        packed.register(connection)
        _check(connection, log_id)
        if ours and connection.autocommit:
            connection.execute("BEGIN")
    joining = JoinedTransaction(connection, log_id, clock, inline)
    try:
        yield joining
        if joining.failed:
            raise StoreUnavailable(
                "a flush failed inside the block and its error was passed over: nothing of the block is stored"
            )
        joining.flush()
    except BaseException:
        if ours and not connection.closed:
            connection.rollback()
        raise
    if ours:
        _commit(connection)


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except psycopg.Error as error:
        if connection.broken or connection.closed:
            raise outcome_unknown(error) from error
        raise


@contextmanager
def _plain_rows(connection: Connection) -> Iterator[None]:
    """Our statements read plain tuples, whatever rows and cursors the caller likes."""
    theirs = connection.row_factory, connection.cursor_factory
    connection.row_factory, connection.cursor_factory = tuple_row, Cursor
    try:
        yield
    finally:
        connection.row_factory, connection.cursor_factory = theirs


def _check(connection: Connection, log_id: bytes) -> None:
    try:
        found = connection.execute("SELECT log_id FROM everlog_log").fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise Misconfigured("the connection is open on a database without this log") from error
    if found is None or found[0] != log_id:
        raise Misconfigured("the connection is open on another log's database")
