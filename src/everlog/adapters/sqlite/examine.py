"""What `everlog doctor` looks at in a SQLite log."""

import sqlite3
from collections.abc import Iterator

from everlog.adapters.sqlite.connections import Connections
from everlog.core.clock import Clock, rfc3339
from everlog.core.envelope import NewEvent
from everlog.core.errors import StoreUnavailable
from everlog.store.contract import Finding, LeafRow
from everlog.store.leaf import Segment, content_hash, leaf_hash, segment_hashes

_MINUTE = 60_000_000
_LARGE_WAL = 64 * 1024 * 1024


def examine(
    connections: Connections, leaves: Iterator[LeafRow] | None, clock: Clock, log_id: bytes
) -> Iterator[Finding]:
    """Cheap findings; with `leaves` also every row and every hash."""
    yield Finding("SQLite", "ok", sqlite3.sqlite_version)
    yield _durability(connections)
    yield from _readable("positions", connections, _head(connections, clock))
    yield _wal(connections)
    if leaves is not None:
        yield from _readable("file", connections, _integrity(connections))
        yield from _readable("payloads", connections, _payloads(connections))
        yield from _readable("leaves", connections, _leaves(leaves, log_id))


def _readable(check: str, connections: Connections, findings: Iterator[Finding]) -> Iterator[Finding]:
    """A page that cannot be read is a finding too, and not the end of the examination."""
    try:
        yield from findings
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
    position, recorded_at, stored, last = connections.rows(
        "SELECT position, recorded_at, (SELECT count(*) FROM everlog_event), (SELECT max(position) FROM everlog_event)"
        " FROM everlog_log"
    )[0]
    if position == stored == (last or 0):
        yield Finding("positions", "ok", f"1 to {position}, without holes")
    else:
        seen = f"head {position}, {stored} events, last {last}"
        yield Finding(
            "positions", "problem", seen, "restore a verified backup: rows were removed behind everlog's back"
        )
    behind = recorded_at - clock()
    if behind > _MINUTE:
        seen = f"{behind // 1_000_000} s behind the last event ({rfc3339(recorded_at)})"
        yield Finding(
            "clock", "warning", seen, "set this machine's clock: new events get the last event's time until then"
        )
    else:
        yield Finding("clock", "ok", f"last event at {rfc3339(recorded_at)}" if position else "no event yet")


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
    lost = connections.rows(
        "SELECT min(position), count(*) FROM everlog_event e WHERE NOT EXISTS"
        " (SELECT 1 FROM everlog_payload p WHERE p.position = e.position) AND NOT EXISTS"
        " (SELECT 1 FROM everlog_release r WHERE r.position = e.position)"
    )[0]
    if lost[1]:
        seen = f"{lost[1]} gone without a recorded release, the first at position {lost[0]}"
        yield Finding("payloads", "problem", seen, "restore a verified backup and compare")
    else:
        yield Finding("payloads", "ok", "every one is there or was released")


def _leaves(leaves: Iterator[LeafRow], log_id: bytes) -> Iterator[Finding]:
    count = 0
    for row in leaves:
        if not leaf_holds(row, log_id):
            where = f"the event at position {row.event.position} is not what was stored"
            yield Finding("leaves", "problem", where, "restore a verified backup and compare")
            return
        count += 1
    yield Finding("leaves", "ok", f"{count} recomputed and equal")


def leaf_holds(row: LeafRow, log_id: bytes) -> bool:
    """Whether envelope, payload (where it is still here) and leaf belong together."""
    e = row.event
    new = NewEvent(
        e.id,
        e.stream,
        e.type,
        e.schema_version,
        e.data or b"",
        (),
        row.claimed_at,
        e.actor,
        e.correlation_id,
        e.causation_id,
    )
    content = content_hash(log_id, e.tenant, new, row.segment_hashes)
    if leaf_hash(content, e.position, e.version, e.recorded_at) != row.leaf:
        return False
    stored = [("data", row.salts[0], e.data), ("client", row.salts[1], e.client)]
    segments = [Segment(role, salt, data) for role, salt, data in stored if salt is not None and data is not None]
    return not segments or segment_hashes(segments) == row.segment_hashes
