"""A log under roles: the engine's, the tenants', and the login of an application that is a member of the engine's."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.app.stores import prepare_roles

ENGINE, TENANTS, LOGIN = "test_engine", "test_tenants", "test_app"
_numbers = count(1)


def admin(url: str, *statements: str) -> None:
    """What a superuser does to the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def under_roles(database: str, options: str = "") -> str:
    """Make the tables and the roles, and give the URL under which an application opens the log."""
    PostgresStore(PostgresSettings.from_url(database)).close()
    prepare_roles(database, engine_role=ENGINE, tenant_role=TENANTS)
    make_role(database, LOGIN, "LOGIN")
    admin(database, f"GRANT {ENGINE} TO {LOGIN}")
    return as_login(database, f"tenant_role={TENANTS}&lock_timeout=5{options}")


def as_login(url: str, options: str, login: str = LOGIN) -> str:
    return f"{url.replace('://postgres@', f'://{login}@')}?{options}"


def make_role(url: str, name: str, attributes: str = "") -> str:
    """Roles belong to the whole server, so one may be there from another test."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
        word = "CREATE" if found is None else "ALTER"
        connection.execute(sql.SQL(f"{word} ROLE {{}} {attributes}").format(sql.Identifier(name)))
    return name


def new_role(url: str, attributes: str = "") -> str:
    """One that no other test knows."""
    return make_role(url, f"test_role_{next(_numbers)}", attributes)


@contextlib.contextmanager
def opened(url: str) -> Iterator[PostgresStore]:
    with contextlib.closing(PostgresStore(PostgresSettings.from_url(url))) as store:
        yield store


def ask(store: PostgresStore, question: str, values: Sequence[object] = ()) -> list[Any]:
    """On the connection that the next request is given."""
    with store._connections.connection() as connection:
        return connection.execute(question, values).fetchall()
