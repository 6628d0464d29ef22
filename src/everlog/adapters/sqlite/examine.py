"""What `everlog doctor` looks at in a SQLite log."""

import sqlite3
from collections.abc import Iterator

from everlog.adapters.sqlite.connections import Connections
from everlog.core.clock import Clock
from everlog.core.errors import StoreUnavailable
from everlog.store import findings
from everlog.store.contract import Finding, LeafRow
from everlog.store.exact import Origin

_LARGE_WAL = 64 * 1024 * 1024


def examine(
    connections: Connections, leaves: Iterator[LeafRow] | None, clock: Clock, log_id: bytes
) -> Iterator[Finding]:
    """Cheap findings; with `leaves` also every row and every hash."""
    yield Finding("SQLite", "ok", sqlite3.sqlite_version)
    yield _durability(connections)
    yield from _readable("positions", connections, _head(connections, clock))
    known = [Origin(*row) for row in connections.rows("SELECT * FROM everlog_origin ORDER BY incarnation")]
    yield from findings.origins(known)
    yield _wal(connections)
    if leaves is not None:
        yield from _readable("file", connections, _integrity(connections))
        yield from _readable("payloads", connections, _payloads(connections))
        yield from _readable("leaves", connections, findings.leaves(leaves, log_id, known))


def _readable(check: str, connections: Connections, looked: Iterator[Finding]) -> Iterator[Finding]:
    """A page that cannot be read is a finding too, and not the end of the examination."""
    try:
        yield from looked
    except StoreUnavailable as error:
        if connections.closed:
            raise
        yield Finding(check, "problem", str(error), "stop writing and restore a verified backup")


def _durability(connections: Connections) -> Finding:
    mode = connections.settings.synchronous
    if mode in ("FULL", "EXTRA"):
        return Finding("durability", "ok", f"synchronous={mode}, write-ahead log")
    return Finding("durability", "problem", f"synchronous={mode}", "acknowledged events can be lost: use FULL")


def _head(connections: Connections, clock: Clock) -> Iterator[Finding]:
    position, recorded_at, closed, stored, last = connections.rows(
        "SELECT position, recorded_at, closed, (SELECT count(*) FROM everlog_event),"
        " (SELECT max(position) FROM everlog_event) FROM everlog_log"
    )[0]
    yield findings.positions(position, stored, last or 0)
    yield findings.clock(recorded_at, clock())
    yield findings.appends(closed)


def _wal(connections: Connections) -> Finding:
    wal = connections.path.with_name(connections.path.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > _LARGE_WAL:
        return Finding(
            "write-ahead log", "warning", f"{size} bytes", "a reader holds an old snapshot open: find and end it"
        )
    return Finding("write-ahead log", "ok", f"{size} bytes")


def _integrity(connections: Connections) -> Iterator[Finding]:
    found = connections.rows("PRAGMA integrity_check")[0][0]
    if found == "ok":
        yield Finding("file", "ok", "SQLite's integrity check passed")
    else:
        yield Finding("file", "problem", str(found), "stop writing and restore a verified backup")


def _payloads(connections: Connections) -> Iterator[Finding]:
    first, lost = connections.rows(
        "SELECT min(position), count(*) FROM everlog_event e WHERE NOT EXISTS"
        " (SELECT 1 FROM everlog_payload p WHERE p.position = e.position) AND NOT EXISTS"
        " (SELECT 1 FROM everlog_release r WHERE r.position = e.position)"
    )[0]
    yield findings.payloads(first, lost)
