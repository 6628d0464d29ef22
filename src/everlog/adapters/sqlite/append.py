"""What one group of appends asks of SQLite and writes there, in a transaction that is already open.

Plain statements over a connection; nothing here opens, commits, sleeps or logs.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from everlog.adapters.sqlite.inline import SqliteStates
from everlog.adapters.sqlite.where import driven_by_tags, types_condition, types_values
from everlog.core.clock import Clock
from everlog.core.expect import Match
from everlog.store.contract import Inline
from everlog.store.exact import refuse_closed
from everlog.store.inline import NO_INLINE, InlineStates
from everlog.store.leaf import leaf_hash
from everlog.store.prepare import PreparedAppend
from everlog.store.verdicts import Group, Known, Placed, StreamKey

INSERT_EVENT = f"INSERT INTO everlog_event VALUES ({', '.join('?' * 14)})"
INSERT_PAYLOAD = "INSERT INTO everlog_payload VALUES (?, ?, ?, ?, ?)"
INSERT_TAG = "INSERT OR IGNORE INTO everlog_tag VALUES (?, ?, ?)"
SELECT_VERSION = "SELECT max(version) FROM everlog_event WHERE tenant = ? AND stream = ?"
SELECT_ID = "SELECT EXISTS (SELECT 1 FROM everlog_event WHERE id = ?)"
SELECT_VERSIONS = """SELECT column1, column2, coalesce(
        (SELECT max(version) FROM everlog_event WHERE tenant = column1 AND stream = column2), 0)
    FROM (VALUES {})"""
SELECT_ID_AND_VERSION = f"{SELECT_ID}, ({SELECT_VERSION})"
SELECT_KNOWN = """
    SELECT e.id, e.position, e.tenant, e.stream, e.version, e.type, e.schema_version, e.claimed_at, e.recorded_at,
        p.data
    FROM everlog_event e LEFT JOIN everlog_payload p USING (position) WHERE e.id IN ({})"""
_LOOKUP = 500

T = TypeVar("T")


_HEAD = "SELECT position, recorded_at, inline, closed, log_id FROM everlog_log"


def open_group(connection: sqlite3.Connection, log_id: bytes, clock: Clock, inline: Inline | None) -> Group:
    """A group that begins at the head; raises `LogClosed`, or `Misconfigured` where inline projections are in force
    that we lack."""
    position, last, in_force, closed, found = connection.execute(_HEAD).fetchone()
    refuse_closed(closed, log_id, found)
    states = None if in_force == NO_INLINE else InlineStates(SqliteStates(connection), inline, in_force)
    return Group(SqliteGround(connection), position, max(clock(), last), states)


def close_group(connection: sqlite3.Connection, group: Group) -> int:
    """Write what the group keeps, move the head, and say how many events that were."""
    group.write()
    if group.size:
        connection.execute("UPDATE everlog_log SET position = ?, recorded_at = ?", (group.position, group.recorded_at))
    return group.size


class SqliteGround:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def look_up(
        self, requests: Sequence[PreparedAppend], known: Mapping[StreamKey, int]
    ) -> tuple[Iterable[bytes], Mapping[StreamKey, int]]:
        """Two statements for all of them; one for a request with one event."""
        if len(requests) == 1 and len(requests[0].events) == 1:
            return self._look_up_one(requests[0], known)
        stored: set[bytes] = set()
        for page in _pages([event.new.id for prepared in requests for event in prepared.events]):
            sql = f"SELECT id FROM everlog_event WHERE id IN ({', '.join('?' * len(page))})"
            stored.update(row[0] for row in self._connection.execute(sql, page).fetchall())
        versions: dict[StreamKey, int] = {}
        streams = {(one.request.tenant, event.new.stream) for one in requests for event in one.events}
        for keys in _pages(list(streams - known.keys())):
            sql = SELECT_VERSIONS.format(", ".join(["(?, ?)"] * len(keys)))
            found = self._connection.execute(sql, [name for key in keys for name in key]).fetchall()
            versions.update(((tenant, stream), version) for tenant, stream, version in found)
        return stored, versions

    def _look_up_one(
        self, prepared: PreparedAppend, known: Mapping[StreamKey, int]
    ) -> tuple[Iterable[bytes], Mapping[StreamKey, int]]:
        tenant, new = prepared.request.tenant, prepared.events[0].new
        stored, version = self._connection.execute(SELECT_ID_AND_VERSION, (new.id, tenant, new.stream)).fetchone()
        key = tenant, new.stream
        return (new.id,) if stored else (), {} if key in known else {key: version or 0}

    def find_known(self, ids: Sequence[bytes]) -> dict[bytes, Known]:
        found: dict[bytes, Known] = {}
        for page in _pages(ids):
            rows = self._connection.execute(SELECT_KNOWN.format(", ".join("?" * len(page))), page)
            found.update((row[0], Known(*row[1:])) for row in rows)
        return found

    def first_match(self, tenant: str, match: Match, after: int) -> int | None:
        found = self._connection.execute(*_matching(tenant, match, after)).fetchone()
        return None if found is None else int(found[0])

    def write(self, placed: Sequence[Placed], recorded_at: int) -> None:
        events, payloads, tags = [], [], []
        for position, version, tenant, (new, salt, client_salt, segments, content) in placed:
            events.append((
                position, tenant, new.stream, version, new.id, new.type, new.schema_version, new.occurred_at,
                recorded_at, new.actor, new.correlation_id, new.causation_id, segments,
                leaf_hash(content, position, version, recorded_at),
            ))  # fmt: skip
            payloads.append((position, new.data, salt, new.client, client_salt))
            tags.extend([(tenant, tag, position) for tag in new.tags])
        _insert(self._connection, INSERT_EVENT, events)
        _insert(self._connection, INSERT_PAYLOAD, payloads)
        _insert(self._connection, INSERT_TAG, tags)


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if len(rows) == 1:
        connection.execute(sql, rows[0])  # half the price of executemany
    elif rows:
        connection.executemany(sql, rows)


def _pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _LOOKUP):
        yield items[start : start + _LOOKUP]


def _matching(tenant: str, match: Match, after: int) -> tuple[str, Sequence[object]]:
    """A query for one position the match covers, driven by its first tag where it has one."""
    source, wheres, values = driven_by_tags(tenant, match.tags, after)
    if match.types:
        wheres.append(types_condition(match.types))
        values += types_values(match.types)
    return f"SELECT e.position FROM {source} WHERE {' AND '.join(wheres)} LIMIT 1", values
