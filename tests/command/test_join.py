"""Joining: the caller's own rows and our events commit together, or not at all."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from everlog import (
    Exactly,
    InvalidInput,
    Log,
    Misconfigured,
    NoStream,
    StoreUnavailable,
    WrongExpectedVersion,
)
from tests.command.counting import Add, Added, Counter, counters, platform


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    with platform.open(f"sqlite:///{path}") as log:
        yield log


@pytest.fixture
def connection(log: Log, path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE stock (item TEXT, left INTEGER)")
        yield connection


def stock(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    return connection.execute("SELECT item, left FROM stock").fetchall()


def test_rows_and_events_commit_together(log: Log, connection: sqlite3.Connection) -> None:
    acme = log.tenant("acme", actor="ann")
    with acme.join(connection) as joined:
        connection.execute("INSERT INTO stock VALUES ('chair', 3)")
        joined.append("counter-a", Added("a", 1), Added("a", 2))
        joined.append("counter-b", Added("b", 3))
        assert list(acme.events()) == []  # nothing leaves before it is committed
    assert stock(connection) == [("chair", 3)]
    assert [(event.stream, event.version, event.actor) for event in acme.events()] == [
        ("counter-a", 1, "ann"), ("counter-a", 2, "ann"), ("counter-b", 1, "ann"),
    ]  # fmt: skip
    assert log.tenant("other").state(counters, "a") == Counter()
    assert acme.execute(counters, "a", Add(4)).state.total == 7


def test_an_error_in_the_block_takes_both_back(log: Log, connection: sqlite3.Connection) -> None:
    acme = log.tenant("acme")

    def sell() -> None:
        with acme.join(connection) as joined:
            connection.execute("INSERT INTO stock VALUES ('chair', 3)")
            joined.append("counter-a", Added("a", 1))
            joined.flush()
            raise LookupError("no chair left")

    with pytest.raises(LookupError):
        sell()
    assert (stock(connection), list(acme.events())) == ([], [])
    assert acme.append("counter-a", Added("a", 1)).position == 1


def test_flush_says_where_the_events_will_lie(log: Log, connection: sqlite3.Connection) -> None:
    with log.tenant("acme").join(connection) as joined:
        joined.append("counter-a", Added("a", 1))
        joined.append("counter-a", Added("a", 2), Added("a", 3))
        first, second = joined.flush()
        assert joined.flush() == []
    assert [tuple(place) for place in (*first.places, *second.places)] == [(1, 1), (2, 2), (3, 3)]


def test_a_condition_that_fails_takes_the_rows_back(log: Log, connection: sqlite3.Connection) -> None:
    acme = log.tenant("acme")
    acme.append("counter-a", Added("a", 1))

    def sell() -> None:
        with acme.join(connection) as joined:
            connection.execute("INSERT INTO stock VALUES ('chair', 3)")
            joined.append("counter-a", Added("a", 2), expect=NoStream())

    with pytest.raises(WrongExpectedVersion, match="counter-a is at version 1"):
        sell()
    assert (stock(connection), len(list(acme.events()))) == ([], 1)
    with acme.join(connection) as joined:
        joined.append("counter-a", Added("a", 2), expect=Exactly(1))
    assert len(list(acme.events())) == 2


def test_a_request_id_makes_a_retry_store_nothing_twice(log: Log, connection: sqlite3.Connection) -> None:
    acme = log.tenant("acme")
    for replayed in (False, True):
        with acme.join(connection) as joined:
            joined.append("counter-a", Added("a", 1), request_id="r-1")
            [answer] = joined.flush()
        assert answer.replayed is replayed
    assert len(list(acme.events())) == 1


def test_a_block_without_events_commits_its_rows(log: Log, connection: sqlite3.Connection) -> None:
    with log.tenant("acme").join(connection):
        connection.execute("INSERT INTO stock VALUES ('chair', 3)")
    assert stock(connection) == [("chair", 3)]
    assert log.head().position == 0


def test_an_event_that_cannot_be_stored_is_refused_at_once(log: Log, connection: sqlite3.Connection) -> None:
    with pytest.raises(InvalidInput), log.tenant("acme").join(connection) as joined:
        joined.append("no stream", Added("a", 1))
    assert log.head().position == 0


def test_a_connection_that_would_deadlock_or_write_elsewhere_is_refused(
    log: Log, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    acme = log.tenant("acme")
    connection.execute("BEGIN")
    with pytest.raises(StoreUnavailable, match="inside a transaction already"), acme.join(connection):
        pass
    connection.execute("ROLLBACK")
    with (
        closing(sqlite3.connect(tmp_path / "other.db")) as other,
        pytest.raises(Misconfigured, match="not on the log"),
        acme.join(other),
    ):
        pass
    with pytest.raises(Misconfigured, match=r"joins a sqlite3\.Connection, not str"), acme.join("connection"):
        pass
