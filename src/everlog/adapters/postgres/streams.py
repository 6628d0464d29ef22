"""Listing tenants and streams by hopping through the stream index: one seek a name, however many events there are."""

from collections.abc import Iterator

from everlog.adapters.postgres.read import Rows
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
    sql = f"""
        WITH RECURSIVE bounds (tenant, first, behind) AS (SELECT ?::text, ?::text, ?::text),
        s (stream) AS (
            (SELECT e.stream FROM everlog_event e, bounds b WHERE e.tenant = b.tenant AND e.stream >= b.first
                AND e.stream < b.behind ORDER BY e.stream LIMIT 1)
            UNION ALL
            SELECT (SELECT e.stream FROM everlog_event e WHERE e.tenant = b.tenant AND e.stream > s.stream
                AND e.stream < b.behind ORDER BY e.stream LIMIT 1)
            FROM s, bounds b WHERE s.stream IS NOT NULL
        ),
        page (stream) AS (SELECT stream FROM s WHERE stream IS NOT NULL LIMIT {_PAGE})
        SELECT b.tenant, page.stream, last.version, last.position FROM page, bounds b CROSS JOIN LATERAL (
            SELECT version, position FROM everlog_event e WHERE e.tenant = b.tenant AND e.stream = page.stream
            ORDER BY version DESC LIMIT 1) last
        ORDER BY page.stream"""
    while page := rows(sql, (tenant, first, behind)):
        yield from map(StreamHead._make, page)
        first = page[-1][1] + "\x01"  # PostgreSQL keeps no NUL; no name holds either
