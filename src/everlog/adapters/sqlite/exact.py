"""`Exact` on one SQLite file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from sqlite3 import Connection

from everlog.adapters.sqlite.append import INSERT_EVENT, INSERT_PAYLOAD, INSERT_TAG
from everlog.adapters.sqlite.connections import Connections, transaction
from everlog.adapters.sqlite.translate import translated
from everlog.store.contract import LeafRow
from everlog.store.exact import KEPT, Gate, Kept, ReleaseRow, Row, TagRow, over_the_same_key, refuse_taken

_PAGE = 1000
_RELEASE = """INSERT INTO everlog_release SELECT ?1, ?2, ?3, ?4
    WHERE NOT EXISTS (SELECT 1 FROM everlog_release WHERE position = ?1)"""
_UNOWNED = {"owner": "''", "lease_boot": "''", "lease_until": "0"}
_FENCE = "UPDATE everlog_subscription SET epoch = epoch + 1, owner = '', lease_until = 0"


class SqliteExact:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._reason = ""

    def gate(self) -> Gate:
        return Gate(*self._connections.rows("SELECT closed, inline FROM everlog_log")[0])

    def shut(self, reason: str) -> None:
        with self._begun() as connection:
            connection.execute("UPDATE everlog_log SET closed = ?", (reason,))
            connection.execute(_FENCE)
        self._reason = reason

    def become(self, log_id: bytes, reason: str) -> None:
        with self._begun() as connection:
            connection.execute("UPDATE everlog_log SET log_id = ?, closed = ?", (log_id, reason))
            connection.execute(_FENCE)
        self._reason = reason

    def open(self, incarnation: int, inline: str) -> None:
        with self._written() as connection:
            connection.execute("UPDATE everlog_log SET closed = '', incarnation = ?, inline = ?", (incarnation, inline))

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
        events = [
            (*e[:7], row.claimed_at, e.recorded_at, *e[9:12], row.segment_hashes, row.leaf)
            for row in rows
            for e in [row.event]
        ]
        payloads = [
            (row.event.position, row.event.data, row.salts[0], row.event.client, row.salts[1])
            for row in rows
            if row.event.data is not None
        ]
        last = rows[-1].event
        with self._written(len(rows)) as connection:
            connection.executemany(INSERT_EVENT, events)
            connection.executemany(INSERT_PAYLOAD, payloads)
            connection.execute(
                "UPDATE everlog_log SET position = ?, recorded_at = ?", (last.position, last.recorded_at)
            )

    def tag(self, rows: Sequence[TagRow]) -> None:
        with self._written(len(rows)) as connection:
            connection.executemany(INSERT_TAG, rows)

    def release(self, rows: Sequence[ReleaseRow]) -> None:
        with self._written(len(rows)) as connection:
            connection.executemany(_RELEASE, rows)
            connection.executemany("DELETE FROM everlog_payload WHERE position = ?", [row[:1] for row in rows])

    def kept(self, kind: Kept) -> Iterator[Sequence[Row]]:
        key, columns = ", ".join(KEPT[kind].key), ", ".join(KEPT[kind].all)
        size, after, where = len(KEPT[kind].key), (), ""
        while page := self._connections.rows(
            f"SELECT {columns} FROM everlog_{kind} {where} ORDER BY {key} LIMIT {_PAGE}", after
        ):
            yield page
            after, where = page[-1][:size], f"WHERE ({key}) > ({', '.join('?' * size)})"

    def forget(self) -> None:
        with self._written() as connection:
            for kind in KEPT:
                connection.execute(f"DELETE FROM everlog_{kind}")

    def keep(self, kind: Kept, rows: Sequence[Row]) -> None:
        unowned = _UNOWNED if kind == "subscription" else {}
        columns, marks = KEPT[kind].all, ["?"] * len(KEPT[kind].all)
        sql = f"""INSERT INTO everlog_{kind} ({", ".join([*columns, *unowned])})
            VALUES ({", ".join([*marks, *unowned.values()])}) {over_the_same_key(kind)}"""
        with self._written(len(rows)) as connection:
            connection.executemany(sql, rows)

    @contextmanager
    def _written(self, rows: int = 1) -> Iterator[Connection]:
        with self._begun(rows) as connection:
            [(closed,)] = connection.execute("SELECT closed FROM everlog_log").fetchall()
            refuse_taken(closed, self._reason)
            yield connection

    @contextmanager
    def _begun(self, rows: int = 1) -> Iterator[Connection]:
        with translated(), self._connections.write() as connection:
            with transaction(connection):
                yield connection
            self._connections.checkpoint_when_due(connection, rows)
