"""One group of appends on PostgreSQL, written in one flush where nobody stands in the way, else under the lock.

*In one flush*: where every condition names the version it expects, the group is placed as if that were so, and one
statement moves the head, inserts the rows and commits. The unique keys and a guard refuse it if anything was otherwise,
and then nothing is stored. *Under the lock*: the head first, then look-ups in later statements, whose snapshots are
younger than the lock (a check in the locking statement itself would see an old one, and let several winners through).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.errors import DivisionByZero, UniqueViolation
from psycopg.types.numeric import Int8

from everlog.adapters.postgres.connections import bound_holder
from everlog.adapters.postgres.inline import PostgresStates
from everlog.adapters.postgres.migrate import FORMAT
from everlog.adapters.postgres.packed import blobs, int8, int8s, prepare_as, run_prepared, texts, uuids
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.where import driven_by_tags, types_condition, types_values
from everlog.core.clock import Clock
from everlog.core.envelope import Appended, Place
from everlog.core.errors import Misconfigured, StoreUnavailable
from everlog.core.expect import Exactly, Match, NoStream
from everlog.store.contract import Inline, Verdict
from everlog.store.exact import refuse_closed
from everlog.store.inline import NO_INLINE, InlineStates
from everlog.store.prepare import PreparedAppend
from everlog.store.verdicts import Group, Known, Placed, StreamKey

_LOCK = """UPDATE everlog_log SET recorded_at = greatest(recorded_at, %s)
    RETURNING position, recorded_at, inline, format, closed, log_id"""
_MOVE = "UPDATE everlog_log SET position = %s"
_ROWS = """
placed AS MATERIALIZED (
    SELECT head.position + u.behind AS position, head.recorded_at, u.* FROM head, unnest(
        %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS u (
        behind, tenant, stream, version, id, type, schema_version, claimed_at, actor, correlation_id, causation_id,
        segments, content, data, salt, client, client_salt)),
events AS (
    INSERT INTO everlog_event
    SELECT position, tenant, stream, version, id, type, schema_version, claimed_at, recorded_at, actor, correlation_id,
        causation_id, segments, sha256('\\x00'::bytea || content || int8send(position) || int8send(version)
            || int8send(recorded_at))
    FROM placed),
payloads AS (
    INSERT INTO everlog_payload SELECT position, tenant, data, salt, client, client_salt FROM placed),
tags AS (
    INSERT INTO everlog_tag SELECT t.tenant, t.tag, head.position + t.behind
    FROM head, unnest(%s, %s, %s) AS t (behind, tenant, tag) ON CONFLICT DO NOTHING)
SELECT position, recorded_at FROM head"""
_INSERT = f"WITH head AS (SELECT position, recorded_at FROM everlog_log), {_ROWS}"
# The head is the newest whatever the statement's snapshot: PostgreSQL looks at the row again once it has its lock. The
# guard may look at an older state, and refuse a group that would do now; that one is asked for under the lock.
# It asks for the last version, in order, because a plan made on an empty table must use the one index that has it.
# The division refuses: also where an inline projection or a newer format is in force, the log is closed, or is another.
_APPEND = f"""
WITH moved AS (
    UPDATE everlog_log SET position = position + %s, recorded_at = greatest(recorded_at, %s)
    RETURNING position, recorded_at, inline = '{{}}' AND format = %s AND closed = '' AND log_id = %s AS ours),
guard AS (
    SELECT count(*) = %s AS holds FROM unnest(%s, %s, %s) AS g (tenant, stream, version)
    CROSS JOIN LATERAL (SELECT e.version FROM everlog_event e WHERE e.tenant = g.tenant AND e.stream = g.stream
        ORDER BY e.version DESC LIMIT 1) last WHERE last.version >= g.version),
head AS (SELECT position / (ours AND holds)::int AS position, recorded_at FROM moved, guard), {_ROWS}"""
_LOOK_UP = """SELECT uuid_send(k.id), NULL, NULL, NULL FROM unnest(%s) AS k (id)
        CROSS JOIN LATERAL (SELECT 1 FROM everlog_event e WHERE e.id = k.id LIMIT 1) found
    UNION ALL
    SELECT NULL, k.tenant, k.stream, coalesce(last.version, 0) FROM unnest(%s, %s) AS k (tenant, stream)
        LEFT JOIN LATERAL (SELECT e.version FROM everlog_event e WHERE e.tenant = k.tenant AND e.stream = k.stream
            ORDER BY e.version DESC LIMIT 1) last ON true"""
_KNOWN = """SELECT uuid_send(e.id), e.position, e.tenant, e.stream, e.version, e.type, e.schema_version, e.claimed_at,
        e.recorded_at, p.data
    FROM everlog_event e LEFT JOIN everlog_payload p USING (position) WHERE e.id = ANY(%s)"""

_PREPARED = b"everlog_append"

IN_THE_WAY = (UniqueViolation, DivisionByZero)
"""What refuses a group written in one flush: something was not as its requests expected."""


def tells_versions(requests: Sequence[PreparedAppend]) -> bool:
    """Whether the conditions say which version every stream has, so that nothing need be looked up."""
    return all(
        prepared.request.boundary is None
        and all(isinstance(prepared.request.expected(e.new.stream), NoStream | Exactly) for e in prepared.events)
        for prepared in requests
    )


def prepare_append(connection: Connection) -> None:
    """Make a connection ready to append in one flush."""
    prepare_as(connection, _PREPARED, _APPEND, _values(_Expected(), 0, b""))


def append_in_one_flush(
    connection: Connection, log_id: bytes, requests: Sequence[PreparedAppend], clock: Clock, *, pooled: bool
) -> list[Verdict] | None:
    """Append all or nothing of what `tells_versions`; `None` where a request must be refused.

    Raises one of `IN_THE_WAY`, and stores nothing, when the versions were not as told.
    """
    expected = _Expected()
    group = Group(expected, 0, 0)
    verdicts = group.add(requests)
    if not all(isinstance(verdict, Appended) for verdict in verdicts):
        return None
    group.write()
    values = _values(expected, clock(), log_id)
    row: Sequence[Any] | None
    if pooled:
        with connection.pipeline():
            _begin(connection, pooled)
            moved = connection.execute(_APPEND, values, binary=True)
            connection.execute("COMMIT", prepare=False)
        row = moved.fetchone()
    else:  # a transaction by itself
        row = run_prepared(connection, _PREPARED, values)
    head, recorded_at = _head(row)
    base = head - group.size
    return [_moved(verdict, base, recorded_at) for verdict in verdicts if isinstance(verdict, Appended)]


def append_under_lock(
    connection: Connection,
    log_id: bytes,
    requests: Sequence[PreparedAppend],
    clock: Clock,
    inline: Inline | None,
    *,
    pooled: bool,
) -> tuple[list[Verdict], int]:
    """A verdict on each request, and how many events were stored: in a transaction of three flushes.

    The look-ups are no part of the first one. The server's idle limit counts behind a plain statement only, not behind
    a pipeline that psycopg ended with a Flush, and it must, should this process stand still now.
    """
    with connection.pipeline():
        _begin(connection, pooled)
        locked = _lock(connection, clock)
    group = _group_on(connection, locked, log_id, inline)
    verdicts = group.add(requests)
    with connection.pipeline():
        close_group(connection, group)
        connection.execute("COMMIT" if group.size else "ROLLBACK", prepare=False)
    return verdicts, group.size


def open_group(connection: Connection, log_id: bytes, clock: Clock, inline: Inline | None) -> Group:
    """Take the head, in a transaction that is open."""
    return _group_on(connection, _lock(connection, clock), log_id, inline)


def _lock(connection: Connection, clock: Clock) -> Cursor:
    return connection.execute(_LOCK, (Int8(clock()),), binary=True)


def _group_on(connection: Connection, locked: Cursor, log_id: bytes, inline: Inline | None) -> Group:
    position, recorded_at, in_force, format, closed, found = _head(locked.fetchone())
    if format != FORMAT:
        raise StoreUnavailable(f"the database was brought to format {format}: open the store again with that everlog")
    refuse_closed(closed, log_id, found)
    states = None if in_force == NO_INLINE else InlineStates(PostgresStates(connection), inline, in_force)
    return Group(PostgresGround(connection, position), position, recorded_at, states)


def close_group(connection: Connection, group: Group) -> None:
    """Write what the group keeps, and move the head."""
    group.write()
    if group.size:
        connection.execute(_MOVE, (Int8(group.position),))


def _begin(connection: Connection, pooled: bool) -> None:
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", prepare=False)
    if pooled:
        bound_holder(connection)


def _head(row: Sequence[Any] | None) -> Sequence[Any]:
    if row is None:
        raise Misconfigured("the head row is hidden from this role, and nothing is stored: run everlog store migrate")
    return row


class _Expected:
    """A ground that believes what the requests expect, and keeps the rows and what is to be guarded."""

    def __init__(self) -> None:
        self.placed: list[Placed] = []
        self.guards: list[tuple[str, str, int]] = []

    def look_up(
        self, requests: Sequence[PreparedAppend], known: Mapping[StreamKey, int]
    ) -> tuple[Iterable[bytes], Mapping[StreamKey, int]]:
        versions: dict[StreamKey, int] = {}
        for prepared in requests:
            tenant = prepared.request.tenant
            for stream, expect in prepared.request.expect.items():
                version = expect.version if isinstance(expect, Exactly) else 0
                if versions.setdefault((tenant, stream), version) == version and version:
                    self.guards.append((tenant, stream, version))
        return (), versions

    def find_known(self, ids: Sequence[bytes]) -> Mapping[bytes, Known]:
        return {}

    def first_match(self, tenant: str, match: Match, after: int) -> int | None:
        raise AssertionError("a boundary is checked under the lock")

    def write(self, placed: Sequence[Placed], recorded_at: int) -> None:
        self.placed += placed


class PostgresGround:
    """What a group asks of the transaction that holds the head, which stands at `head`."""

    def __init__(self, connection: Connection, head: int) -> None:
        self._connection, self._head = connection, head
        self._plans_each = False

    def look_up(
        self, requests: Sequence[PreparedAppend], known: Mapping[StreamKey, int]
    ) -> tuple[Iterable[bytes], Mapping[StreamKey, int]]:
        ids = [event.new.id for prepared in requests for event in prepared.events]
        streams = {(one.request.tenant, event.new.stream) for one in requests for event in one.events} - known.keys()
        values = (uuids(ids), texts([key[0] for key in streams]), texts([key[1] for key in streams]))
        rows = self._connection.execute(_LOOK_UP, values, binary=True).fetchall()
        stored = [id for id, *_ in rows if id is not None]
        return stored, {(tenant, stream): version for id, tenant, stream, version in rows if id is None}

    def find_known(self, ids: Sequence[bytes]) -> Mapping[bytes, Known]:
        rows = self._connection.execute(_KNOWN, ([UUID(bytes=id) for id in ids],), binary=True)
        return {row[0]: Known(*row[1:]) for row in rows}

    def first_match(self, tenant: str, match: Match, after: int) -> int | None:
        if not self._plans_each:  # which index is best depends on what is asked
            self._plans_each = True
            self._connection.execute("SET LOCAL plan_cache_mode = force_custom_plan", prepare=False)
        sql, values = _matching(tenant, match, after)
        found = self._connection.execute(translated_placeholders(sql), values, prepare=False).fetchone()
        return None if found is None else int(found[0])

    def write(self, placed: Sequence[Placed], recorded_at: int) -> None:
        self._connection.execute(_INSERT, _packed(placed, -self._head))


def _values(expected: _Expected, now: int, log_id: bytes) -> tuple[bytes, ...]:
    """The values of `_APPEND`."""
    size = len(expected.placed)
    tenants, streams, versions = zip(*expected.guards, strict=True) if expected.guards else ((), (), ())
    return (
        int8(size), int8(now), int8(FORMAT), log_id,
        int8(len(tenants)), texts(tenants), texts(streams), int8s(versions), *_packed(expected.placed, -size),
    )  # fmt: skip


def _packed(placed: Sequence[Placed], offset: int) -> tuple[bytes, ...]:
    """The values of `_ROWS`; `offset` makes positions count from the head row as it is by then."""
    new = [one.event.new for one in placed]
    behind = [one.position + offset for one in placed]
    tags = [(at, one.tenant, tag) for at, one in zip(behind, placed, strict=True) for tag in one.event.new.tags]
    return (
        int8s(behind), texts([one.tenant for one in placed]), texts([e.stream for e in new]),
        int8s([one.version for one in placed]), uuids([e.id for e in new]), texts([e.type for e in new]),
        int8s([e.schema_version for e in new]), int8s([e.occurred_at for e in new]), texts([e.actor for e in new]),
        uuids([e.correlation_id for e in new]), uuids([e.causation_id for e in new]),
        blobs([one.event.segment_hashes for one in placed]), blobs([one.event.content for one in placed]),
        blobs([e.data for e in new]), blobs([one.event.salt for one in placed]), blobs([e.client for e in new]),
        blobs([one.event.client_salt for one in placed]),
        int8s([tag[0] for tag in tags]), texts([tag[1] for tag in tags]), texts([tag[2] for tag in tags]),
    )  # fmt: skip


def _moved(verdict: Appended, base: int, recorded_at: int) -> Appended:
    return Appended(tuple([Place(base + place.position, place.version) for place in verdict.places]), recorded_at)


def _matching(tenant: str, match: Match, after: int) -> tuple[str, Sequence[object]]:
    """A query for one position the match covers, driven by its first tag where it has one."""
    source, wheres, values = driven_by_tags(tenant, match.tags, after)
    if match.types:
        wheres.append(types_condition(match.types))
        values += types_values(match.types)
    return f"SELECT e.position FROM {source} WHERE {' AND '.join(wheres)} LIMIT 1", values
