"""Through PgBouncer, pooling by transaction: what a client sets must not reach another, and nothing may rely on a
session. The part of the contract that depends on it runs here once more."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from everlog import Fold, Log, Platform, Recorded, processor
from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.core.clock import Clock
from everlog.store.query import Filter
from everlog.testing.conformance import store_conformance
from everlog.testing.conformance.events import append, everything, new_event, request, versions
from everlog.testing.conformance.following import fences, following_conformance
from everlog.testing.conformance.following.suite import LeaseClock
from everlog.testing.conformance.topics import joined, writers
from everlog.testing.conformance.verifying import verifying_conformance
from everlog.testing.postgres import Server
from tests.following.parts import Counted, counted, counter, eventually, tally
from tests.postgres.folders import database_of
from tests.postgres.pgbouncer import pgbouncer, through
from tests.postgres.roles import TENANTS, opened, under_roles

SESSIONS = 4

_folders: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def _pool(postgres_server: Server) -> Iterator[None]:
    with pgbouncer(postgres_server, size=SESSIONS) as folder:
        _folders.append(folder)
        yield
        _folders.pop()


def pooled(url: str) -> str:
    return through(url, _folders[-1])


# ---- The contract.


def _open(folder: Path, clock: Clock) -> PostgresStore:
    return PostgresStore(PostgresSettings.from_url(pooled(database_of(folder))), clock=clock)


def _open_following(folder: Path, clock: Clock, lease: LeaseClock) -> PostgresStore:
    return PostgresStore(PostgresSettings.from_url(pooled(database_of(folder))), clock=clock, lease_clock=lease)


def _connect(folder: Path) -> contextlib.AbstractContextManager[Any]:
    return contextlib.closing(psycopg.connect(pooled(database_of(folder)), prepare_threshold=None))


def only(suite: type, *topics: ModuleType) -> type:
    """What these topics say of it."""
    wanted = {name for topic in topics for name in vars(topic)}
    for name in [name for name in vars(suite) if name.startswith("test_") and name not in wanted]:
        delattr(suite, name)
    return suite


TestStore = only(store_conformance(_open, connect=_connect), joined, writers)
TestFollowing = only(following_conformance(_open_following, boots=False), fences)
TestVerifying = verifying_conformance(_open_following)


# ---- A whole application.


def test_an_application_runs_through_a_pool(database: str) -> None:
    sums, table = tally(), counter()
    now = tally("now", inline=True)
    handled: list[int] = []

    @processor("mail", on=Counted)
    def mail(e: Recorded[Counted]) -> None:
        handled.append(e.position)

    with Platform(pooled(database), sums, table, now, mail).open(worker=True) as log:
        acme = log.tenant("acme")
        for n in range(1, 11):
            acme.append(f"tally-{n % 3}", Counted("k", n))
        acme.wait_for(sums, table)
        assert [acme.get(fold, "k") for fold in (sums, now)] == [55, 55]
        assert counted(log) == {("acme", "k"): 55}
        eventually(lambda: sorted(handled) == list(range(1, 11)))


# ---- What one client leaves to the next.


def left_behind(url: str) -> list[tuple[object, ...]]:
    """What clients find on every session of the pool that is not as it is on a fresh one."""
    told_by_the_client = {"application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"}
    found: list[tuple[object, ...]] = []
    with contextlib.ExitStack() as at_once:
        for _ in range(SESSIONS):
            client = at_once.enter_context(psycopg.connect(pooled(url), prepare_threshold=None))
            set_here = client.execute("SELECT name, setting FROM pg_settings WHERE source = 'session'").fetchall()
            found += [row for row in set_here if row[0] not in told_by_the_client]
            found += client.execute("SELECT name, statement FROM pg_prepared_statements").fetchall()
            found += client.execute("SELECT pg_listening_channels()").fetchall()
            tenant = client.execute("SELECT current_setting('everlog.tenant', true)").fetchone()
            found += [("everlog.tenant", tenant)] if tenant not in ((None,), ("",)) else []
    return found


def test_nothing_is_left_for_the_next_client(database: str) -> None:
    url = under_roles(database)
    sums = tally()
    under_a_tenant = f"{pooled(url.partition('?')[0])}?tenant_role={TENANTS}"
    with Platform(under_a_tenant, sums).open(worker=True) as log:
        work(log, database, sums)
    assert left_behind(database) == []


def work(log: Log, database: str, sums: Fold[int]) -> None:
    """Everything that sets something for itself, often enough for a driver to prepare it."""
    acme = log.tenant("acme")
    for n in range(1, 8):
        acme.append("tally-1", Counted("k", n))
        with psycopg.connect(pooled(database), prepare_threshold=None) as connection, acme.join(connection) as tx:
            tx.append("tally-2", Counted("k", n))
        assert len(list(acme.events())) == 2 * n
    acme.wait_for(sums)
    assert acme.get(sums, "k") == 56


def test_what_would_be_left_is_found(database: str) -> None:
    with psycopg.connect(pooled(database), autocommit=True, prepare_threshold=None) as client:
        client.execute("SET statement_timeout = '7s'")
        client.execute("SELECT set_config('everlog.tenant', 'acme', false)")
        client.execute("PREPARE mine AS SELECT 1")
    found = left_behind(database)
    assert ("statement_timeout", "7000") in found
    assert len(found) == 3
    with psycopg.connect(pooled(database), autocommit=True, prepare_threshold=None) as client:
        client.execute("DISCARD ALL")


def test_doctor_says_that_there_is_a_pool(database: str) -> None:
    for url, seen in ((pooled(database), "through a pooler"), (database, "direct")):
        with opened(url) as store:
            [found] = [one for one in store.examine() if one.check == "connection"]
            assert found.seen.startswith(seen)


def test_followers_poll_where_nobody_can_listen(database: str) -> None:
    before = set(threading.enumerate())

    def listens() -> bool:
        return any(one.name == "everlog-listen" for one in set(threading.enumerate()) - before)

    with opened(pooled(database)) as store, opened(pooled(database)) as elsewhere:
        hints: list[int] = []
        store.on_append(lambda: hints.append(1))
        eventually(lambda: not listens())
        append(elsewhere)
        assert versions(store) == [1]
        assert hints == []
    with opened(database) as direct:
        direct.on_append(lambda: hints.append(1))
        eventually(lambda: hints)
        assert listens()


def test_whoever_holds_the_head_is_bounded_inside_the_transaction(database: str) -> None:
    with opened(pooled(database)) as store, psycopg.connect(pooled(database), prepare_threshold=None) as connection:
        with store.join(connection) as tx:
            tx.append(request(new_event()))
            tx.flush()
            assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("2s",)
        assert len(everything(store)) == len(list(store.read(Filter(None)))) == 1
