"""The connection a caller hands us to join: psycopg's own, or the one under a SQLAlchemy session or under Django.

Neither framework is imported; each is known by what it offers. Both begin a transaction in their own books before the
server hears of it, so whose COMMIT it is can be asked of them alone, never of psycopg's connection underneath.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from everlog.core.errors import Misconfigured, StoreUnavailable

T = TypeVar("T")

_DOOM = "DO $$ BEGIN RAISE 'everlog: a block that joined this transaction failed, so all of it does'; END $$"


@dataclass(frozen=True, slots=True)
class Borrowed:
    """`ours`: we begin and commit. `finish` sends what an ORM still holds back; `forbid` tells the framework that its
    transaction may not commit."""

    connection: Connection
    ours: bool
    finish: Callable[[], object] = lambda: None
    forbid: Callable[[], object] = lambda: None

    def doom(self) -> None:
        """Make the caller's transaction fail, even if they pass over the error: to their last savepoint, if any."""
        if self.connection.info.transaction_status == TransactionStatus.INTRANS:
            with suppress(psycopg.Error):
                self.connection.execute(_DOOM)
        self.forbid()


def borrow(theirs: Any) -> Borrowed:
    """Raises `Misconfigured` for what is none of these, `StoreUnavailable` where the framework has no transaction."""
    if isinstance(theirs, Connection):
        return Borrowed(theirs, ours=theirs.info.transaction_status == TransactionStatus.IDLE)
    if hasattr(theirs, "run_sync"):
        raise Misconfigured(f"join inside `await session.run_sync(…)`, with the session it gives, not {_name(theirs)}")
    if hasattr(theirs, "get_bind") and hasattr(theirs, "flush"):  # a SQLAlchemy Session, or a scoped one
        return Borrowed(_of_sqlalchemy(theirs.connection()), ours=False, finish=theirs.flush)
    if hasattr(theirs, "exec_driver_sql"):  # a SQLAlchemy Connection
        return Borrowed(_of_sqlalchemy(theirs), ours=False)
    if hasattr(theirs, "in_atomic_block"):  # django.db.connection
        theirs.ensure_connection()
        connection = _in_transaction(theirs.connection, "open `with transaction.atomic():` around the block")
        return Borrowed(connection, ours=False, forbid=lambda: theirs.in_atomic_block and theirs.set_rollback(True))
    raise Misconfigured(
        f"a PostgreSQL log joins a psycopg.Connection, a SQLAlchemy Session or Connection, or django.db.connection, "
        f"not {_name(theirs)}"
    )


def _of_sqlalchemy(theirs: Any) -> Connection:
    adapted, driver = theirs.connection.dbapi_connection, theirs.connection.driver_connection
    if isinstance(driver, AsyncConnection):
        driver = _Bridged(adapted, driver)
    return _in_transaction(driver, "an engine whose isolation level is AUTOCOMMIT has none")


def _in_transaction(connection: object, advice: str) -> Connection:
    if not isinstance(connection, Connection):
        raise Misconfigured(f"everlog speaks to PostgreSQL through psycopg 3, not {_name(connection)}")
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise StoreUnavailable(f"there is no transaction to join: {advice}")
    return connection


class _Bridged(Connection):
    """psycopg's asyncio connection where blocking code runs beside the event loop, in SQLAlchemy's greenlet.

    The session with the server is theirs; only who waits for it differs, so the loop goes on meanwhile.
    """

    def __init__(self, adapted: Any, theirs: AsyncConnection) -> None:
        self._adapted = adapted
        if theirs.info.transaction_status == TransactionStatus.IDLE and not theirs.autocommit:
            adapted.run_async(lambda connection: connection.execute("SELECT 1"))  # begins as they have set it
        handlers = theirs.pgconn.notice_handler, theirs.pgconn.notify_handler
        super().__init__(theirs.pgconn)
        theirs.pgconn.notice_handler, theirs.pgconn.notify_handler = handlers
        self._autocommit = theirs.autocommit
        self.prepare_threshold = None  # names of prepared statements are counted by each connection for itself

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        waited: T = self._adapted.run_async(lambda theirs: theirs.wait(gen))
        return waited

    def __del__(self, *_: object) -> None:
        """It is not ours to close."""


def _name(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins.")
