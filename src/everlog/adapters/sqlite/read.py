"""Reading the log: which index drives a filter, and one page of it at a time."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from everlog.adapters.sqlite.connections import Take
from everlog.adapters.sqlite.where import driven_by_tags, residual, types_condition, types_values
from everlog.core.envelope import StoredEvent
from everlog.core.limits import PAGE_BYTES
from everlog.store.query import Filter


class Rows(Protocol):
    """`Connections.rows`."""

    def __call__(self, sql: str, values: Sequence[object], take: Take = ...) -> list[Any]: ...


PAGE = 1000
_AT_ONCE = 16  # rows, after which a page may end
_MERGED_TYPES = 100  # SQLite merges at most 500 SELECTs, and each costs a seek a page
COLUMNS = """e.position, e.tenant, e.stream, e.version, e.id, e.type, e.schema_version,
    coalesce(e.claimed_at, e.recorded_at), e.recorded_at, e.actor, e.correlation_id, e.causation_id, p.data, p.client"""
PAYLOAD = "LEFT JOIN everlog_payload p ON p.position = e.position"

# `StoredEvent._make` without its check of the length, which costs as much again.
_make: Callable[[Sequence[Any]], StoredEvent] = partial(tuple.__new__, StoredEvent)
_DATA = StoredEvent._fields.index("data")


def read_log(
    rows: Rows, where: Filter, after: int, upto: int, *, backwards: bool, limit: int | None
) -> Iterator[StoredEvent]:
    """Events with `after` < position <= `upto`, a page a query, so no read transaction outlives a page."""
    left = limit
    while (left is None or left > 0) and after < upto:
        size = PAGE if left is None else min(PAGE, left)
        page = rows(*page_of(where, after, upto, backwards=backwards, size=size), take_page)
        yield from map(_make, page)
        if len(page) < size and _weight(page) < PAGE_BYTES:
            return
        if backwards:
            upto = page[-1][0] - 1
        else:
            after = page[-1][0]
        left = None if left is None else left - len(page)


def take_page(cursor: sqlite3.Cursor) -> list[Any]:
    """The rows up to the one with which they hold `PAGE_BYTES`, give or take a few."""
    page: list[Any] = []
    weight = 0
    while weight < PAGE_BYTES and (rows := cursor.fetchmany(_AT_ONCE)):
        page += rows
        weight += _weight(rows)
    return page


def _weight(rows: Sequence[Any]) -> int:
    return sum([len(row[_DATA]) for row in rows if row[_DATA]])


def page_of(where: Filter, after: int, upto: int, *, backwards: bool, size: int) -> tuple[str, Sequence[object]]:
    """The query for one page. Each has one driver that already yields position order, so LIMIT stops early."""
    sqls, values = residual(where)
    order = "DESC" if backwards else "ASC"
    if 1 < len(where.types) <= _MERGED_TYPES and not _narrow(where):
        return _page_of_types(where, sqls, values, after, upto, order, size)
    source, driving, driving_values = _driver(where, after)
    place = "t.position" if where.tags and where.tenant is not None else "e.position"  # else it sorts what is in order
    if where.types:
        driving.append(types_condition(where.types))
        driving_values += types_values(where.types)
    conditions = " AND ".join([*driving, "e.position <= ?", *sqls])
    sql = f"SELECT {COLUMNS} FROM {source} {PAYLOAD} WHERE {conditions} ORDER BY {place} {order} LIMIT ?"
    return sql, [*driving_values, upto, *values, size]


def _narrow(where: Filter) -> bool:
    """Whether an index narrower than the type's drives the read."""
    return bool(where.tags and where.tenant) or where.correlation_id is not None or where.actor is not None


def _driver(where: Filter, after: int) -> tuple[str, list[str], list[object]]:
    if where.tags and where.tenant is not None:
        return driven_by_tags(where.tenant, where.tags, after)
    tagged = ["EXISTS (SELECT 1 FROM everlog_tag WHERE tenant = e.tenant AND tag = ? AND position = e.position)"]
    conditions, values = ["e.position > ?", *tagged * len(where.tags)], [after, *where.tags]
    return f"everlog_event e {_index(where)}", conditions, list(values)


def _index(where: Filter) -> str:
    if where.correlation_id is not None:
        return "INDEXED BY everlog_event_correlation"
    if where.tenant is not None and where.actor is not None:
        return "INDEXED BY everlog_event_actor"
    if len(where.types) == 1:
        return "INDEXED BY everlog_event_type"
    if where.tenant is not None and not where.types:
        return "INDEXED BY everlog_event_tenant"
    return "NOT INDEXED"


def _page_of_types(
    where: Filter, sqls: list[str], values: list[object], after: int, upto: int, order: str, size: int
) -> tuple[str, Sequence[object]]:
    """The first `size` of each type, merged: a page costs the same however rare the types are."""
    branches, bound = [], []
    tagged = ["EXISTS (SELECT 1 FROM everlog_tag WHERE tenant = e.tenant AND tag = ? AND position = e.position)"]
    for pair in where.types:
        conditions = [types_condition([pair]), "e.position > ? AND e.position <= ?", *tagged * len(where.tags), *sqls]
        branches.append(
            f"SELECT * FROM (SELECT e.position FROM everlog_event e INDEXED BY everlog_event_type {PAYLOAD} "
            f"WHERE {' AND '.join(conditions)} ORDER BY e.position {order} LIMIT ?)"
        )
        bound += [*types_values([pair]), after, upto, *where.tags, *values, size]
    found = f"{' UNION '.join(branches)} ORDER BY 1 {order} LIMIT ?"
    # In the order of `found`, which a CROSS JOIN keeps outermost. Asked for again, it would sort the payloads too.
    sql = f"SELECT {COLUMNS} FROM ({found}) f CROSS JOIN everlog_event e ON e.position = f.position {PAYLOAD}"
    return sql, [*bound, size]


def read_stream(
    rows: Rows, tenant: str, stream: str, after: int, upto: int | None, *, backwards: bool
) -> Iterator[StoredEvent]:
    """Events with `after` < version <= `upto`."""
    order = "DESC" if backwards else "ASC"
    sql = f"""SELECT {COLUMNS} FROM everlog_event e {PAYLOAD} WHERE e.tenant = ? AND e.stream = ?
        AND e.version > ? AND e.version <= ? ORDER BY e.version {order} LIMIT {PAGE}"""
    last = 2**63 - 1 if upto is None else upto
    while after < last:
        page = rows(sql, (tenant, stream, after, last), take_page)
        yield from map(_make, page)
        if len(page) < PAGE and _weight(page) < PAGE_BYTES:
            return
        if backwards:
            last = page[-1][3] - 1
        else:
            after = page[-1][3]
