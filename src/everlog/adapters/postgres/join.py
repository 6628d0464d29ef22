"""Joining a transaction of the caller's own: their rows and our events commit together or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from everlog.adapters.postgres import packed
from everlog.adapters.postgres.append import close_group, open_group
from everlog.adapters.postgres.borrowed import Borrowed, borrow
from everlog.adapters.postgres.connections import ENDS_TRANSACTIONS, HOLDER_MS, bound_holder
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.translate import outcome_unknown, translated
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended
from everlog.core.errors import EverlogError, Misconfigured, StoreUnavailable
from everlog.store.contract import Inline
from everlog.store.prepare import PreparedAppend, prepare

_LOG_ID = "SELECT log_id FROM everlog_log"
_WAIT = "SELECT set_config('lock_timeout', %s, true)"
_TAKE = "SELECT FROM everlog_log FOR NO KEY UPDATE"
_DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"


class JoinedTransaction:
    """Appends wait here until `flush`, which takes the head; it is called for you as the block ends."""

    def __init__(
        self, caller: Borrowed, settings: PostgresSettings, log_id: bytes, clock: Clock, inline: Inline | None
    ) -> None:
        self._caller, self._settings = caller, settings
        self._log_id, self._clock, self._inline = log_id, clock, inline
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
        self._caller.finish()  # their rows first, so that the head is held no longer than it must
        with translated(), _plain_rows(self._caller.connection):
            answers = self._store(self._caller.connection, waiting)
        self.failed = False
        return answers

    def _store(self, connection: Connection, waiting: Sequence[PreparedAppend]) -> Sequence[Appended]:
        if connection.info.transaction_status != TransactionStatus.INTRANS:
            raise StoreUnavailable(
                "the transaction everlog joined was ended inside the block: these events are not stored; "
                "leave COMMIT and ROLLBACK to the end of the block"
            )
        self._take_head(connection)
        group = open_group(connection, self._log_id, self._clock, self._inline)
        answers: list[Appended] = []
        for prepared in waiting:
            [verdict] = group.add([prepared])
            if isinstance(verdict, EverlogError):
                raise verdict
            answers.append(verdict)
        close_group(connection, group)
        self.stored += group.size
        return answers

    def _take_head(self, connection: Connection) -> None:
        """Waiting for it is bounded by the settings, and only holding it by what every holder is given."""
        connection.execute(_WAIT, (str(int(self._settings.lock_timeout * 1000)),))
        connection.execute(_TAKE)
        bound_holder(connection)
        if connection.info.server_version >= ENDS_TRANSACTIONS:
            connection.execute(f"SET LOCAL transaction_timeout = {HOLDER_MS}")
        if "synchronous_commit" not in self._settings.allow_unsafe:
            connection.execute(_DURABLE)


@contextmanager
def joined(
    settings: PostgresSettings, log_id: bytes, clock: Clock, inline: Inline | None, connection: object
) -> Iterator[JoinedTransaction]:
    """A transaction on the caller's connection, or the one that is open there; their own errors pass untouched.

    Where we opened it COMMIT is ours, and raises `OutcomeUnknown` when its answer is lost: then the whole block is to
    be run again. Where it was open the caller commits, unless the block raised: then nothing of theirs commits either.
    """
    caller = borrow(connection)
    with translated(), _plain_rows(caller.connection):
        packed.register(caller.connection)
        _check(caller.connection, log_id)
        if caller.ours and caller.connection.autocommit:
            caller.connection.execute("BEGIN")
    joining = JoinedTransaction(caller, settings, log_id, clock, inline)
    try:
        yield joining
        if joining.failed:
            raise StoreUnavailable(
                "a flush failed inside the block and its error was passed over: nothing of the block is stored"
            )
        joining.flush()
        if caller.connection.info.transaction_status == TransactionStatus.INERROR:  # COMMIT would roll back, unheard
            raise StoreUnavailable(
                "a statement failed inside the block and its error was passed over: nothing of the block is stored"
            )
    except BaseException:
        if not caller.connection.closed:
            caller.connection.rollback() if caller.ours else caller.doom()
        raise
    if caller.ours:
        _commit(caller.connection)


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
        found = connection.execute(_LOG_ID).fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise Misconfigured("the connection is open on a database without this log") from error
    if found is None:
        raise Misconfigured(f"the connection's role {connection.info.user!r} sees no log: let it be an engine's role")
    if found[0] != log_id:
        raise Misconfigured("the connection is open on another log's database")
