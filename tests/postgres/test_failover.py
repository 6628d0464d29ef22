"""A list of hosts: the one that takes writes is found, at the start and when another one has become it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import psycopg
import pytest

from everlog.app.stores import open_store
from everlog.core.envelope import Append, NewEvent, StoredEvent
from everlog.core.ids import new_id
from everlog.store.query import Filter
from everlog.subscription.contract import Effects
from everlog.testing.postgres import Server, running
from tests.concurrency.checker import check
from tests.concurrency.workload import SEED, client, exercised, logged, run_threads, streams
from tests.postgres.retrying import Retrying
from tests.postgres.standby import ask, hosts, promote, standby_of, until
from tests.postgres.tails import Reader, Sees, follow_with

pytestmark = pytest.mark.usefixtures("postgres_server")  # skips where there is none

WRITERS = 8


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary that waits for its standby. The last test here kills it."""
    with running(tcp=True) as primary, standby_of(primary) as standby:
        yield primary, standby


def test_a_standby_that_is_named_first_is_never_read_or_written(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    with closing(open_store(hosts(standby, primary))) as store, psycopg.connect(standby.url()) as session:
        session.execute("SELECT pg_wal_replay_pause()")  # so that it would answer late
        try:
            for number in range(1, 6):
                store.append(request())
                assert [event.position for event in store.read(Filter(None))] == list(range(1, number + 1))
            assert ask(session, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everlog'") == 0
        finally:
            session.execute("SELECT pg_wal_replay_resume()")


def test_when_a_standby_takes_over_nothing_is_lost_or_doubled(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    with psycopg.connect(primary.url(), autocommit=True) as session:
        session.execute("CREATE DATABASE shared")
    with psycopg.connect(primary.url("shared"), autocommit=True) as session:
        session.execute("CREATE TABLE seen (id serial, position bigint)")
    done, stop = threading.Event(), threading.Event()
    with closing(open_store(hosts(primary, standby, database="shared"))) as store, ThreadPoolExecutor(2) as pool:
        target = Retrying(store)
        clients = [client(str(number), SEED, streams(4)) for number in range(WRITERS)]
        reading = pool.submit(follow_with, Keeps(store, Reader("follower")), store, done)
        writing = pool.submit(run_threads, target, clients, 60.0, stop=stop)
        try:
            wait_for_answers(target)
            primary.kill()
            promote(standby)
            wait_for_answers(target)
        finally:
            stop.set()
            history = writing.result()
            head = store.head().position
            with suppress(AssertionError):
                until(lambda: kept(standby)[-1:] == [head])
            done.set()
        reading.result()
        log = logged(store)
    print(f"EVERLOG_SEED={SEED} 1 primary killed, {dict(exercised(history))}, {dict(target.seen)}, {len(log)} events")
    assert check(history, log) == []
    assert kept(standby) == list(range(1, len(log) + 1))


def test_a_host_that_is_gone_is_passed_over(postgres_server: Server, database: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        listed = f"127.0.0.1:{nobody.getsockname()[1]},127.0.0.1:{postgres_server.port}"
        with closing(open_store(f"postgresql://postgres@{listed}/{database.rpartition('/')[2]}")) as store:
            assert store.append(request()).position == 1


class Keeps(Sees):
    """Effects are the database's own: what a server that died took with it is done again, and nothing twice."""

    def take(self, page: Sequence[StoredEvent], effects: Effects) -> None:
        effects.execute("INSERT INTO seen (position) SELECT unnest(?::bigint[])", ([e.position for e in page],))


def kept(server: Server) -> list[int]:
    with psycopg.connect(server.url("shared")) as session:
        return [row[0] for row in session.execute("SELECT position FROM seen ORDER BY id")]


def wait_for_answers(target: Retrying) -> None:
    """So many that some were certainly asked for after this began."""
    for _ in range(50):
        target.answered.clear()
        assert target.answered.wait(20)


def request() -> Append:
    return Append("acme", (NewEvent(new_id(), "own", "seat.taken", 1, b"{}"),))
