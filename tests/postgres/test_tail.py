"""Every committed event is seen once, in order and soon, whatever transactions are open around it (T09).

EVERLOG_SEED repeats the choices; `python -m tests.campaign postgres-tail` goes on for as long as you like.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Literal

import psycopg
import pytest

from everlog.app.stores import Backend, open_store
from everlog.core.envelope import Append, Appended, NewEvent
from everlog.core.errors import EverlogError, StoreUnavailable
from everlog.core.ids import new_id
from everlog.store.contract import Joined
from tests.concurrency.workload import SEED
from tests.postgres.server import empty_database
from tests.postgres.tails import EVERYTHING, TENANT, follow

SECONDS = 5.0
MOST_DELAY = 1.0
CUT_SECONDS = 2.0
SLACK = 1.5


def test_every_committed_event_is_seen_once_and_in_order(database: str) -> None:
    with empty_database() as elsewhere:
        report = follow(SEED, database, elsewhere, SECONDS)
    print(f"EVERLOG_SEED={SEED} {dict(report.faults)}, {dict(report.done)}, seen within {report.delay:.3f} s")
    assert report.violations == []
    assert report.delay < MOST_DELAY
    assert report.done["events"] > 0
    assert min(report.faults[fault] for fault in ("held", "rolled back", "open transaction here")) > 0
    assert min(report.faults[f"prepared transaction {where}"] for where in ("here", "elsewhere")) > 0


Ending = Literal["commit", "rollback", "terminated"]
INTERLEAVINGS = list(
    product(("before", "while it holds"), ("commit", "rollback", "terminated"), ("commit", "rollback"))
)


@pytest.mark.parametrize(("begins", "first_ends", "second_ends"), INTERLEAVINGS)
def test_two_transactions_at_the_head(begins: str, first_ends: Ending, second_ends: Ending, database: str) -> None:
    """The second one wants the head while the first one has it; a reader looks after every step."""
    with ExitStack() as end:
        store = end.enter_context(closing(open_store(database)))
        pool = end.enter_context(ThreadPoolExecutor(1))
        first, second = (end.enter_context(transaction(store, database)) for _ in range(2))
        if begins == "before":
            second.begin()
        first.begin()
        [mine] = first.flush()
        assert positions(store) == []
        if begins == "while it holds":
            second.begin()
        waiting = pool.submit(second.flush)
        waits_for_a_lock(database)
        assert positions(store) == []
        assert mine.position == 1
        first.finish(first_ends)
        [theirs] = waiting.result(5)
        stored = int(first_ends == "commit")
        assert theirs.position == stored + 1
        assert positions(store) == list(range(1, stored + 1))
        second.finish(second_ends)
        stored += int(second_ends == "commit")
        assert positions(store) == list(range(1, stored + 1))
        assert store.append(request()).position == stored + 1


def test_a_prepared_transaction_that_has_the_head_is_waited_for(database: str) -> None:
    """Nobody but its coordinator may end one; until then others are told that they cannot have the head."""
    with closing(open_store(f"{database}?lock_timeout=0.5")) as store, psycopg.connect(database) as theirs:
        theirs.execute("SELECT 1")  # begins, so that its end is theirs
        with store.join(theirs) as joining:
            joining.append(request())
        theirs.execute("PREPARE TRANSACTION 'two phases'")
        theirs.rollback()
        with pytest.raises(StoreUnavailable):
            store.append(request())
        assert positions(store) == []
        theirs.autocommit = True
        theirs.execute("COMMIT PREPARED 'two phases'")
        assert positions(store) == [1]
        assert store.append(request()).position == 2


@pytest.mark.parametrize("holds", ["idle", "stuck in one statement", "busy"])
def test_who_sits_on_the_head_is_cut_and_others_go_on(holds: str, database: str) -> None:
    with closing(open_store(database)) as store, psycopg.connect(database, autocommit=True) as theirs:
        if holds == "busy" and theirs.info.server_version < 170000:
            pytest.skip("a transaction that stays busy is cut from PostgreSQL 17 on")
        took: list[float] = []
        with pytest.raises((EverlogError, psycopg.Error)):
            hold_the_head(store, theirs, holds, took)
        print(f"{holds}: others went on after {took[0]:.2f} s")
        assert CUT_SECONDS - 0.1 < took[0] < CUT_SECONDS + SLACK
        assert positions(store) == [1]


def hold_the_head(store: Backend, theirs: psycopg.Connection, how: str, took: list[float]) -> None:
    """Until another append has got it; `took` says how long that was."""
    with ThreadPoolExecutor(1) as pool, store.join(theirs) as joining:
        joining.append(request())
        joining.flush()
        began = time.monotonic()
        other = pool.submit(store.append, request())
        with suppress(psycopg.Error):
            while not other.done():
                match how:
                    case "stuck in one statement":
                        theirs.execute("SELECT pg_sleep(20)")
                    case "busy":
                        theirs.execute("SELECT pg_sleep(0.05)")
                    case "idle":
                        wait([other], 20)
        assert other.result(10).position == 1
        took.append(time.monotonic() - began)


def test_a_transaction_with_an_old_view_is_refused_rather_than_told_old_versions(database: str) -> None:
    with closing(open_store(database)) as store, psycopg.connect(database) as theirs:
        theirs.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        theirs.execute("SELECT count(*) FROM everlog_event")
        store.append(request())
        with pytest.raises(StoreUnavailable), store.join(theirs) as joining:
            joining.append(request())
        theirs.rollback()
        assert positions(store) == [1]


def test_a_block_whose_transaction_failed_unheard_does_not_pass_for_committed(database: str) -> None:
    with closing(open_store(database)) as store, psycopg.connect(database, autocommit=True) as theirs:
        with pytest.raises(StoreUnavailable):
            flush_and_fail(store, theirs)
        assert positions(store) == []


def flush_and_fail(store: Backend, theirs: psycopg.Connection) -> None:
    with store.join(theirs) as joining:
        joining.append(request())
        joining.flush()
        with suppress(psycopg.errors.UndefinedTable):
            theirs.execute("SELECT * FROM nowhere")


@dataclass
class Transaction:
    """A caller's transaction that everlog joins, led step by step."""

    store: Backend
    url: str
    theirs: psycopg.Connection
    blocks: ExitStack
    joining: Joined | None = None

    def begin(self) -> None:
        self.theirs.execute("SELECT 1")
        self.joining = self.blocks.enter_context(self.store.join(self.theirs))

    def flush(self) -> list[Appended]:
        assert self.joining is not None
        self.joining.append(request())
        return list(self.joining.flush())

    def finish(self, how: Ending) -> None:
        match how:
            case "commit":
                self.blocks.close()
                self.theirs.commit()
            case "rollback":
                self.blocks.close()
                self.theirs.rollback()
            case "terminated":
                terminate(self.url, self.theirs.info.backend_pid)


@contextmanager
def transaction(store: Backend, url: str) -> Iterator[Transaction]:
    theirs = psycopg.connect(url)
    blocks = ExitStack()
    try:
        yield Transaction(store, url, theirs, blocks)
    finally:
        blocks.close()
        theirs.close()


def request() -> Append:
    return Append(TENANT, (NewEvent(new_id(), "seat-1", "seat.taken", 1, b"{}"),))


def positions(store: Backend) -> list[int]:
    return [event.position for event in store.read(EVERYTHING)]


def terminate(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def waits_for_a_lock(url: str) -> None:
    """Until some session of this database waits for another one."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 5
    with psycopg.connect(url, autocommit=True) as session:
        while session.execute(waiting).fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.002)
