"""The session's transaction, which the session commits."""

import asyncio
import os

import psycopg
from sqlalchemy import create_engine, orm, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from everlog import AsyncSession as AsyncTenant
from everlog import NoStream
from everlog import Session as Tenant
from examples.joining import TABLE, Issued, platform


class Base(orm.DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoice"
    number: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    cents: orm.Mapped[int]


def issue(acme: Tenant | AsyncTenant, session: orm.Session, number: str, cents: int) -> None:
    with acme.join(session) as joined:
        session.add(Invoice(number=number, cents=cents))
        joined.append(f"invoice-{number}", Issued(number, cents), expect=NoStream())


def blocking(url: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    with platform(url).open() as log, orm.Session(engine) as session, session.begin():
        issue(log.tenant("acme"), session, "2026-1", 4200)
    engine.dispose()


async def asynchronous(url: str) -> None:
    engine = create_async_engine("postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(url))
    async with platform(url).open_async() as log, AsyncSession(engine) as session:
        async with session.begin():
            await session.run_sync(lambda blocking: issue(log.tenant("acme"), blocking, "2026-2", 100))
        invoices = await session.scalars(select(Invoice).order_by(Invoice.number))
        print([(invoice.number, invoice.cents) for invoice in invoices])
        print([(e.data.number, e.data.cents) async for e in log.tenant("acme").events(Issued)])
    await engine.dispose()


def main(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(TABLE)
    blocking(url)
    asyncio.run(asynchronous(url))


if __name__ == "__main__":
    main(os.environ["EVERLOG_STORE"])
