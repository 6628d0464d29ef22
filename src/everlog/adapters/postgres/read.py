"""Reading the log: which index drives a filter, and one page of it at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

from everlog.adapters.postgres.where import driven_by_tags, residual, types_condition, types_values
from everlog.core.envelope import StoredEvent
from everlog.core.limits import PAGE_BYTES
from everlog.store.query import Filter

Rows = Callable[[str, Sequence[object]], list[Any]]

PAGE = 1000
_MERGED_TYPES = 100  # each costs a seek a page
COLUMNS = """e.position, e.tenant, e.stream, e.version, uuid_send(e.id) AS id, e.type, e.schema_version,
    coalesce(e.claimed_at, e.recorded_at) AS occurred_at, e.recorded_at, e.actor,
    uuid_send(e.correlation_id) AS correlation_id, uuid_send(e.causation_id) AS causation_id, p.data, p.client"""
_NAMES = ", ".join(StoredEvent._fields)
PAYLOAD = "LEFT JOIN everlog_payload p ON p.position = e.position"
_BOUND = "AND p.position > ? AND p.position <= ?"  # or a merge join begins at the first payload of the log

_DATA = StoredEvent._fields.index("data")

# `StoredEvent._make` without its check of the length, which costs as much again.
_make: Callable[[Sequence[Any]], StoredEvent] = partial(tuple.__new__, StoredEvent)


def read_log(
    rows: Rows, where: Filter, after: int, upto: int, *, backwards: bool, limit: int | None
) -> Iterator[StoredEvent]:
    """Events with `after` < position <= `upto`, a page a query, so no read transaction outlives a page."""
    pages = _pages(rows, where, after, upto, backwards, limit)
    more = limit is None or limit > PAGE
    yield from map(_make, chain.from_iterable(_ahead(pages) if more else pages))


def _pages(rows: Rows, where: Filter, after: int, upto: int, backwards: bool, left: int | None) -> Iterator[list[Any]]:
    while (left is None or left > 0) and after < upto:
        size = PAGE if left is None else min(PAGE, left)
        page = rows(*page_of(where, after, upto, backwards=backwards, size=size))
        yield page
        if len(page) < size and weight(page) < PAGE_BYTES:
            return
        if backwards:
            upto = page[-1][0] - 1
        else:
            after = page[-1][0]
        left = None if left is None else left - len(page)


def _ahead(pages: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """From the third page on, the next one is fetched while one is worked on; who reads little pays for no thread."""
    for number, page in enumerate(pages, 1):
        yield page
        if number == 2:
            break
    else:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="everlog-read-ahead") as thread:
        coming: Future[list[Any]] = thread.submit(next, pages, [])
        while page := coming.result():
            coming = thread.submit(next, pages, [])
            yield page


def page_of(where: Filter, after: int, upto: int, *, backwards: bool, size: int) -> tuple[str, Sequence[object]]:
    """The query for one page. Each has one driver that already yields position order, so LIMIT stops early."""
    sqls, values = residual(where)
    order = "DESC" if backwards else "ASC"
    if 1 < len(where.types) <= _MERGED_TYPES and not _narrow(where):
        return _page_of_types(where, sqls, values, after, upto, order, size)
    source, driving, driving_values = _driver(where, after)
    if where.types:
        driving.append(types_condition(where.types))
        driving_values += types_values(where.types)
    conditions = " AND ".join([*driving, "e.position <= ?", *sqls])
    found = f"FROM {source} {PAYLOAD} {_BOUND} WHERE {conditions}"
    return within_bytes(found, f"position {order}", "?"), [after, upto, *driving_values, upto, *values, size]


def within_bytes(found: str, order: str, limit: object, more: str = "") -> str:
    """A query for the rows found, up to the one with which they hold `PAGE_BYTES`; `more` columns follow an event's.

    A running sum over rows that come in order costs little, and the lengths are known without reading the bytes.
    """
    names = ", ".join([_NAMES, *(column.rpartition(".")[2] for column in more.split(", ") if column)])
    return f"""
        SELECT {names} FROM (
            SELECT {COLUMNS}{more and f", {more}"}, sum(octet_length(p.data)) OVER (
                ORDER BY e.{order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            {found} ORDER BY e.{order} LIMIT {limit}) page
        WHERE coalesce(before, 0) < {PAGE_BYTES} ORDER BY {order}"""


def weight(page: Sequence[Any]) -> int:
    """Bytes of payload."""
    return sum(len(row[_DATA]) for row in page if row[_DATA])


def _narrow(where: Filter) -> bool:
    """Whether an index narrower than the type's drives the read."""
    return bool(where.tags and where.tenant) or where.correlation_id is not None or where.actor is not None


def _driver(where: Filter, after: int) -> tuple[str, list[str], list[object]]:
    if where.tags and where.tenant is not None:
        return driven_by_tags(where.tenant, where.tags, after)
    tagged = ["EXISTS (SELECT 1 FROM everlog_tag WHERE tenant = e.tenant AND tag = ? AND position = e.position)"]
    conditions, values = ["e.position > ?", *tagged * len(where.tags)], [after, *where.tags]
    return "everlog_event e", conditions, list(values)


def _page_of_types(
    where: Filter, sqls: list[str], values: list[object], after: int, upto: int, order: str, size: int
) -> tuple[str, Sequence[object]]:
    """The first `size` of each type, merged: a page costs the same however rare the types are."""
    branches, bound = [], []
    tagged = ["EXISTS (SELECT 1 FROM everlog_tag WHERE tenant = e.tenant AND tag = ? AND position = e.position)"]
    for pair in where.types:
        conditions = [types_condition([pair]), "e.position > ? AND e.position <= ?", *tagged * len(where.tags), *sqls]
        branches.append(
            f"(SELECT e.position FROM everlog_event e {PAYLOAD} "
            f"WHERE {' AND '.join(conditions)} ORDER BY e.position {order} LIMIT ?)"
        )
        bound += [*types_values([pair]), after, upto, *where.tags, *values, size]
    found = " UNION ".join(branches)
    found = f"FROM ({found}) f JOIN everlog_event e ON e.position = f.position {PAYLOAD} {_BOUND}"
    return within_bytes(found, f"position {order}", "?"), [*bound, after, upto, size]


def read_stream(
    rows: Rows, tenant: str, stream: str, after: int, upto: int | None, *, backwards: bool
) -> Iterator[StoredEvent]:
    """Events with `after` < version <= `upto`."""
    order = "DESC" if backwards else "ASC"
    found = f"FROM everlog_event e {PAYLOAD} WHERE e.tenant = ? AND e.stream = ? AND e.version > ? AND e.version <= ?"
    sql = within_bytes(found, f"version {order}", PAGE + 1)
    last = 2**63 - 1 if upto is None else upto
    while after < last:
        page = rows(sql, (tenant, stream, after, last))
        yield from map(_make, page)
        # One more than a page was asked for, so that a stream of a round number of events is not asked again for none.
        if len(page) <= PAGE and weight(page) < PAGE_BYTES:
            return
        if backwards:
            last = page[-1][3] - 1
        else:
            after = page[-1][3]
