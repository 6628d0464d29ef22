"""Transactions of those who follow the log: begun on a connection that lives, bounded, and ended in our words."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg import Connection

from everlog.adapters.postgres.connections import Connections, lost, pauses
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.translate import TROUBLE, outcome_unknown, translated, unavailable

FROZEN_MS = 60_000
"""Who stands still for longer inside a transaction is cut off by the server: nobody could take over from them."""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BOUND = "SELECT set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"

Row = tuple[Any, ...]


@contextmanager
def begun(connections: Connections, sql: str, values: Sequence[object]) -> Iterator[tuple[Connection, list[Row]]]:
    """A transaction, and the rows of the statement that began it. It ends with `commit`, or is rolled back."""
    with ExitStack() as held:
        with translated():
            connection, rows = _begin(held, connections, translated_placeholders(sql), values)
        yield connection, rows


def _begin(
    held: ExitStack, connections: Connections, statement: str, values: Sequence[object]
) -> tuple[Connection, list[Row]]:
    """In one flush. Where the connection is lost nothing has happened yet, so it is begun on another."""
    until = time.monotonic() + connections.settings.lock_timeout
    for pause in pauses():
        with ExitStack() as taken:
            connection = taken.enter_context(connections.connection())
            try:
                with connection.pipeline():
                    connection.execute(_BEGIN)
                    connection.execute(_BOUND, _bounds(connections))
                    first = connection.execute(statement, values, binary=True)
            except psycopg.OperationalError as error:
                if not lost(error, connection) or time.monotonic() + pause > until:
                    raise
            else:
                held.push(taken.pop_all())
                return connection, first.fetchall()
        time.sleep(pause)
    raise AssertionError("pauses never end")


def commit(connection: Connection) -> None:
    """COMMIT; what a constraint that was put off raises passes untouched."""
    try:
        connection.execute("COMMIT")
    except psycopg.Error as error:
        if connection.broken or connection.closed:
            raise outcome_unknown(error) from error
        if isinstance(error, TROUBLE):
            raise unavailable(error) from error
        raise


def written(connections: Connections, sql: str, values: Sequence[object]) -> list[Row]:
    """The rows of one statement in a transaction of its own, in one flush; run again when its outcome is lost."""
    statement = translated_placeholders(sql)

    def write(connection: Connection) -> list[Row]:
        with connection.pipeline(), connection.transaction():
            connection.execute(_BOUND, _bounds(connections))
            done = connection.execute(statement, values, binary=True)
        return done.fetchall()

    return connections.asked(write)


def _bounds(connections: Connections) -> tuple[str, str]:
    return str(int(connections.settings.lock_timeout * 1000)), str(FROZEN_MS)
