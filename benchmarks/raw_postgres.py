"""The limit on PostgreSQL: rows encoded beforehand into every table an append writes, and nothing else.

everlog made both the rows and the tables, so bytes, indexes and triggers are its own. A transaction is one statement,
prepared, planned once, with binary parameters packed beforehand: quicker than several in a pipeline, and than COPY,
which waits for the server at each table. What is left out is what everlog does besides: building, encoding, checking,
hashing, locking, answering.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.types.numeric import Int8

from benchmarks.inputs import imported, short_streams, url, url_of
from benchmarks.one import Job
from benchmarks.timing import Slice, each
from benchmarks.workload import WRITERS
from everlog import Platform
from everlog.adapters.postgres import packed
from everlog.adapters.postgres.packed import blobs, int8s, texts, uuids
from everlog.core.limits import BATCH_EVENTS

_AS: Mapping[str, Callable[[Any], Any]] = {
    "text": lambda value: value,
    "bigint": lambda value: None if value is None else Int8(value),
    "uuid": lambda value: None if value is None else UUID(bytes=value),
    "bytea": lambda value: value,
}
_PACK: Mapping[str, Callable[[Any], Any]] = {"text": texts, "bigint": int8s, "uuid": uuids, "bytea": blobs}
# fmt: off
_TYPES: Mapping[str, Sequence[str]] = {
    "everlog_event": (
        "bigint", "text", "text", "bigint", "uuid", "text", "bigint", "bigint", "bigint", "text", "uuid", "uuid",
        "bytea", "bytea",
    ),
    "everlog_payload": ("bigint", "text", "bytea", "bytea", "bytea", "bytea"),
    "everlog_tag": ("text", "text", "bigint"),
}
# fmt: on
_SELECT = {
    "everlog_event": "SELECT position, tenant, stream, version, uuid_send(id), type, schema_version, claimed_at, "
    "recorded_at, actor, uuid_send(correlation_id), uuid_send(causation_id), segments, leaf FROM everlog_event "
    "ORDER BY position",
    "everlog_payload": "SELECT * FROM everlog_payload ORDER BY position",
    "everlog_tag": "SELECT * FROM everlog_tag",
}

Row = tuple[Any, ...]


class Transaction(NamedTuple):
    """One statement, and how many events it stores."""

    sql: str
    values: Sequence[Any]
    events: int


def append_alone(job: Job) -> AbstractContextManager[Slice]:
    return _inserting(job, url(short_streams(job), "postgres"), 1)


def append_batches(job: Job) -> AbstractContextManager[Slice]:
    return _inserting(job, url(short_streams(job), "postgres"), WRITERS)


def import_batches(job: Job) -> AbstractContextManager[Slice]:
    """As large as the importer's: the most events an append may hold."""
    return _inserting(job, url(imported(job), "postgres"), BATCH_EVENTS)


@contextmanager
def _inserting(job: Job, source: str, size: int) -> Iterator[Slice]:
    transactions = list(_transactions(source, size))
    with Platform(url_of(job)).open():
        pass  # makes the tables
    with psycopg.connect(url_of(job), autocommit=True) as connection:
        packed.register(connection)
        connection.prepare_threshold = 0
        connection.execute("SET plan_cache_mode = force_generic_plan")

        def insert(transaction: Transaction) -> int:
            connection.execute(transaction.sql, transaction.values)
            return transaction.events

        yield each(iter(transactions), insert)


def _transactions(source: str, size: int) -> Iterator[Transaction]:
    with psycopg.connect(source) as log:
        found = {table: log.cursor(binary=True).execute(sql).fetchall() for table, sql in _SELECT.items()}
    events, payloads = found["everlog_event"], found["everlog_payload"]
    tags = defaultdict(list)
    for tag in found["everlog_tag"]:
        tags[tag[-1]].append(tag)
    for start in range(0, len(events), size):
        part = events[start : start + size]
        rows = {"everlog_event": part, "everlog_payload": payloads[start : start + size]}
        rows["everlog_tag"] = [tag for event in part for tag in tags[event[0]]]
        yield _one_statement(rows, part[-1])


def _one_statement(rows: Mapping[str, Sequence[Row]], last: Row) -> Transaction:
    sql, values = ["head AS (UPDATE everlog_log SET position = %b, recorded_at = %b)"], [Int8(last[0]), Int8(last[8])]
    for table, found in rows.items():
        if found:
            selected, more = _row(table, found[0]) if len(found) == 1 else _arrays(table, found)
            sql.append(f"{table}_rows AS (INSERT INTO {table} {selected})")
            values += more
    return Transaction(f"WITH {', '.join(sql)} SELECT", values, len(rows["everlog_event"]))


def _row(table: str, row: Row) -> tuple[str, Sequence[Any]]:
    values = [_AS[type](value) for type, value in zip(_TYPES[table], row, strict=True)]
    return f"VALUES ({', '.join('%b' for _ in values)})", values


def _arrays(table: str, rows: Sequence[Row]) -> tuple[str, Sequence[Any]]:
    arrays = [_PACK[type](column) for type, column in zip(_TYPES[table], zip(*rows, strict=True), strict=True)]
    return f"SELECT * FROM unnest({', '.join('%b' for _ in arrays)})", arrays
