"""Reading the log: which index drives a filter, and one page of it at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

from everlog.adapters.postgres.packed import int8s
from everlog.adapters.postgres.where import driven_by_tags, residual, types_condition, types_values
from everlog.core.envelope import StoredEvent
from everlog.core.limits import PAGE_BYTES
from everlog.store.query import Filter

Rows = Callable[[str, Sequence[object]], list[Any]]

PAGE = 1000
_MERGED_TYPES = 100  # each costs a seek a page
_LIGHT = PAGE_BYTES // PAGE


def _columns(data: str) -> str:
    """The fields of `StoredEvent`, in order."""
    return f"""e.position, e.tenant, e.stream, e.version, uuid_send(e.id) AS id, e.type, e.schema_version,
    coalesce(e.claimed_at, e.recorded_at) AS occurred_at, e.recorded_at, e.actor,
    uuid_send(e.correlation_id) AS correlation_id, uuid_send(e.causation_id) AS causation_id, {data}, p.client"""


COLUMNS = _columns("p.data")
# So that a page is bounded without adding up its bytes, which costs a quarter of reading it: see `bounded`.
PAGED = _columns(f"CASE WHEN octet_length(p.data) <= {_LIGHT} THEN p.data WHEN p.data IS NOT NULL THEN '' END AS data")
PAYLOAD = "LEFT JOIN everlog_payload p ON p.position = e.position"
_BOUND = "AND p.position > ? AND p.position <= ?"  # or a merge join begins at the first payload of the log

_DATA = StoredEvent._fields.index("data")
_HEAVY = f"""
    SELECT position, data FROM (
        SELECT position, data, sum(octet_length(data)) OVER (
            ORDER BY position {{order}} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM everlog_payload WHERE position = ANY(?)) heavy
    WHERE coalesce(before, 0) < {PAGE_BYTES} ORDER BY position {{order}}"""

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
        found = rows(*page_of(where, after, upto, backwards=backwards, size=size))
        page = bounded(rows, found, backwards=backwards)
        yield page
        if len(found) < size and len(page) == len(found):
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
    sql = f"""SELECT {PAGED} FROM {source} {PAYLOAD} {_BOUND} WHERE {conditions}
        ORDER BY e.position {order} LIMIT ?"""
    return sql, [after, upto, *driving_values, upto, *values, size]


def bounded(rows: Rows, found: list[Any], *, backwards: bool = False) -> list[Any]:
    """What `PAGED` found, with the payloads it left empty for their size, up to where those hold `PAGE_BYTES`."""
    heavy = [row[0] for row in found if row[_DATA] == b""]
    if not heavy:
        return found
    order = "DESC" if backwards else "ASC"
    payloads = dict(rows(_HEAVY.format(order=order), (int8s(heavy),)))
    some, page = bool(payloads), []
    for row in found:
        if row[_DATA] == b"":
            if some and not payloads:
                break
            # One that is gone was released since the page was read.
            row = (*row[:_DATA], payloads.pop(row[0], None), *row[_DATA + 1 :])
        page.append(row)
    return page


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
    sql = f"""SELECT {PAGED} FROM ({" UNION ".join(branches)}) f
        JOIN everlog_event e ON e.position = f.position {PAYLOAD} {_BOUND} ORDER BY e.position {order} LIMIT ?"""
    return sql, [*bound, after, upto, size]


def read_stream(
    rows: Rows, tenant: str, stream: str, after: int, upto: int | None, *, backwards: bool
) -> Iterator[StoredEvent]:
    """Events with `after` < version <= `upto`."""
    order = "DESC" if backwards else "ASC"
    # One more than a page is asked for, so that a stream of a round number of events is not asked again for none.
    sql = f"""SELECT {PAGED} FROM everlog_event e {PAYLOAD}
        WHERE e.tenant = ? AND e.stream = ? AND e.version > ? AND e.version <= ?
        ORDER BY e.version {order} LIMIT {PAGE + 1}"""
    last = 2**63 - 1 if upto is None else upto
    while after < last:
        found = rows(sql, (tenant, stream, after, last))
        page = bounded(rows, found, backwards=backwards)
        yield from map(_make, page)
        if len(found) <= PAGE and len(page) == len(found):
            return
        if backwards:
            last = page[-1][3] - 1
        else:
            after = page[-1][3]
