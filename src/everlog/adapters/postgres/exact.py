"""`Exact` in one PostgreSQL database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.nul import given, kept, shown
from everlog.adapters.postgres.packed import blobs, int8s, texts, uuids
from everlog.adapters.postgres.translate import translated
from everlog.store.contract import LeafRow
from everlog.store.exact import KEPT, Gate, Kept, ReleaseRow, Row, TagRow, over_the_same_key, refuse_taken

_PAGE = 1000
_EVENTS = """INSERT INTO everlog_event SELECT * FROM unnest(
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_PAYLOADS = "INSERT INTO everlog_payload SELECT * FROM unnest(%s, %s, %s, %s, %s, %s)"
_TAGS = "INSERT INTO everlog_tag SELECT * FROM unnest(%s, %s, %s) ON CONFLICT DO NOTHING"
_RELEASES = "INSERT INTO everlog_release SELECT * FROM unnest(%s, %s, %s, %s) ON CONFLICT DO NOTHING"
_FENCE = "UPDATE everlog_subscription SET epoch = epoch + 1, owner = '', lease_until = 0"
_UNOWNED = {"owner": "''", "lease_until": "0"}
# How a value is stored here, and how it is given back; the others are the same in every database.
_STORED: dict[str, Callable[[Any], Any]] = {
    "key": kept,
    "waits_for": lambda key: None if key is None else kept(key),
    "error": shown,
    "anew": bool,
}
_GIVEN: dict[str, Callable[[Any], Any]] = {
    "key": given,
    "waits_for": lambda key: None if key is None else given(key),
    "anew": int,
}


class PostgresExact:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._reason = ""

    def gate(self) -> Gate:
        return Gate(*self._connections.rows("SELECT closed, inline FROM everlog_log")[0])

    def shut(self, reason: str) -> None:
        self._take("UPDATE everlog_log SET closed = %s", reason)

    def become(self, log_id: bytes, reason: str) -> None:
        self._take("UPDATE everlog_log SET log_id = %s, closed = %s", log_id, reason)

    def open(self, incarnation: int, inline: str) -> None:
        with self._written() as connection:
            sql = "UPDATE everlog_log SET closed = '', incarnation = %s, inline = %s"
            connection.execute(sql, (incarnation, inline))

    def tags(self, after: int, upto: int) -> Iterator[Sequence[TagRow]]:
        last = TagRow("", "", 0)
        sql = f"""SELECT * FROM everlog_tag WHERE (tenant, tag, position) > (?, ?, ?) AND position > ? AND position <= ?
            ORDER BY tenant, tag, position LIMIT {_PAGE}"""
        while page := [TagRow(*row) for row in self._connections.rows(sql, (*last, after, upto))]:
            yield page
            last = page[-1]

    def releases(self) -> Iterator[Sequence[ReleaseRow]]:
        after = 0
        sql = f"SELECT * FROM everlog_release WHERE position > ? ORDER BY position LIMIT {_PAGE}"
        while page := [ReleaseRow(*row) for row in self._connections.rows(sql, (after,))]:
            yield page
            after = page[-1].position

    def write(self, rows: Sequence[LeafRow]) -> None:
        events = [row.event for row in rows]
        paid = [row for row in rows if row.event.data is not None]
        positions, times = [e.position for e in events], [e.recorded_at for e in events]
        with self._written() as connection:
            connection.execute(_EVENTS, (
                int8s(positions), texts([e.tenant for e in events]), texts([e.stream for e in events]),
                int8s([e.version for e in events]), uuids([e.id for e in events]), texts([e.type for e in events]),
                int8s([e.schema_version for e in events]), int8s([row.claimed_at for row in rows]), int8s(times),
                texts([e.actor for e in events]), uuids([e.correlation_id for e in events]),
                uuids([e.causation_id for e in events]), blobs([row.segment_hashes for row in rows]),
                blobs([row.leaf for row in rows]),
            ))  # fmt: skip
            connection.execute(_PAYLOADS, (
                int8s([row.event.position for row in paid]), texts([row.event.tenant for row in paid]),
                blobs([row.event.data for row in paid]), blobs([row.salts[0] for row in paid]),
                blobs([row.event.client for row in paid]), blobs([row.salts[1] for row in paid]),
            ))  # fmt: skip
            connection.execute("UPDATE everlog_log SET position = %s, recorded_at = %s", (positions[-1], times[-1]))

    def tag(self, rows: Sequence[TagRow]) -> None:
        tenants, tags, positions = zip(*rows, strict=True)
        with self._written() as connection:
            connection.execute(_TAGS, (texts(tenants), texts(tags), int8s(positions)))

    def release(self, rows: Sequence[ReleaseRow]) -> None:
        positions = int8s([row.position for row in rows])
        acts, reasons = texts([row.act for row in rows]), texts([shown(row.reason) for row in rows])
        with self._written() as connection:
            connection.execute(_RELEASES, (positions, acts, reasons, int8s([row.released_at for row in rows])))
            connection.execute("DELETE FROM everlog_payload WHERE position = ANY(%s)", (positions,))

    def kept(self, kind: Kept) -> Iterator[Sequence[Row]]:
        columns = KEPT[kind]
        key, size = ", ".join(columns.key), len(columns.key)
        after, where = (), ""
        while page := self._connections.rows(
            f"SELECT {', '.join(columns.all)} FROM everlog_{kind} {where} ORDER BY {key} LIMIT {_PAGE}", after
        ):
            yield [_each(_GIVEN, columns.all, row) for row in page]
            after, where = page[-1][:size], f"WHERE ({key}) > ({', '.join('?' * size)})"

    def forget(self) -> None:
        with self._written() as connection:
            for kind in KEPT:
                connection.execute(f"DELETE FROM everlog_{kind}")

    def keep(self, kind: Kept, rows: Sequence[Row]) -> None:
        unowned = _UNOWNED if kind == "subscription" else {}
        columns = KEPT[kind].all
        sql = f"""INSERT INTO everlog_{kind} ({", ".join([*columns, *unowned])})
            VALUES ({", ".join([*["%s"] * len(columns), *unowned.values()])}) {over_the_same_key(kind)}"""
        with self._written() as connection:
            connection.cursor().executemany(sql, [_each(_STORED, columns, row) for row in rows])

    def _take(self, sql: str, *values: object) -> None:
        for statement in (sql, _FENCE):  # apart: whoever holds a subscription may wait for the head
            with translated(), self._connections.transaction() as connection:
                connection.execute(statement, values if statement is sql else ())
        self._reason = str(values[-1])

    @contextmanager
    def _written(self) -> Iterator[Connection]:
        with translated(), self._connections.transaction() as connection:
            [(closed,)] = connection.execute("SELECT closed FROM everlog_log FOR UPDATE").fetchall()
            refuse_taken(closed, self._reason)
            yield connection


def _each(turn: dict[str, Callable[[Any], Any]], columns: Sequence[str], row: Row) -> Row:
    return tuple([turn[name](value) if name in turn else value for name, value in zip(columns, row, strict=True)])
