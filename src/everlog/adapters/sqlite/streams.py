"""Listing tenants and streams by hopping through the stream index: one seek a name, however many events there are."""

from collections.abc import Iterator

from everlog.adapters.sqlite.read import Rows
from everlog.core.envelope import StreamHead
from everlog.store.query import category_range

_PAGE = 500
_BEHIND_ALL = "\U0010ffff"


def list_streams(rows: Rows, tenant: str | None, category: str | None) -> Iterator[StreamHead]:
    first, behind = ("", _BEHIND_ALL) if category is None else category_range(category)
    for name in list_tenants(rows) if tenant is None else [tenant]:
        yield from _streams_of(rows, name, first, behind)


def list_tenants(rows: Rows) -> Iterator[str]:
    tenant = ""
    while found := rows("SELECT min(tenant) FROM everlog_event WHERE tenant > ?", (tenant,))[0][0]:
        yield found
        tenant = found


def _streams_of(rows: Rows, tenant: str, first: str, behind: str) -> Iterator[StreamHead]:
    # The bound parameters are: tenant, first name, first name behind the range.
    sql = f"""
        WITH RECURSIVE s (stream) AS (
            SELECT min(stream) FROM everlog_event WHERE tenant = ?1 AND stream >= ?2 AND stream < ?3
            UNION ALL
            SELECT (SELECT min(stream) FROM everlog_event WHERE tenant = ?1 AND stream > s.stream AND stream < ?3)
            FROM s WHERE s.stream IS NOT NULL
            LIMIT {_PAGE}
        )
        SELECT ?1, stream, version, position FROM s CROSS JOIN everlog_event e USING (stream)
        WHERE e.tenant = ?1
            AND e.version = (SELECT max(version) FROM everlog_event WHERE tenant = ?1 AND stream = s.stream)
        ORDER BY stream"""
    while page := rows(sql, (tenant, first, behind)):
        yield from map(StreamHead._make, page)
        first = page[-1][1] + "\x00"
