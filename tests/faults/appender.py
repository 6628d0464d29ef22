"""The process under test of `test_machinery`: appends rows to a plain SQLite file and acknowledges each one.

Usage: appender.py FILE SYNCHRONOUS ROWS
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys

CHECKPOINT_EVERY = 15


def payload(position: int) -> bytes:
    """Content that a checker can work out again, so that it also sees a row whose bytes are not its own."""
    return hashlib.sha256(str(position).encode()).digest() * 10


def open_log(file: str, synchronous: str) -> sqlite3.Connection:
    log = sqlite3.connect(file, isolation_level=None)
    log.execute("PRAGMA journal_mode = WAL")
    log.execute(f"PRAGMA synchronous = {synchronous}")
    log.execute("PRAGMA wal_autocheckpoint = 0")
    log.execute("CREATE TABLE IF NOT EXISTS event (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    return log


def append(log: sqlite3.Connection, rows: int) -> None:
    (last,) = log.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
    for position in range(last + 1, last + rows + 1):
        log.execute("INSERT INTO event VALUES (?, ?)", (position, payload(position)))
        print(position, flush=True)
        if position % CHECKPOINT_EVERY == 0:
            log.execute("PRAGMA wal_checkpoint(TRUNCATE)")


if __name__ == "__main__":
    append(open_log(sys.argv[1], sys.argv[2]), int(sys.argv[3]))
