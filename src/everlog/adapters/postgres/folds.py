"""`FoldStates` in the log's own database."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg import Connection

from everlog.adapters.postgres.checkpoints import PostgresEffects
from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.nul import given, kept
from everlog.adapters.postgres.packed import TextArray, blobs, int8s, texts
from everlog.adapters.postgres.translate import translated
from everlog.core.envelope import FoldKey, FoldState
from everlog.projection.contract import Mended, PinnedStates
from everlog.projection.pin import inline_pin, pin_of
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

_DELETE = """DELETE FROM everlog_fold f USING unnest(%s, %s) AS gone (tenant, key)
    WHERE f.projection = %s AND f.version = %s AND f.tenant = gone.tenant AND f.key = gone.key"""
PIN = """(SELECT string_agg(concat_ws(' ', part, parts, position, coalesce(until, -1), version, anew::int, build), ';')
    FROM everlog_subscription WHERE subscription = ?)"""
_INLINE_PIN = "(SELECT position || ' ' || inline FROM everlog_log WHERE %s <> '')"
# One statement, and so one moment.
_PINNED = f"""SELECT {{pin}}, f.tenant, f.key, f.state, f.position
    FROM (SELECT 1) AS once LEFT JOIN ({_LOAD_MANY}) f ON true"""


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
        values = (*_arrays(wanted), projection, version)

        def ask(connection: Connection) -> list[Any]:
            # Not prepared: a plan that was made when there were few states would read all of them for every page.
            return connection.execute(_LOAD_MANY, values, binary=True, prepare=False).fetchall()

        return self._connections.asked(ask)

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None:
        for part in _parts({state[:2]: state for state in states}.values()):
            tenants, keys, bodies, positions = zip(*part, strict=True)
            arrays = texts(tenants), texts([kept(key) for key in keys]), blobs(bodies), int8s(positions)
            effects.connection.execute(_STORE_MANY, (projection, version, *arrays))

    def delete(self, effects: Effects, projection: str, version: int, keys: Iterable[FoldKey]) -> None:
        effects.connection.execute(_DELETE, (*_arrays(keys), projection, version))

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        effects.execute("DELETE FROM everlog_fold WHERE projection = ? AND version = ?", (projection, version))

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        after = ("", "")
        only, values = ("", ()) if tenant is None else ("AND tenant = ?", (tenant,))
        sql = f"""SELECT tenant, key, state, position FROM everlog_fold
            WHERE projection = ? AND version = ? AND (tenant, key) > (?, ?) {only}
            ORDER BY tenant, key LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (projection, version, *after, *values), tenant=tenant):
            yield from map(_given, page)
            after = page[-1][:2]

    def keys(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldKey]:
        after = ("", "")
        only, values = ("", ()) if tenant is None else ("AND tenant = ?", (tenant,))
        sql = f"""SELECT tenant, key FROM everlog_fold
            WHERE projection = ? AND version = ? AND (tenant, key) > (?, ?) {only}
            ORDER BY tenant, key LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (projection, version, *after, *values), tenant=tenant):
            yield from (FoldKey(row[0], given(row[1])) for row in page)
            after = page[-1]

    def pinned(
        self, projection: str, version: int, keys: Sequence[FoldKey], *, subscription: str = "", inline: bool = False
    ) -> PinnedStates:
        statement = _PINNED.format(pin=_INLINE_PIN if inline else PIN.replace("?", "%s"))
        values = (subscription or projection, *_arrays(keys), projection, version)

        def ask(connection: Connection) -> list[Any]:
            return connection.execute(statement, values, binary=True, prepare=False).fetchall()

        rows = self._connections.asked(ask)
        pin = (inline_pin if inline else pin_of)(subscription or projection, rows[0][0])
        states = [_given(row[1:]) for row in rows if row[1] is not None]
        return PinnedStates(pin, {FoldKey(state.tenant, state.key): state for state in states})

    def mend_inline(self, projection: str, version: int, mend: Callable[[int], Mended]) -> None:
        with translated(), self._connections.transaction() as connection:
            [(position,)] = connection.execute("SELECT position FROM everlog_log FOR UPDATE").fetchall()
            states, gone = mend(position)
            effects = PostgresEffects(connection)
            self.store(effects, projection, version, states)
            self.delete(effects, projection, version, gone)


def _arrays(keys: Iterable[FoldKey]) -> tuple[TextArray, TextArray]:
    wanted = list(keys)
    return texts([key.tenant for key in wanted]), texts([kept(key.key) for key in wanted])


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
