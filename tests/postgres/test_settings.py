"""The URL of a PostgreSQL log: every option counts, none is taken for another, and no password is ever shown."""

import threading
import time
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from everlog.adapters.postgres import PostgresSettings
from everlog.adapters.postgres import connections as connecting
from everlog.app.stores import open_store, shown
from everlog.core.errors import Misconfigured, StoreUnavailable
from everlog.testing.conformance.events import append, versions
from tests.postgres.roles import ask, opened, under_roles

SECRET = "secret"


def settings(options: str = "") -> PostgresSettings:
    return PostgresSettings.from_url(f"postgresql://ann@db/shop{options}")


# ---- What an option does.


def test_lock_timeout_bounds_the_wait_for_the_head(database: str) -> None:
    with opened(f"{database}?lock_timeout=0.3") as store, psycopg.connect(database) as holder:
        holder.execute("SELECT FROM everlog_log FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            append(store)
        assert time.monotonic() - began < 10  # and not the 30 s of the default


def test_lock_timeout_bounds_the_wait_for_the_server() -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable), opened("postgresql://ann@127.0.0.1:1/shop?lock_timeout=0.2"):
        pass
    assert time.monotonic() - began < 10


def test_a_machine_that_stood_still_asks_once_more(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stood_still, behind, getconn = [True], [0.0], ConnectionPool.getconn
    with opened(f"{database}?lock_timeout=0.3") as store:

        def late(pool: Any, timeout: float) -> Any:
            while stood_still:
                stood_still.pop()
                behind[0] = 1.0
                raise PoolTimeout("too late")
            return getconn(pool, timeout)

        monkeypatch.setattr(ConnectionPool, "getconn", late)
        monkeypatch.setattr(connecting, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + behind[0]))
        assert store.head().position == 0
        assert stood_still == []


@pytest.mark.parametrize("connections", [1, 3])
def test_connections_is_how_many_are_open_at_once(database: str, connections: int) -> None:
    with opened(f"{database}?connections={connections}&lock_timeout=0.3") as store, ExitStack() as taken:
        for _ in range(connections):
            taken.enter_context(store._connections.connection())
        with pytest.raises(StoreUnavailable):
            store.head()
        taken.close()
        assert store.head().position == 0


def test_a_call_waits_for_a_connection_that_is_given_back(database: str) -> None:
    with opened(f"{database}?connections=1&lock_timeout=10") as store:
        taken = threading.Event()

        def hold() -> None:
            with store._connections.connection():
                taken.set()
                time.sleep(0.2)

        holder = threading.Thread(target=hold)
        holder.start()
        taken.wait()
        assert store.head().position == 0
        holder.join()


def test_tenant_role_is_who_reads_of_a_tenant_run_as(database: str) -> None:
    with opened(under_roles(database)) as store:
        assert store._connections.rows("SELECT current_user::text", tenant="acme") == [("test_tenants",)]
        assert store._connections.rows("SELECT current_user::text") == [("test_app",)]
    with opened(database) as store:
        assert store._connections.rows("SELECT current_user::text", tenant="acme") == [("postgres",)]


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("application_name=till%204", ("application_name", "till 4")),
        ("application_name=a%2Bb", ("application_name", "a+b")),
        ("application_name=a+b", ("application_name", "a+b")),
        ("options=-c%20work_mem%3D7MB%20-c%20geqo%3Doff", ("work_mem", "7MB")),
        ("", ("application_name", "everlog")),
    ],
)
def test_what_is_not_ours_goes_to_libpq_as_it_is(database: str, option: str, setting: tuple[str, str]) -> None:
    with opened(f"{database}?{option}") as store:
        assert ask(store, f"SHOW {setting[0]}") == [(setting[1],)]


def test_the_first_host_that_takes_writes_is_used(database: str) -> None:
    with opened(database.replace("@", "@%2Fnowhere:1,127.0.0.1:1,")) as store:
        append(store)
        assert versions(store) == [1]


@pytest.mark.parametrize("option", ["target_session_attrs", "connect_timeout", "application_name", "tcp_user_timeout"])
def test_a_default_gives_way_to_what_is_said(option: str) -> None:
    value = {"target_session_attrs": "any", "application_name": "till"}.get(option, "77")
    assert conninfo_to_dict(settings().conninfo)[option] != value
    assert conninfo_to_dict(settings(f"?{option}={value}").conninfo)[option] == value


def test_options_may_come_in_any_order_and_leave_the_rest_alone() -> None:
    found = settings("?connections=3&sslmode=require&lock_timeout=0.5&tenant_role=t&allow_unsafe=fsync,tenant_role")
    assert (found.connections, found.lock_timeout, found.tenant_role) == (3, 0.5, "t")
    assert found.allow_unsafe == {"fsync", "tenant_role"}
    assert conninfo_to_dict(found.conninfo)["sslmode"] == "require"
    assert found.place == "postgresql://db/shop"


# ---- What is refused.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("?nonsense=1", 'invalid URI query parameter: "nonsense"'),
        ("?conninfo=x", 'invalid URI query parameter: "conninfo"'),
        ("?locktimeout=1", 'invalid URI query parameter: "locktimeout"'),
        ("?lock_timeout=soon", "lock_timeout='soon' is not a number"),
        ("?lock_timeout=0", "lock_timeout=0 must be a number above 0"),
        ("?lock_timeout=inf", "must be a number above 0"),
        ("?lock_timeout=nan", "must be a number above 0"),
        ("?connections=-1", "connections=-1 must be a number above 0"),
        ("?connections=2.5", "connections=2.5 must be a whole number"),
        ("?connections", "connections='' is not a number"),
        ("?tenant_role=", "tenant_role= names no role"),
        ("?allow_unsafe=autovacuum", "it may name fsync, full_page_writes, synchronous_commit, tenant_role"),
    ],
)
def test_what_nobody_understands_is_refused(options: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=told.replace("?", r"\?")):
        settings(options)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@db/shop?nonsense=1",
        f"postgresql://ann:{SECRET} 1@db/shop",
        f"postgresql://ann:{SECRET}%zz@db/shop",
        f"postgresql://ann:{SECRET}%40x@db/shop?nonsense={SECRET}@x",
        f"postgresql://ann:{SECRET}@[::1/shop",
        f"postgresql://ann@db/shop?password={SECRET}&nonsense=1",
        f"postgresql://ann:{SECRET}@127.0.0.1:1/shop?lock_timeout=0.1",
        f"postgresql://ann@127.0.0.1:1/shop?lock_timeout=0.1&password={SECRET}",
        f"postgresql://ann:{SECRET}@127.0.0.1:1/shop?lock_timeout=0.1&sslmode=bad",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises((Misconfigured, StoreUnavailable)) as refused, opened(url):
        pass
    error: BaseException | None = refused.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://ann:{SECRET}@db/shop?x=1", "postgresql://ann:…@db/shop?x=1"),
        (f"postgresql://ann:{SECRET}/@:x@db:5432,db2/shop", "postgresql://ann:…@db:5432,db2/shop"),
        (
            f"postgresql:///shop?password={SECRET}&x=1&sslpassword={SECRET}",
            "postgresql:///shop?password=…&x=1&sslpassword=…",
        ),
        ("postgresql://ann@db:5432/shop", "postgresql://ann@db:5432/shop"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
        ("memory:", "memory:"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, told: str) -> None:
    assert shown(url) == told


def test_an_unknown_store_is_named_without_its_password() -> None:
    with pytest.raises(Misconfigured) as refused:
        open_store(f"mysql://ann:{SECRET}@db/shop")
    assert "mysql://ann:…@db/shop" in str(refused.value)


def test_settings_show_no_password() -> None:
    found = PostgresSettings.from_url(f"postgresql://ann:{SECRET}@db/shop")
    assert SECRET not in f"{found} {found!r} {found.place}"
    assert conninfo_to_dict(found.conninfo)["password"] == SECRET


def test_a_password_is_used(database: str) -> None:
    with closing(psycopg.connect(database, autocommit=True)) as admin:
        admin.execute("DROP ROLE IF EXISTS test_with_password")
        admin.execute("CREATE ROLE test_with_password LOGIN PASSWORD 'p@ss word+1'")
    url = database.replace("postgres@", "test_with_password:p%40ss%20word+1@")
    assert conninfo_to_dict(PostgresSettings.from_url(url).conninfo)["password"] == "p@ss word+1"
