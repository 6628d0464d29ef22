"""Joining a transaction of the caller's own: their rows and our events commit together or not at all."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from everlog.adapters.sqlite.append import close_group, open_group
from everlog.adapters.sqlite.connections import Connections, transaction
from everlog.adapters.sqlite.translate import translated
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended
from everlog.core.errors import Misconfigured, StoreUnavailable, UnsafeSettings
from everlog.store.contract import Inline
from everlog.store.prepare import PreparedAppend, prepare


class JoinedTransaction:
    """Appends wait here until `flush`, which takes the head; it is called for you as the block ends."""

    def __init__(self, connection: sqlite3.Connection, log_id: bytes, clock: Clock, inline: Inline | None) -> None:
        self._connection, self._log_id, self._clock, self._inline = connection, log_id, clock, inline
        self._waiting: list[PreparedAppend] = []
        self.stored = 0
        self.failed = False

    def append(self, request: Append) -> None:
        self._waiting.append(prepare(request, self._log_id))

    def flush(self) -> Sequence[Appended]:
        """Store what waits, and answer it; raises what `Store.append` raises, and then the transaction must end."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        self.failed = True  # until it is known better: rows may be written whose head is not
        with translated(), _plain_rows(self._connection):
            answers = self._store(waiting)
        self.failed = False
        return answers

    def _store(self, waiting: Sequence[PreparedAppend]) -> Sequence[Appended]:
        if not self._connection.in_transaction:
            raise StoreUnavailable(
                "the transaction everlog opened was ended inside the block: these events are not stored; "
                "leave COMMIT and ROLLBACK to the end of the block"
            )
        group = open_group(self._connection, self._log_id, self._clock, self._inline)
        answers = [group.add_or_raise(prepared) for prepared in waiting]
        self.stored += close_group(self._connection, group)
        return answers


@contextmanager
def joined(
    connections: Connections, log_id: bytes, clock: Clock, inline: Inline | None, connection: object
) -> Iterator[JoinedTransaction]:
    """Turnstile, then BEGIN IMMEDIATE on the caller's connection; their own SQLite errors pass through untouched.

    COMMIT is ours: it raises `OutcomeUnknown` when it fails, and then the whole block is to be run again.
    """
    if not isinstance(connection, sqlite3.Connection):
        raise Misconfigured(f"a SQLite log joins a sqlite3.Connection, not {type(connection).__name__}")
    with translated(), _plain_rows(connection):
        _check(connections, connection)
    with connections.head_held():
        joining = JoinedTransaction(connection, log_id, clock, inline)
        with transaction(connection):
            yield joining
            if joining.failed:
                raise StoreUnavailable(
                    "a flush of this transaction failed, so none of it is stored: let the flush's error end the block"
                )
            joining.flush()
        with translated():
            connections.checkpoint_when_due(connection, joining.stored)


@contextmanager
def _plain_rows(connection: sqlite3.Connection) -> Iterator[None]:
    """Rows as tuples and text as str, whatever the caller asks of their connection."""
    theirs = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = theirs


def _check(connections: Connections, connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        raise StoreUnavailable(
            "the connection is inside a transaction already, and waiting for the write lock there would deadlock: "
            "commit it first and let everlog open the transaction"
        )
    file = next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    if not file or Path(file).resolve() != connections.path.resolve():
        raise Misconfigured(f"the connection is open on {file or 'memory'}, not on the log {connections.path}")
    durable = {"OFF": 0, "NORMAL": 1, "FULL": 2, "EXTRA": 3}
    if connection.execute("PRAGMA synchronous").fetchone()[0] < durable[connections.settings.synchronous]:
        raise UnsafeSettings(
            f"the connection's synchronous setting is weaker than the log's: run PRAGMA synchronous="
            f"{connections.settings.synchronous} on it before joining"
        )
    connection.execute("PRAGMA wal_autocheckpoint=0")
