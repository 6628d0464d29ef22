"""What following does on PostgreSQL alone: locks instead of one writer, lost connections, the server's clock."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from everlog.adapters.postgres import PostgresSettings, PostgresStore, checkpoints
from everlog.core.errors import Fenced, InvalidInput, OutcomeUnknown, StoreUnavailable
from everlog.processing.contract import LaneFilter
from everlog.subscription.contract import Claim, Effects
from everlog.testing.conformance.following.words import NAME, claimed, progress
from tests.following.parts import eventually

MAKE_TABLE = "CREATE TABLE IF NOT EXISTS seat (name text PRIMARY KEY)"


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(PostgresSettings.from_url(database))) as store:
        yield store


@pytest.fixture
def claim(store: PostgresStore) -> Claim:
    return claimed(store)


@pytest.fixture
def tool(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as tool:
        yield tool


def end_session(tool: psycopg.Connection, connection: psycopg.Connection) -> None:
    pid = connection.info.backend_pid
    tool.execute("SELECT pg_terminate_backend(%s)", (pid,))
    eventually(lambda: not tool.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall())


def waiting(tool: psycopg.Connection) -> bool:
    """Whether a session waits for a row that another one has locked."""
    return bool(tool.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchall())


# ---- The block.


@pytest.mark.parametrize(
    "end", [lambda tx: tx.execute("COMMIT"), lambda tx: tx.connection.commit(), lambda tx: tx.connection.rollback()]
)
def test_a_block_that_ends_the_transaction_is_told_to_leave_it(
    store: PostgresStore, claim: Claim, end: Callable[[Effects], object]
) -> None:
    with pytest.raises(InvalidInput, match="leave COMMIT and ROLLBACK"), store.checkpoints.transaction(claim, 1) as tx:
        end(tx)


def test_a_failed_statement_that_is_passed_over_loses_nothing_silently(store: PostgresStore, claim: Claim) -> None:
    """COMMIT would roll back then, and say that all is well."""
    with pytest.raises(InvalidInput, match="passed over"), store.checkpoints.transaction(claim, 1) as tx:
        tx.execute(MAKE_TABLE)
        with suppress(psycopg.Error):
            tx.execute("SELECT * FROM no_such_table")
    assert progress(store).position == 0


def test_what_may_fail_is_put_into_a_savepoint(store: PostgresStore, claim: Claim) -> None:
    with store.checkpoints.transaction(claim, 1) as tx:
        tx.execute(MAKE_TABLE)
        for name in ("A1", "A1", "A2"):
            with suppress(psycopg.errors.UniqueViolation), tx.connection.transaction():
                tx.execute("INSERT INTO seat VALUES (?)", (name,))
        assert tx.execute("SELECT name FROM seat WHERE name <> '?' ORDER BY 1") == [("A1",), ("A2",)]
    assert progress(store).position == 1


def test_a_constraint_that_is_checked_at_the_end_is_the_users_own_error(store: PostgresStore, claim: Claim) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation), store.checkpoints.transaction(claim, 1) as tx:
        tx.execute(MAKE_TABLE)
        tx.execute("CREATE TABLE guest (seat text REFERENCES seat DEFERRABLE INITIALLY DEFERRED)")
        tx.execute("INSERT INTO guest VALUES ('B7')")
    assert progress(store).position == 0


def test_a_connection_comes_back_as_it_was_lent(store: PostgresStore, claim: Claim) -> None:
    for _ in range(2):
        with store.checkpoints.transaction(claim, 1) as tx:
            assert tx.execute("SELECT 1 AS one") == [(1,)]
            theirs: Any = tx.connection
            theirs.row_factory = dict_row
            assert theirs.execute("SELECT 1 AS one").fetchone() == {"one": 1}
            assert tx.execute("SELECT 1 AS one") == [(1,)]


# ---- Trouble.


def test_a_connection_that_is_lost_in_the_block_is_trouble_and_keeps_nothing(
    store: PostgresStore, claim: Claim, tool: psycopg.Connection
) -> None:
    with pytest.raises(StoreUnavailable), store.checkpoints.transaction(claim, 1) as tx:
        tx.execute(MAKE_TABLE)
        end_session(tool, tx.connection)
        tx.execute("INSERT INTO seat VALUES ('A1')")
    assert progress(store).position == 0


def test_trouble_that_an_orm_tells_in_its_own_words_is_trouble_too(
    store: PostgresStore, claim: Claim, tool: psycopg.Connection
) -> None:
    with pytest.raises(StoreUnavailable), store.checkpoints.transaction(claim, 1) as tx:
        end_session(tool, tx.connection)
        try:
            tx.connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise RuntimeError("the ORM says so") from error


def test_a_statement_that_takes_too_long_is_trouble(store: PostgresStore, claim: Claim) -> None:
    with pytest.raises(StoreUnavailable, match="statement timeout"), store.checkpoints.transaction(claim, 1) as tx:
        tx.execute("SET LOCAL statement_timeout = '10ms'")
        tx.execute("SELECT pg_sleep(10)")


def test_a_commit_that_is_not_answered_is_told_as_that(
    store: PostgresStore, claim: Claim, tool: psycopg.Connection
) -> None:
    with pytest.raises(OutcomeUnknown), store.checkpoints.transaction(claim, 1) as tx:
        end_session(tool, tx.connection)
    assert progress(store).position == 0


def test_connections_that_died_meanwhile_are_replaced_unnoticed(
    store: PostgresStore, claim: Claim, tool: psycopg.Connection
) -> None:
    with store.checkpoints.transaction(claim, 1), store.checkpoints.transaction(claimed(store, "other"), 1):
        pass
    tool.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    )
    with store.checkpoints.transaction(claim, 2):
        pass
    assert progress(store).position == 2


def test_two_that_make_the_same_table_at_once_wait_for_each_other(
    store: PostgresStore, claim: Claim, tool: psycopg.Connection
) -> None:
    other = claimed(store, "other")
    caught: list[Exception] = []

    def make_it_too() -> None:
        try:
            with store.checkpoints.transaction(other, 1) as tx:
                tx.execute(MAKE_TABLE)
        except StoreUnavailable as error:
            caught.append(error)

    second = threading.Thread(target=make_it_too)
    with store.checkpoints.transaction(claim, 1) as tx:
        tx.execute(MAKE_TABLE)
        second.start()
        eventually(lambda: waiting(tool))
    second.join()
    assert len(caught) == 1, "no attempt was used, and the next one finds the table"


# ---- Owners.


def test_a_lease_runs_on_the_servers_clock(store: PostgresStore) -> None:
    store.checkpoints.register(NAME, "processor", 1, 0)
    assert store.checkpoints.claim(NAME, "ann", 60.0) is not None
    assert store.checkpoints.claim(NAME, "bob", 60.0) is None
    assert store.checkpoints.claim(NAME, "ann", 0.05) is not None
    eventually(lambda: progress(store).owner == "")
    assert store.checkpoints.claim(NAME, "bob", 60.0) is not None


def test_nobody_takes_over_in_the_middle_of_a_transaction(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PATIENCE", 0.05)
    store.checkpoints.register(NAME, "processor", 1, 0)
    claim = store.checkpoints.claim(NAME, "ann", 0.0)
    assert claim is not None
    with store.checkpoints.transaction(claim, 1):
        assert store.checkpoints.claim(NAME, "bob", 10.0) is None
    assert store.checkpoints.claim(NAME, "bob", 10.0) is not None


def test_who_stands_still_in_a_transaction_is_cut_off(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SHORTEST_FROZEN_SECONDS", 0.1)
    store.checkpoints.register(NAME, "processor", 1, 0)
    claim = store.checkpoints.claim(NAME, "ann", 0.0)
    assert claim is not None
    with pytest.raises(StoreUnavailable), store.checkpoints.transaction(claim, 1) as tx:
        taken = eventually(lambda: store.checkpoints.claim(NAME, "bob", 10.0))
        assert taken is not None
        with store.checkpoints.transaction(taken, 1):
            pass
        tx.execute("SELECT 1")
    with pytest.raises(Fenced), store.checkpoints.transaction(claim, 2):
        pass


def test_a_person_waits_for_what_the_processor_does_to_a_lane(
    store: PostgresStore, claim: Claim, tool: psycopg.Connection
) -> None:
    """Else the others would wait for a canary whose lane is worked off and closed at this moment."""
    lanes = store.desk.lanes
    with store.checkpoints.transaction(claim, 0) as tx:
        for key in ("a", "b"):
            lanes.set(tx, NAME, key, "retrying", 1, 0, "boom")
            lanes.park(tx, NAME, key, [1])
    retried: list[Any] = []
    person = threading.Thread(target=lambda: retried.append(lanes.retry(LaneFilter(NAME), canary=True)))
    with store.checkpoints.transaction(claim, 0) as tx:
        person.start()
        eventually(lambda: waiting(tool))
        assert lanes.done(tx, NAME, "a", 1)
    person.join()
    assert retried == [1]
    assert [(lane.key, lane.status) for lane in lanes.find(LaneFilter(NAME))] == [("b", "retrying")]


def test_what_text_cannot_hold_is_spelled_out_in_an_error(store: PostgresStore, claim: Claim) -> None:
    assert store.checkpoints.set_status(NAME, "failed", error="ValueError: a\0b \ud800")
    assert progress(store).error == "ValueError: a\\x00b \\ud800"
