"""Joining a transaction of the caller's own: their rows and our events commit together or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from everlog.adapters.postgres import packed
from everlog.adapters.postgres.append import close_group, open_group
from everlog.adapters.postgres.borrowed import Borrowed, borrow
from everlog.adapters.postgres.connections import HOLDER_LIMITS, HOLDER_MS, set_all
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.translate import outcome_unknown, translated
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended
from everlog.core.errors import Misconfigured, StoreUnavailable
from everlog.store.contract import Inline
from everlog.store.prepare import PreparedAppend, prepare

_LOG_ID = "SELECT log_id FROM everlog_log"
_LIMITS = ("lock_timeout", "transaction_timeout", *HOLDER_LIMITS)
# In milliseconds, 0 for none; without what the server is too old for. To ask pg_settings would take ten times as long.
_THEIRS = """SELECT name, (extract(epoch FROM current_setting(name, true)::interval) * 1000)::bigint
    FROM unnest(%s::text[]) AS name WHERE current_setting(name, true) IS NOT NULL"""
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
        answers = [group.add_or_raise(prepared) for prepared in waiting]
        close_group(connection, group)
        self.stored += group.size
        return answers

    def _take_head(self, connection: Connection) -> None:
        """Waiting for it is bounded by the settings, and only holding it by what every holder is given.

        Nothing else is changed: what the caller does until COMMIT goes on under their own settings.
        """
        theirs: dict[str, int] = dict(connection.execute(_THEIRS, (list(_LIMITS),)).fetchall())
        set_all(connection, [("lock_timeout", str(int(self._settings.lock_timeout * 1000)))], local=True)
        connection.execute(_TAKE)
        lock_timeout = "lock_timeout", str(theirs.pop("lock_timeout"))
        set_all(connection, [lock_timeout, *_bounds(theirs)], local=True)
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
    _begin(caller, log_id)
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


def _begin(caller: Borrowed, log_id: bytes) -> None:
    """Refused, it leaves no transaction open: the next block would take that for one the caller commits."""
    try:
        with translated(), _plain_rows(caller.connection):
            packed.register(caller.connection)
            _check(caller.connection, log_id)
            if caller.ours and caller.connection.autocommit:
                caller.connection.execute("BEGIN")
    except BaseException:
        if caller.ours and not caller.connection.closed:
            caller.connection.rollback()
        raise


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except psycopg.Error as error:
        if connection.broken or connection.closed:
            raise outcome_unknown(error) from error
        raise


def _bounds(theirs: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """What a holder is given, but where the caller's own limit is shorter."""
    for name, limit in theirs.items():
        if not 0 < limit <= HOLDER_MS:
            yield name, "0"  # transaction_timeout runs already, and goes on to its old end unless it is stopped
            yield name, str(HOLDER_MS)


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
