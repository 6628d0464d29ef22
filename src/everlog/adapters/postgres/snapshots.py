"""Snapshots in the same database: best effort to write, checked when read, safe to lose."""

from collections.abc import Iterator

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.translate import translated
from everlog.core.envelope import StoredSnapshot
from everlog.store.snapshots import checked, checksum

_PAGE = 200
_SAVE = """INSERT INTO everlog_snapshot VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (tenant, stream, fingerprint, version) DO UPDATE SET position = excluded.position,
        occurred_at = excluded.occurred_at, state = excluded.state, checksum = excluded.checksum"""


class PostgresSnapshots:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def save(self, snapshot: StoredSnapshot) -> None:
        with translated(), self._connections.transaction() as connection:
            connection.execute(_SAVE, (*snapshot, checksum(snapshot)))

    def latest(
        self, tenant: str, stream: str, fingerprint: bytes, *, version: int, occurred_at: int | None = None
    ) -> StoredSnapshot | None:
        sql = """SELECT * FROM everlog_snapshot WHERE tenant = ? AND stream = ? AND fingerprint = ? AND version <= ?
            AND (?::bigint IS NULL OR occurred_at <= ?) ORDER BY version DESC LIMIT 1"""
        while True:
            values = (tenant, stream, fingerprint, version, occurred_at, occurred_at)
            found = self._connections.rows(sql, values, tenant=tenant)
            snapshot = checked(found[0]) if found else None
            if snapshot is not None or not found:
                return snapshot
            version = found[0][3] - 1

    def all(self, tenant: str | None, stream: str | None = None) -> Iterator[StoredSnapshot]:
        key: tuple[object, ...] = ("", "", b"", 0)
        sql = f"""SELECT * FROM everlog_snapshot WHERE (tenant, stream, fingerprint, version) > (?, ?, ?, ?)
            AND (?::text IS NULL OR tenant = ?) AND (?::text IS NULL OR stream = ?)
            ORDER BY tenant, stream, fingerprint, version LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (*key, tenant, tenant, stream, stream), tenant=tenant):
            yield from (StoredSnapshot(*row[:7]) for row in page)
            key = page[-1][:4]

    def delete(self, tenant: str | None, stream: str | None = None, *, older_than_version: int | None = None) -> int:
        sql = """DELETE FROM everlog_snapshot WHERE (%s::text IS NULL OR tenant = %s)
            AND (%s::text IS NULL OR stream = %s) AND (%s::bigint IS NULL OR version < %s)"""
        values = (tenant, tenant, stream, stream, older_than_version, older_than_version)
        with translated(), self._connections.transaction() as connection:
            return connection.execute(sql, values).rowcount
