"""Snapshots in the same file: best effort to write, checked when read, safe to lose."""

from collections.abc import Iterator

from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.translate import translated
from everlog.core.envelope import StoredSnapshot
from everlog.store.snapshots import checked, checksum

_PAGE = 200


class SqliteSnapshots:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def save(self, snapshot: StoredSnapshot) -> None:
        with translated(), self._connections.write() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO everlog_snapshot VALUES ({', '.join('?' * 8)})",
                (*snapshot, checksum(snapshot)),
            )

    def latest(
        self, tenant: str, stream: str, fingerprint: bytes, *, version: int, occurred_at: int | None = None
    ) -> StoredSnapshot | None:
        sql = """SELECT * FROM everlog_snapshot WHERE tenant = ? AND stream = ? AND fingerprint = ? AND version <= ?
            AND (? IS NULL OR occurred_at <= ?) ORDER BY version DESC LIMIT 1"""
        while found := self._connections.rows(sql, (tenant, stream, fingerprint, version, occurred_at, occurred_at)):
            snapshot = checked(found[0])
            if snapshot is not None:
                return snapshot
            version = found[0][3] - 1
        return None

    def all(self, tenant: str | None, stream: str | None = None) -> Iterator[StoredSnapshot]:
        key: tuple[object, ...] = ("", "", b"", 0)
        sql = f"""SELECT * FROM everlog_snapshot WHERE (tenant, stream, fingerprint, version) > (?, ?, ?, ?)
            AND (? IS NULL OR tenant = ?) AND (? IS NULL OR stream = ?)
            ORDER BY tenant, stream, fingerprint, version LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (*key, tenant, tenant, stream, stream)):
            yield from (StoredSnapshot(*row[:7]) for row in page)
            key = page[-1][:4]

    def delete(self, tenant: str | None, stream: str | None = None, *, older_than_version: int | None = None) -> int:
        sql = """DELETE FROM everlog_snapshot WHERE (? IS NULL OR tenant = ?) AND (? IS NULL OR stream = ?)
            AND (? IS NULL OR version < ?)"""
        values = (tenant, tenant, stream, stream, older_than_version, older_than_version)
        with translated(), self._connections.write() as connection:
            return connection.execute(sql, values).rowcount
