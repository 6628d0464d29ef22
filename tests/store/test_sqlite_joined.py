"""Joining on SQLite: which connections are taken, what they keep of their own, and what a failed commit means."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.envelope import Appended
from everlog.core.errors import Misconfigured, OutcomeUnknown, StoreUnavailable, UnsafeSettings, WrongExpectedVersion
from everlog.core.expect import Exactly
from everlog.testing.conformance import append, everything, new_event, request


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(SqliteSettings(file, lock_timeout=5.0))) as store:
        yield store


@pytest.fixture
def connection(store: SqliteStore, file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE seat (name TEXT)")
        connection.commit()
        yield connection


def _seats(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM seat")]


# ---- Which connections are taken.


def test_a_connection_inside_a_transaction_is_refused(store: SqliteStore, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO seat VALUES ('A1')")
    with pytest.raises(StoreUnavailable, match="inside a transaction already"), store.join(connection) as tx:
        tx.append(request(new_event()))
    connection.commit()
    assert (_seats(connection), everything(store)) == (["A1"], [])


@pytest.mark.parametrize("other", [":memory:", "", "other.db"])
def test_a_connection_on_another_database_is_refused(store: SqliteStore, tmp_path: Path, other: str) -> None:
    name = str(tmp_path / other) if other.endswith(".db") else other
    with closing(sqlite3.connect(name)) as wrong, pytest.raises(Misconfigured, match=r"not on the log .*log\.db"):
        store.join(wrong).__enter__()


def test_what_is_no_sqlite_connection_is_refused(store: SqliteStore) -> None:
    with pytest.raises(Misconfigured, match="not str"):
        store.join("sqlite:///log.db").__enter__()


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
def test_a_connection_that_syncs_less_than_the_log_is_refused(
    store: SqliteStore, connection: sqlite3.Connection, mode: str
) -> None:
    connection.execute(f"PRAGMA synchronous={mode}")
    with pytest.raises(UnsafeSettings, match="run PRAGMA synchronous=FULL on it"):
        store.join(connection).__enter__()


def test_a_connection_that_syncs_more_is_taken(store: SqliteStore, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous=EXTRA")
    with store.join(connection) as tx:
        tx.append(request(new_event()))
    assert len(everything(store)) == 1


def test_a_connection_by_another_name_of_the_file_is_taken(store: SqliteStore, file: Path) -> None:
    link = file.parent / "link.db"
    link.symlink_to(file)
    with closing(sqlite3.connect(link)) as linked, store.join(linked) as tx:
        tx.append(request(new_event()))
    assert len(everything(store)) == 1


def test_a_closed_store_joins_nothing(store: SqliteStore, connection: sqlite3.Connection) -> None:
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.join(connection).__enter__()


# ---- The caller's connection stays theirs.


@pytest.mark.parametrize("isolation_level", [None, "DEFERRED", "EXCLUSIVE"])
def test_any_isolation_level_commits_and_rolls_back_as_one(
    store: SqliteStore, connection: sqlite3.Connection, isolation_level: Literal["DEFERRED", "EXCLUSIVE"] | None
) -> None:
    connection.isolation_level = isolation_level
    with store.join(connection) as tx:
        connection.execute("INSERT INTO seat VALUES ('A1')")
        tx.append(request(new_event()))
    with pytest.raises(WrongExpectedVersion), store.join(connection) as tx:
        connection.execute("INSERT INTO seat VALUES ('A2')")
        tx.append(request(new_event(), expect={"order-1": Exactly(9)}))
    assert (_seats(connection), len(everything(store))) == (["A1"], 1)
    assert not connection.in_transaction


def _as_dict(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> dict[str, object]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


@pytest.mark.parametrize("row_factory", [sqlite3.Row, _as_dict], ids=["Row", "dict"])
def test_rows_and_text_of_any_kind_are_the_callers_choice(
    store: SqliteStore, connection: sqlite3.Connection, row_factory: Callable[..., object]
) -> None:
    connection.row_factory, connection.text_factory = row_factory, bytes
    known = request(new_event())
    store.append(known)
    with store.join(connection) as tx:
        tx.append(known)
        tx.append(request(new_event(), expect={"order-1": Exactly(1)}))
        again, done = tx.flush()
        assert (connection.row_factory, connection.text_factory) == (row_factory, bytes)
    assert (again.replayed, done.version) == (True, 2)
    assert len(everything(store)) == 2


def test_an_error_of_their_own_sql_passes_through_untouched(store: SqliteStore, connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"), store.join(connection) as tx:
        tx.append(request(new_event()))
        connection.execute("INSERT INTO nowhere VALUES (1)")
    assert everything(store) == []


def test_a_script_that_commits_on_its_own_is_found_out(store: SqliteStore, connection: sqlite3.Connection) -> None:
    with pytest.raises(StoreUnavailable, match="ended inside the block"), store.join(connection) as tx:
        tx.append(request(new_event()))
        connection.executescript("CREATE TABLE more (n INTEGER)")
    assert everything(store) == []


def test_checkpoints_are_left_to_us_on_their_connection_too(store: SqliteStore, connection: sqlite3.Connection) -> None:
    with store.join(connection) as tx:
        tx.append(request(new_event()))
    assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


# ---- Others.


def test_an_append_of_another_thread_waits_and_comes_behind(
    store: SqliteStore, connection: sqlite3.Connection, file: Path
) -> None:
    answers: list[Appended] = []
    other = Thread(target=lambda: answers.append(append(store, new_event("other"))))
    with store.join(connection) as tx:
        tx.append(request(new_event("mine")))
        tx.flush()
        other.start()
        _wait_until_somebody_queues(file)
        tx.append(request(new_event("mine")))
        assert answers == []
    other.join()
    assert [event.stream for event in everything(store)] == ["mine", "mine", "other"]
    assert [answer.position for answer in answers] == [3]


def _wait_until_somebody_queues(file: Path) -> None:
    """Until the `next` lock is taken, which is where the first in the queue stands."""
    with open(f"{file}-next.lock") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(lock, fcntl.LOCK_UN)


def test_a_joined_transaction_waits_no_longer_than_the_lock_timeout(
    store: SqliteStore, connection: sqlite3.Connection, file: Path
) -> None:
    with closing(SqliteStore(SqliteSettings(file, lock_timeout=0.03))) as impatient, store.join(connection) as tx:
        with closing(sqlite3.connect(file)) as second, pytest.raises(StoreUnavailable, match=f"process {os.getpid()}"):
            impatient.join(second).__enter__()
        tx.append(request(new_event()))
    assert len(everything(store)) == 1


# ---- A commit or checkpoint that fails. The disk's part is played by the connection.


class Troubled(sqlite3.Connection):
    """Does as it is told before or after a commit, once; and fails at checkpoints while it is told to."""

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    checkpoints_fail = False

    def commit(self) -> None:
        before, Troubled.before = Troubled.before, None
        if before is not None:
            before()
        super().commit()
        after, Troubled.after = Troubled.after, None
        if after is not None:
            after()

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if Troubled.checkpoints_fail and "wal_checkpoint" in sql:
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, parameters)


def _fail() -> None:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch, file: Path) -> Iterator[SqliteStore]:
    plain = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *args, **settings: plain(*args, factory=Troubled, **settings))
    for name in ("before", "after", "checkpoints_fail"):
        monkeypatch.setattr(Troubled, name, getattr(Troubled, name))
    with closing(SqliteStore(SqliteSettings(file, lock_timeout=0.05, checkpoint_pages=1))) as store:
        yield store


def test_a_commit_that_failed_is_tried_again_under_the_same_ids(troubled: SqliteStore) -> None:
    Troubled.before = _fail
    done = append(troubled)
    assert (done.position, done.replayed) == (1, False)
    assert len(everything(troubled)) == 1


def test_a_commit_that_failed_after_all_was_stored_is_recognised(troubled: SqliteStore) -> None:
    Troubled.after = _fail
    done = append(troubled)
    assert (done.position, done.replayed) == (1, True)
    assert append(troubled).position == 2
    assert len(everything(troubled)) == 2


def test_a_commit_whose_outcome_cannot_be_learned_says_so(troubled: SqliteStore, file: Path) -> None:
    asked = request(new_event())
    with open(f"{file}-next.lock") as lock:

        def fail_and_keep_others_out() -> None:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _fail()

        Troubled.after = fail_and_keep_others_out
        with pytest.raises(OutcomeUnknown, match="retry with the same ids") as unknown:
            troubled.append(asked)
    assert unknown.value.retryable
    assert troubled.append(asked).replayed
    assert len(everything(troubled)) == 1


def test_a_checkpoint_that_fails_takes_nothing_back(troubled: SqliteStore, file: Path) -> None:
    append(troubled)
    before = file.stat().st_size
    Troubled.checkpoints_fail = True
    large = [new_event(data=b"x" * 50_000) for _ in range(2)]
    assert [append(troubled, event).position for event in large] == [2, 3]
    assert file.stat().st_size == before
    Troubled.checkpoints_fail = False
    assert append(troubled).position == 4
    assert file.stat().st_size > before + 90_000
