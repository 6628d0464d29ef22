"""The limit on SQLite: rows encoded beforehand into every table an append writes, and nothing else.

everlog made both the rows and the file, so bytes, tables, indexes and triggers are its own, and checkpoints come by its
own policy. What is left out is what everlog does besides: building, encoding, checking, hashing, locking, answering.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.inputs import LOG, imported, short_streams
from benchmarks.one import Job
from benchmarks.timing import Slice, each
from benchmarks.workload import WRITERS
from everlog.adapters.sqlite import SqliteSettings
from everlog.adapters.sqlite.connections import Connections
from everlog.core.limits import BATCH_EVENTS
from everlog.telemetry import Counters

Row = tuple[Any, ...]


class Transaction(NamedTuple):
    """What one transaction inserts into each table, and the head it leaves."""

    rows: dict[str, list[Row]]
    head: Row


def append_alone(job: Job) -> AbstractContextManager[Slice]:
    return _inserting(job, short_streams(job), 1)


def append_batches(job: Job) -> AbstractContextManager[Slice]:
    return _inserting(job, short_streams(job), WRITERS)


def import_batches(job: Job) -> AbstractContextManager[Slice]:
    """As large as the importer's: the most events an append may hold."""
    return _inserting(job, imported(job), BATCH_EVENTS)


@contextmanager
def _inserting(job: Job, source: Path, size: int) -> Iterator[Slice]:
    transactions = list(_transactions(source / LOG, size))
    with closing(_RawLog(job.folder / LOG)) as log:
        yield each(iter(transactions), log.write)


class _RawLog:
    def __init__(self, path: Path) -> None:
        settings = SqliteSettings(path)
        self._everlog = Connections(settings, Counters())  # makes the file, and knows when a checkpoint is due
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute(f"PRAGMA synchronous={settings.synchronous}")
        self._connection.execute("PRAGMA wal_autocheckpoint=0")

    def write(self, transaction: Transaction) -> int:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for table, rows in transaction.rows.items():
            _insert(connection, table, rows)
        connection.execute("UPDATE everlog_log SET position = ?, recorded_at = ?", transaction.head)
        connection.execute("COMMIT")
        events = len(transaction.rows["everlog_event"])
        self._everlog.checkpoint_when_due(connection, events)
        return events

    def close(self) -> None:
        self._connection.close()
        self._everlog.close()


def _insert(connection: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    sql = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})"
    if len(rows) == 1:
        connection.execute(sql, rows[0])  # half the price of executemany
    else:
        connection.executemany(sql, rows)


def _transactions(path: Path, size: int) -> Iterator[Transaction]:
    with closing(sqlite3.connect(path)) as log:
        events, payloads = (
            log.execute(f"SELECT * FROM {table} ORDER BY position").fetchall()
            for table in ("everlog_event", "everlog_payload")
        )
        heads = log.execute("SELECT position, recorded_at FROM everlog_event ORDER BY position").fetchall()
        tags = defaultdict(list)
        for tag in log.execute("SELECT * FROM everlog_tag"):
            tags[tag[-1]].append(tag)
    for start in range(0, len(events), size):
        part = slice(start, start + size)
        tagged = [tag for position, _ in heads[part] for tag in tags[position]]
        rows = {"everlog_event": events[part], "everlog_payload": payloads[part], "everlog_tag": tagged}
        yield Transaction({table: found for table, found in rows.items() if found}, heads[part][-1])
