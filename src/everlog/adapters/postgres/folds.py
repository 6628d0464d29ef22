"""`FoldStates` in the log's own database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg import Connection

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.nul import given, kept
from everlog.adapters.postgres.packed import blobs, int8s, texts
from everlog.core.envelope import FoldKey, FoldState
from everlog.subscription.contract import Effects

_PAGE = 1000
_MOST_BYTES = 32 * 1024 * 1024  # in one statement; PostgreSQL takes less than a GiB
_ON_CONFLICT = """
    ON CONFLICT (projection, version, tenant, key) DO UPDATE SET state = excluded.state, position = excluded.position"""
STORE = f"INSERT INTO everlog_fold VALUES (%s, %s, %s, %s, %s, %s) {_ON_CONFLICT}"
_STORE_MANY = f"""INSERT INTO everlog_fold
    SELECT %s, %s, s.tenant, s.key, s.state, s.position FROM unnest(%s, %s, %s, %s) AS s (tenant, key, state, position)
    {_ON_CONFLICT}"""
_LOAD = """SELECT tenant, key, state, position FROM everlog_fold
    WHERE projection = ? AND version = ? AND tenant = ? AND key = ?"""
_LOAD_MANY = """SELECT f.tenant, f.key, f.state, f.position
    FROM unnest(%s, %s) AS wanted (tenant, key) JOIN everlog_fold f
        ON f.projection = %s AND f.version = %s AND f.tenant = wanted.tenant AND f.key = wanted.key"""


class PostgresFoldStates:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def load(self, projection: str, version: int, keys: Iterable[FoldKey]) -> Mapping[FoldKey, FoldState]:
        wanted = list(keys)
        if not wanted:
            return {}
        found = map(_given, self._load(projection, version, wanted))
        return {FoldKey(state.tenant, state.key): state for state in found}

    def _load(self, projection: str, version: int, wanted: Sequence[FoldKey]) -> list[Any]:
        if len(wanted) == 1:  # a session asks for one, and sees its own tenant
            [(tenant, key)] = wanted
            return self._connections.rows(_LOAD, (projection, version, tenant, kept(key)), tenant=tenant)
        values = (texts([key.tenant for key in wanted]), texts([kept(key.key) for key in wanted]), projection, version)

        def ask(connection: Connection) -> list[Any]:
            # Not prepared: a plan that was made when there were few states would read all of them for every page.
            return connection.execute(_LOAD_MANY, values, binary=True, prepare=False).fetchall()

        return self._connections.asked(ask)

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None:
        for part in _parts({state[:2]: state for state in states}.values()):
            tenants, keys, bodies, positions = zip(*part, strict=True)
            arrays = texts(tenants), texts([kept(key) for key in keys]), blobs(bodies), int8s(positions)
            effects.connection.execute(_STORE_MANY, (projection, version, *arrays))

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        effects.execute("DELETE FROM everlog_fold WHERE projection = ? AND version = ?", (projection, version))

    def keep_only(self, effects: Effects, projection: str, version: int) -> None:
        effects.execute("DELETE FROM everlog_fold WHERE projection = ? AND version <> ?", (projection, version))

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        after = ("", "")
        only, values = ("", ()) if tenant is None else ("AND tenant = ?", (tenant,))
        sql = f"""SELECT tenant, key, state, position FROM everlog_fold
            WHERE projection = ? AND version = ? AND (tenant, key) > (?, ?) {only}
            ORDER BY tenant, key LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (projection, version, *after, *values), tenant=tenant):
            yield from map(_given, page)
            after = page[-1][:2]


def _given(row: Sequence[Any]) -> FoldState:
    tenant, key, state, position = row
    return FoldState(tenant, given(key), state, position)


def _parts(states: Iterable[FoldState]) -> Iterator[list[FoldState]]:
    """No more bytes a statement than it takes well."""
    part: list[FoldState] = []
    size = 0
    for state in states:
        part.append(state)
        size += len(state.state)
        if size >= _MOST_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
