"""Transactions of those who follow the log: begun on a connection that lives, bounded, and ended in our words."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.errors import LockNotAvailable

from everlog.adapters.postgres.connections import Connections, lost, pauses
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.translate import TROUBLE, outcome_unknown, translated, unavailable

FROZEN_SECONDS = 60.0
"""Who stands still for longer inside a transaction is cut off by the server: nobody could take over from them."""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idle_in_transaction_session_timeout = "

Row = tuple[Any, ...]


@contextmanager
def begun(
    connections: Connections, sql: str, values: Sequence[object], *, frozen_seconds: float = FROZEN_SECONDS
) -> Iterator[tuple[Connection, list[Row]]]:
    """A transaction, and the rows of the statement that began it. It ends with `commit`, or is rolled back."""
    with ExitStack() as held:
        with translated():
            connection, rows = _begin(held, connections, translated_placeholders(sql), values, frozen_seconds)
        yield connection, rows


def _begin(
    held: ExitStack, connections: Connections, statement: str, values: Sequence[object], frozen_seconds: float
) -> tuple[Connection, list[Row]]:
    """Where the connection is lost nothing has happened yet, so it is begun on another.

    Not in a pipeline: psycopg ends one with a Flush, and after that the server does not count how long we are idle.
    """
    bound = _bound(connections.settings.lock_timeout)
    begin = f"{_BEGIN}{math.ceil(frozen_seconds * 1000)}; {bound}; {connections.begin}"
    until = time.monotonic() + connections.settings.lock_timeout
    for pause in pauses():
        with ExitStack() as taken:
            connection = taken.enter_context(connections.follower())
            try:
                connection.execute(begin, prepare=False)
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


def written(
    connections: Connections, sql: str, values: Sequence[object], *, patience: float | None = None
) -> list[Row]:
    """The rows of one statement in a transaction of its own, in one flush; run again when its outcome is lost.

    With `patience` none, when somebody keeps its row locked for so many seconds.
    """
    statement = translated_placeholders(sql)
    bound = _bound(connections.settings.lock_timeout if patience is None else patience)

    def write(connection: Connection) -> list[Row]:
        try:
            with connection.pipeline(), connection.transaction():
                connection.execute(bound)
                if connections.begin:
                    connection.execute(connections.begin)
                done = connection.execute(statement, values, binary=True)
        except LockNotAvailable:
            if patience is None:
                raise
            return []
        return done.fetchall()

    return connections.asked(write)


def _bound(seconds: float) -> str:
    return f"SET LOCAL lock_timeout = {math.ceil(seconds * 1000)}"
