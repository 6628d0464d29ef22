"""What is refused leaves nothing behind: no rows, no lock, no open file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import StoreUnavailable
from everlog.store.contract import Joined


def request(id: bytes) -> Append:
    return Append("acme", (NewEvent(id, "seat-1", "seat.taken", 1, b"{}"),))


def stay_of_nobody(theirs: sqlite3.Connection, joined: Joined) -> None:
    theirs.execute("INSERT INTO stay VALUES (7)")
    joined.append(request(b"1" * 16))


def test_a_constraint_of_the_callers_that_fails_at_commit_is_theirs_and_locks_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with (
        closing(SqliteStore(SqliteSettings(path))) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as theirs,
    ):
        theirs.execute("PRAGMA foreign_keys=1")
        theirs.execute("CREATE TABLE guest (id INTEGER PRIMARY KEY)")
        theirs.execute("CREATE TABLE stay (guest REFERENCES guest DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"), store.join(theirs) as joined:
            stay_of_nobody(theirs, joined)
        assert not theirs.in_transaction
        assert store.head().position == 0
        assert store.append(request(b"2" * 16)).position == 1


def test_a_lock_file_that_cannot_be_opened_costs_no_file_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    lock = Path(f"{path}-write.lock")
    lock.mkdir()  # which nobody can open for writing, not even root
    before = sorted(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"write\.lock"):
            SqliteStore(SqliteSettings(path))
    assert sorted(os.listdir("/dev/fd")) == before
    lock.rmdir()
    with closing(SqliteStore(SqliteSettings(path))) as store:
        assert store.append(request(b"1" * 16)).position == 1
