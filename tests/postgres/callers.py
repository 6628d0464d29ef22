"""Applications with a transaction of their own: on psycopg, SQLAlchemy (blocking and for asyncio) and Django."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from django import setup
from django.conf import settings
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, orm, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

Block = Callable[["Caller"], None]


class Caller:
    """Inside its own transaction: what is handed to `join`, and statements of its own."""

    def __init__(self, joins: Any, execute: Callable[[str], Any], savepoint: Callable[[], Any]) -> None:
        self.joins, self.execute, self.savepoint = joins, execute, savepoint


def psycopg_idle(url: str, block: Block) -> None:
    """Nothing is open, so everlog opens and commits."""
    with psycopg.connect(url, autocommit=True) as connection:
        block(Caller(connection, connection.execute, connection.transaction))


def psycopg_implicit(url: str, block: Block) -> None:
    """A transaction has begun with the first statement."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
        block(Caller(connection, connection.execute, connection.transaction))


def psycopg_explicit(url: str, block: Block) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        block(Caller(connection, connection.execute, connection.transaction))


def sqlalchemy_session(url: str, block: Block) -> None:
    with _engine(url) as engine, orm.Session(engine) as session, session.begin():
        block(Caller(session, lambda sql: session.execute(text(sql)), session.begin_nested))


def sqlalchemy_connection(url: str, block: Block) -> None:
    with _engine(url) as engine, engine.begin() as connection:
        block(Caller(connection, lambda sql: connection.execute(text(sql)), connection.begin_nested))


def sqlalchemy_async(url: str, block: Block) -> None:
    async def run() -> None:
        async_creator = lambda: psycopg.AsyncConnection.connect(url)  # noqa: E731
        engine = create_async_engine("postgresql+psycopg://", async_creator=async_creator, poolclass=NullPool)
        try:
            async with AsyncSession(engine) as session, session.begin():
                await session.run_sync(lambda s: block(Caller(s, lambda sql: s.execute(text(sql)), s.begin_nested)))
        finally:
            await engine.dispose()

    asyncio.run(run())


def django(url: str, block: Block) -> None:
    with django_connection(url) as connection, transaction.atomic():
        block(Caller(connection, lambda sql: connection.cursor().execute(sql), transaction.atomic))


@contextlib.contextmanager
def django_connection(url: str) -> Iterator[Any]:
    """Django's default connection, led to this database."""
    if not settings.configured:
        settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}})
        setup()
    named = conninfo_to_dict(url)
    names = {"NAME": named["dbname"], "USER": named["user"], "HOST": named["host"], "PORT": named["port"]}
    connections.databases["default"].update(names)
    if hasattr(connections._connections, "default"):
        del connections["default"]
    connection = connections["default"]
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _engine(url: str) -> Iterator[Any]:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


OURS = (psycopg_idle,)
THEIRS = (
    psycopg_implicit, psycopg_explicit, sqlalchemy_session, sqlalchemy_connection, sqlalchemy_async, django,
)  # fmt: skip
