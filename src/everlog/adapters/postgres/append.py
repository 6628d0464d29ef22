"""One group of appends on PostgreSQL, written in one flush where nobody stands in the way, else under the lock.

*In one flush*: where every condition names the version it expects, the group is placed as if that were so, and BEGIN,
the head, the rows and COMMIT leave together. The unique keys and a guard refuse it if anything was otherwise, and then
nothing is stored. *Under the lock*: the head first, then look-ups in later statements, whose snapshots are younger than
the lock (a check in the locking statement itself would see an old one, and let several winners through).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.errors import DivisionByZero, UniqueViolation
from psycopg.types.numeric import Int8

from everlog.adapters.postgres.connections import bound_holder
from everlog.adapters.postgres.inline import PostgresStates
from everlog.adapters.postgres.migrate import FORMAT
from everlog.adapters.postgres.packed import blobs, int8s, texts, uuids
from everlog.adapters.postgres.placeholders import translated_placeholders
from everlog.adapters.postgres.where import driven_by_tags, types_condition, types_values
from everlog.core.clock import Clock
from everlog.core.envelope import Appended, Place
from everlog.core.errors import StoreUnavailable
from everlog.core.expect import Exactly, Match, NoStream
from everlog.store.contract import Inline, Verdict
from everlog.store.inline import NO_INLINE, InlineStates
from everlog.store.prepare import PreparedAppend
from everlog.store.verdicts import Group, Known, Placed, StreamKey

_LOCK = """UPDATE everlog_log SET recorded_at = greatest(recorded_at, %s)
    RETURNING position, recorded_at, inline, format"""
_ADVANCE = """UPDATE everlog_log SET position = position + %s, recorded_at = greatest(recorded_at, %s)
    RETURNING position, recorded_at"""
_MOVE = "UPDATE everlog_log SET position = %s"
# The division refuses a group that was placed without asking, where an inline projection or a newer format is in force.
_INSERT = """
WITH head AS (SELECT position / (NOT %s OR (inline = '{}' AND format = %s))::int AS position, recorded_at
    FROM everlog_log),
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
    INSERT INTO everlog_payload SELECT position, tenant, data, salt, client, client_salt FROM placed)
INSERT INTO everlog_tag SELECT t.tenant, t.tag, head.position + t.behind
FROM head, unnest(%s, %s, %s) AS t (behind, tenant, tag) ON CONFLICT DO NOTHING"""
_GUARD = """SELECT 1 / (count(*) = %s)::int FROM unnest(%s, %s, %s) AS g (tenant, stream, version)
    CROSS JOIN LATERAL (SELECT 1 FROM everlog_event e
        WHERE e.tenant = g.tenant AND e.stream = g.stream AND e.version = g.version LIMIT 1) found"""
_STORED = """SELECT uuid_send(k.id) FROM unnest(%s) AS k (id)
    CROSS JOIN LATERAL (SELECT 1 FROM everlog_event e WHERE e.id = k.id LIMIT 1) found"""
_VERSIONS = """SELECT k.tenant, k.stream, coalesce(last.version, 0) FROM unnest(%s, %s) AS k (tenant, stream)
    LEFT JOIN LATERAL (SELECT e.version FROM everlog_event e WHERE e.tenant = k.tenant AND e.stream = k.stream
        ORDER BY e.version DESC LIMIT 1) last ON true"""
_KNOWN = """SELECT uuid_send(e.id), e.position, e.tenant, e.stream, e.version, e.type, e.schema_version, e.claimed_at,
        e.recorded_at, p.data
    FROM everlog_event e LEFT JOIN everlog_payload p USING (position) WHERE e.id = ANY(%s)"""

IN_THE_WAY = (UniqueViolation, DivisionByZero)
"""What refuses a group written in one flush: something was not as its requests expected."""


def tells_versions(requests: Sequence[PreparedAppend]) -> bool:
    """Whether the conditions say which version every stream has, so that nothing need be looked up."""
    return all(
        prepared.request.boundary is None
        and all(isinstance(prepared.request.expected(e.new.stream), NoStream | Exactly) for e in prepared.events)
        for prepared in requests
    )


def append_in_one_flush(
    connection: Connection, requests: Sequence[PreparedAppend], clock: Clock, *, pooled: bool
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
    with connection.pipeline():
        _begin(connection, pooled)
        moved = connection.execute(_ADVANCE, (Int8(group.size), Int8(clock())), binary=True)
        if expected.guards:
            tenants, streams, versions = zip(*expected.guards, strict=True)
            connection.execute(_GUARD, (Int8(len(tenants)), texts(tenants), texts(streams), int8s(versions)))
        _insert(connection, expected.placed, -group.size, unasked=True)
        connection.execute("COMMIT", prepare=False)
    head, recorded_at = moved.fetchone() or (0, 0)
    base = head - group.size
    return [_moved(verdict, base, recorded_at) for verdict in verdicts if isinstance(verdict, Appended)]


def append_under_lock(
    connection: Connection, requests: Sequence[PreparedAppend], clock: Clock, inline: Inline | None, *, pooled: bool
) -> tuple[list[Verdict], int]:
    """A verdict on each request, and how many events were stored: in a transaction of two flushes."""
    with connection.pipeline():
        _begin(connection, pooled)
        group = open_group(connection, clock, inline, requests)
        verdicts = group.add(requests)
        close_group(connection, group)
        connection.execute("COMMIT" if group.size else "ROLLBACK", prepare=False)
    return verdicts, group.size


def open_group(
    connection: Connection, clock: Clock, inline: Inline | None, requests: Sequence[PreparedAppend] = ()
) -> Group:
    """Take the head, in a transaction that is open; what `requests` need is looked up in the same flush."""
    ground = PostgresGround(connection)
    locked = connection.execute(_LOCK, (Int8(clock()),), binary=True)
    ground.look_up_early(requests)
    position, recorded_at, in_force, format = locked.fetchone() or (0, 0, NO_INLINE, 0)
    if format != FORMAT:
        raise StoreUnavailable(f"the database was brought to format {format}: open the store again with that everlog")
    ground.head = position
    states = None if in_force == NO_INLINE else InlineStates(PostgresStates(connection), inline, in_force)
    return Group(ground, position, recorded_at, states)


def close_group(connection: Connection, group: Group) -> None:
    """Write what the group keeps, and move the head."""
    group.write()
    if group.size:
        connection.execute(_MOVE, (Int8(group.position),))


def _begin(connection: Connection, pooled: bool) -> None:
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", prepare=False)
    if pooled:
        bound_holder(connection)


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
    """What a group asks of the transaction that holds the head."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._early: tuple[Any, Any] | None = None
        self.head = 0

    def look_up_early(self, requests: Sequence[PreparedAppend]) -> None:
        """Send the look-ups behind the lock, in its flush."""
        if requests:
            self._early = self._asked(requests, {})

    def look_up(
        self, requests: Sequence[PreparedAppend], known: Mapping[StreamKey, int]
    ) -> tuple[Iterable[bytes], Mapping[StreamKey, int]]:
        stored, versions = self._early or self._asked(requests, known)
        self._early = None
        return [row[0] for row in stored], {(tenant, stream): version for tenant, stream, version in versions}

    def _asked(self, requests: Sequence[PreparedAppend], known: Mapping[StreamKey, int]) -> tuple[Any, Any]:
        ids = [event.new.id for prepared in requests for event in prepared.events]
        streams = {(one.request.tenant, event.new.stream) for one in requests for event in one.events} - known.keys()
        tenants, names = [key[0] for key in streams], [key[1] for key in streams]
        stored = self._connection.execute(_STORED, (uuids(ids),), binary=True)
        return stored, self._connection.execute(_VERSIONS, (texts(tenants), texts(names)), binary=True)

    def find_known(self, ids: Sequence[bytes]) -> Mapping[bytes, Known]:
        rows = self._connection.execute(_KNOWN, ([UUID(bytes=id) for id in ids],), binary=True)
        return {row[0]: Known(*row[1:]) for row in rows}

    def first_match(self, tenant: str, match: Match, after: int) -> int | None:
        sql, values = _matching(tenant, match, after)
        found = self._connection.execute(translated_placeholders(sql), values, prepare=False).fetchone()
        return None if found is None else int(found[0])

    def write(self, placed: Sequence[Placed], recorded_at: int) -> None:
        _insert(self._connection, placed, -self.head, unasked=False)


def _insert(connection: Connection, placed: Sequence[Placed], offset: int, *, unasked: bool) -> None:
    """Insert rows at their positions; `offset` makes them count from the head row as it is now."""
    new = [one.event.new for one in placed]
    behind = [one.position + offset for one in placed]
    tags = [(at, one.tenant, tag) for at, one in zip(behind, placed, strict=True) for tag in one.event.new.tags]
    connection.execute(_INSERT, (
        unasked, Int8(FORMAT), int8s(behind), texts([one.tenant for one in placed]), texts([e.stream for e in new]),
        int8s([one.version for one in placed]), uuids([e.id for e in new]), texts([e.type for e in new]),
        int8s([e.schema_version for e in new]), int8s([e.occurred_at for e in new]), texts([e.actor for e in new]),
        uuids([e.correlation_id for e in new]), uuids([e.causation_id for e in new]),
        blobs([one.event.segment_hashes for one in placed]), blobs([one.event.content for one in placed]),
        blobs([e.data for e in new]), blobs([one.event.salt for one in placed]), blobs([e.client for e in new]),
        blobs([one.event.client_salt for one in placed]),
        int8s([tag[0] for tag in tags]), texts([tag[1] for tag in tags]), texts([tag[2] for tag in tags]),
    ))  # fmt: skip


def _moved(verdict: Appended, base: int, recorded_at: int) -> Appended:
    return Appended(tuple([Place(base + place.position, place.version) for place in verdict.places]), recorded_at)


def _matching(tenant: str, match: Match, after: int) -> tuple[str, Sequence[object]]:
    """A query for one position the match covers, driven by its first tag where it has one."""
    source, wheres, values = driven_by_tags(tenant, match.tags, after)
    if match.types:
        wheres.append(types_condition(match.types))
        values += types_values(match.types)
    return f"SELECT e.position FROM {source} WHERE {' AND '.join(wheres)} LIMIT 1", values
