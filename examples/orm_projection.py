"""A read model kept by SQLAlchemy's ORM, on the transaction of its checkpoint: each event counts exactly once.

It runs on the log that EVERLOG_STORE names, a SQLite file or a PostgreSQL database:

    EVERLOG_STORE=sqlite:///shop.db python -m examples.orm_projection
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import create_engine, orm
from sqlalchemy.pool import NullPool

from everlog import Platform, Recorded, SqlProjection, Transaction, event

# ---- Any ORM on everlog's transaction.


class Lent:
    """everlog's connection, for an ORM to work on: what would end its transaction does nothing."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def leave_to_everlog(self, *_: object) -> None:
        pass

    commit = rollback = close = add_notice_handler = leave_to_everlog


_lent: ContextVar[Lent] = ContextVar("lent")
ENGINES = {
    "sqlite3": create_engine("sqlite://", creator=_lent.get, poolclass=NullPool),
    "psycopg": create_engine("postgresql+psycopg://", creator=_lent.get, poolclass=NullPool, use_native_hstore=False),
}


@contextmanager
def session_on(tx: Transaction) -> Iterator[orm.Session]:
    """A session whose changes commit with the checkpoint, or not at all."""
    driver = type(tx.connection).__module__.partition(".")[0]
    before = _lent.set(Lent(tx.connection))
    try:
        with orm.Session(ENGINES[driver]) as session:
            yield session
            session.flush()
    finally:
        _lent.reset(before)


# ---- The read model.


@event("stock.received")
class Received:
    item: str
    pieces: int


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    tenant: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    pieces: orm.Mapped[int] = orm.mapped_column(default=0)


stock = SqlProjection(
    "stock",
    setup=["CREATE TABLE IF NOT EXISTS item (tenant TEXT, name TEXT, pieces INTEGER, PRIMARY KEY (tenant, name))"],
    tables=["item"],
)


@stock.on(Received)
def receive(e: Recorded[Received], tx: Transaction) -> None:
    with session_on(tx) as session:
        item = session.get(Item, (e.tenant, e.data.item)) or Item(tenant=e.tenant, name=e.data.item, pieces=0)
        item.pieces += e.data.pieces
        session.add(item)


def main() -> None:
    with Platform(os.environ["EVERLOG_STORE"], stock).open(worker=True) as log:
        acme = log.tenant("acme")
        for pieces in (3, 4, 5):
            acme.append("stock-chair", Received("chair", pieces))
        acme.wait_for(stock)


if __name__ == "__main__":
    main()
