"""One group of appends in a transaction that is already open: look up ids, check conditions, insert, move the head.

Plain functions over a connection; nothing here opens, commits, sleeps or logs.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from everlog.adapters.sqlite.inline import NO_INLINE, InlineStates
from everlog.adapters.sqlite.where import driven_by_tags, types_condition, types_values
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended, NewEvent, Place, StoredEvent
from everlog.core.errors import (
    AppendConditionFailed,
    EverlogError,
    IdempotencyConflict,
    SubscriptionFailed,
    WrongExpectedVersion,
)
from everlog.core.expect import Match, NoneMatching
from everlog.store.contract import Inline, Verdict
from everlog.store.leaf import leaf_hash
from everlog.store.prepare import PreparedAppend

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


class Group:
    """The requests of one transaction, in order. Rows are kept until `flush`, so that few statements write many."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, inline: Inline | None) -> None:
        self._connection = connection
        self._head, last, in_force = connection.execute(
            "SELECT position, recorded_at, inline FROM everlog_log"
        ).fetchone()
        self._inline = None if in_force == NO_INLINE else InlineStates(connection, inline, in_force)
        self._recorded_at = max(clock(), last)
        self._versions: dict[tuple[str, str], int] = {}
        self._ids: set[bytes] = set()
        self._stored: set[bytes] = set()
        self._events: list[tuple[Any, ...]] = []
        self._payloads: list[tuple[Any, ...]] = []
        self._tags: list[tuple[str, str, int]] = []

    def add(self, requests: Sequence[PreparedAppend]) -> list[Verdict]:
        """A verdict on each request; later ones of the group see what earlier ones store."""
        self._look_up(requests)
        return [self._add(prepared) for prepared in requests]

    def _add(self, prepared: PreparedAppend) -> Verdict:
        try:
            known = self._known(prepared)
            if known:
                return _first_answer(prepared.request, known)
            self._check(prepared.request)
        except EverlogError as error:
            return error
        try:
            return self._place(prepared)
        except SubscriptionFailed as error:
            return error

    def flush(self) -> int:
        """Write what is kept, move the head, and say how many events that were."""
        self._write_rows()
        if self._ids:
            self._connection.execute(
                "UPDATE everlog_log SET position = ?, recorded_at = ?", (self._head, self._recorded_at)
            )
        return len(self._ids)

    def _look_up(self, requests: Sequence[PreparedAppend]) -> None:
        """Known ids and streams' versions for all of them: two statements instead of two for each."""
        if len(requests) == 1 and len(requests[0].events) == 1:
            return self._look_up_one(requests[0].request.tenant, requests[0].events[0].new)
        ids = [event.new.id for prepared in requests for event in prepared.events]
        for page in _pages(ids):
            sql = f"SELECT id FROM everlog_event WHERE id IN ({', '.join('?' * len(page))})"
            self._stored.update(row[0] for row in self._connection.execute(sql, page).fetchall())
        streams = {(one.request.tenant, event.new.stream) for one in requests for event in one.events}
        for keys in _pages(list(streams - self._versions.keys())):
            sql = SELECT_VERSIONS.format(", ".join(["(?, ?)"] * len(keys)))
            found = self._connection.execute(sql, [name for key in keys for name in key]).fetchall()
            self._versions.update(((tenant, stream), version) for tenant, stream, version in found)
        return None

    def _look_up_one(self, tenant: str, new: NewEvent) -> None:
        known, version = self._connection.execute(SELECT_ID_AND_VERSION, (new.id, tenant, new.stream)).fetchone()
        self._versions.setdefault((tenant, new.stream), version or 0)
        if known:
            self._stored.add(new.id)

    def _known(self, prepared: PreparedAppend) -> dict[bytes, Any]:
        ids = [event.new.id for event in prepared.events]
        if self._ids.isdisjoint(ids) and self._stored.isdisjoint(ids):
            return {}
        self._write_rows()
        return find_known(self._connection, ids)

    def _check(self, request: Append) -> None:
        for stream, expect in request.expect.items():
            version = self._version(request.tenant, stream)
            if not expect.holds(version):
                raise WrongExpectedVersion(stream, str(expect), version)
        if request.boundary is not None:
            self._write_rows()
            _check_boundary(self._connection, request.tenant, request.boundary)

    def _version(self, tenant: str, stream: str) -> int:
        return self._versions[tenant, stream]

    def _place(self, prepared: PreparedAppend) -> Appended:
        tenant, recorded_at, places = prepared.request.tenant, self._recorded_at, []
        position = self._head
        if self._inline is not None:
            self._inline.change(self._as_stored(prepared))
        for new, salt, client_salt, segments, content in prepared.events:
            position += 1
            version = self._version(tenant, new.stream) + 1
            self._versions[tenant, new.stream] = version
            self._events.append((
                position, tenant, new.stream, version, new.id, new.type, new.schema_version, new.occurred_at,
                recorded_at, new.actor, new.correlation_id, new.causation_id, segments,
                leaf_hash(content, position, version, recorded_at),
            ))  # fmt: skip
            self._payloads.append((position, new.data, salt, new.client, client_salt))
            self._tags.extend([(tenant, tag, position) for tag in new.tags])
            self._ids.add(new.id)
            places.append(Place(position, version))
        self._head = position
        return Appended(tuple(places), recorded_at)

    def _as_stored(self, prepared: PreparedAppend) -> list[StoredEvent]:
        """The events as they will lie in the log, for inline folds, which may still refuse them."""
        tenant, at, versions, stored = prepared.request.tenant, self._recorded_at, dict[str, int](), []
        for position, (new, *_) in enumerate(prepared.events, self._head + 1):
            versions[new.stream] = version = versions.get(new.stream, self._version(tenant, new.stream)) + 1
            occurred_at = at if new.occurred_at is None else new.occurred_at
            stored.append(StoredEvent(
                position, tenant, new.stream, version, new.id, new.type, new.schema_version, occurred_at, at,
                new.actor, new.correlation_id, new.causation_id, new.data, new.client,
            ))  # fmt: skip
        return stored

    def _write_rows(self) -> None:
        if self._events:
            _insert(self._connection, INSERT_EVENT, self._events)
            _insert(self._connection, INSERT_PAYLOAD, self._payloads)
            _insert(self._connection, INSERT_TAG, self._tags)
            self._events, self._payloads, self._tags = [], [], []
            if self._inline is not None:
                self._inline.write()


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if len(rows) == 1:
        connection.execute(sql, rows[0])  # half the price of executemany
    elif rows:
        connection.executemany(sql, rows)


def _pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _LOOKUP):
        yield items[start : start + _LOOKUP]


def find_known(connection: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for page in _pages(ids):
        rows = connection.execute(SELECT_KNOWN.format(", ".join("?" * len(page))), page)
        found.update((row[0], row[1:]) for row in rows)
    return found


def _first_answer(request: Append, known: dict[bytes, Any]) -> Appended:
    """The answer given when these ids were stored; raises `IdempotencyConflict` unless it is the same append."""
    if any(tenant != request.tenant for _, tenant, *_ in known.values()):
        raise IdempotencyConflict("an event id is not available: give every event a new one")
    if len(known) < len(request.events):
        raise IdempotencyConflict(
            f"{len(known)} of the batch's {len(request.events)} event ids are known: retry exactly the batch of then, "
            "or give the new events new ids"
        )
    places, recorded = [], 0
    for event in request.events:
        position, _, stream, version, type_name, schema_version, claimed_at, recorded_at, data = known[event.id]
        stored = (stream, type_name, schema_version, claimed_at, event.data if data is None else data)
        if stored != (event.stream, event.type, event.schema_version, event.occurred_at, event.data):
            raise IdempotencyConflict(
                f"event id {event.id.hex()} is known with other content, at position {position}: "
                "retry with the same content, or give the event a new id"
            )
        places.append(Place(position, version))
        recorded = max(recorded, recorded_at)
    return Appended(tuple(places), recorded, replayed=True)


def _check_boundary(connection: sqlite3.Connection, tenant: str, boundary: NoneMatching) -> None:
    for match in boundary.matches:
        sql, values = _matching(tenant, match, boundary.after)
        found = connection.execute(sql, values).fetchone()
        if found is not None:
            raise AppendConditionFailed(
                f"an event at position {found[0]} matches the boundary after {boundary.after}: "
                "read up to it and decide again"
            )


def _matching(tenant: str, match: Match, after: int) -> tuple[str, Sequence[object]]:
    """A query for one position the match covers, driven by its first tag where it has one."""
    source, wheres, values = driven_by_tags(tenant, match.tags, after)
    if match.types:
        wheres.append(types_condition(match.types))
        values += types_values(match.types)
    return f"SELECT e.position FROM {source} WHERE {' AND '.join(wheres)} LIMIT 1", values
