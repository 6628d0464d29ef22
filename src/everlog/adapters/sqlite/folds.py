"""`FoldStates` on the log's own file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.translate import translated
from everlog.core.envelope import FoldKey, FoldState
from everlog.projection.contract import Mended, PinnedStates
from everlog.projection.pin import inline_pin, pin_of
from everlog.subscription.contract import Effects

_PAGE = 500
STORE = """INSERT INTO everlog_fold VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (projection, version, tenant, key) DO UPDATE SET state = excluded.state, position = excluded.position"""

_DELETE = "DELETE FROM everlog_fold WHERE projection = ? AND version = ? AND tenant = ? AND key = ?"
PIN = """(SELECT group_concat(part || ' ' || parts || ' ' || position || ' ' || coalesce(until, -1) || ' ' || version
    || ' ' || anew || ' ' || build, ';') FROM everlog_subscription WHERE subscription = ?)"""
_INLINE_PIN = "(SELECT position || ' ' || inline FROM everlog_log WHERE ? <> '')"


class SqliteFoldStates:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def load(self, projection: str, version: int, keys: Iterable[FoldKey]) -> Mapping[FoldKey, FoldState]:
        wanted = list(keys)
        found: dict[FoldKey, FoldState] = {}
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            values = [*(part for key in page for part in key), projection, version]
            rows = self._connections.rows(_of_keys(len(page)), values)
            found.update((FoldKey(row[0], row[1]), FoldState(*row)) for row in rows)
        return found

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None:
        effects.connection.executemany(STORE, [(projection, version, *state) for state in states])

    def delete(self, effects: Effects, projection: str, version: int, keys: Iterable[FoldKey]) -> None:
        effects.connection.executemany(_DELETE, [(projection, version, *key) for key in keys])

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        effects.execute("DELETE FROM everlog_fold WHERE projection = ? AND version = ?", (projection, version))

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        after = ("", "")
        sql = f"""SELECT tenant, key, state, position FROM everlog_fold
            WHERE projection = ? AND version = ? AND (tenant, key) > (?, ?) AND (? IS NULL OR tenant = ?)
            ORDER BY tenant, key LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (projection, version, *after, tenant, tenant)):
            yield from map(FoldState._make, page)
            after = page[-1][:2]

    def keys(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldKey]:
        after = ("", "")
        sql = f"""SELECT tenant, key FROM everlog_fold
            WHERE projection = ? AND version = ? AND (tenant, key) > (?, ?) AND (? IS NULL OR tenant = ?)
            ORDER BY tenant, key LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (projection, version, *after, tenant, tenant)):
            yield from map(FoldKey._make, page)
            after = page[-1]

    def pinned(
        self, projection: str, version: int, keys: Sequence[FoldKey], *, subscription: str = "", inline: bool = False
    ) -> PinnedStates:
        # One statement, and so one moment.
        sql = f"""SELECT {_INLINE_PIN if inline else PIN}, f.tenant, f.key, f.state, f.position
            FROM (SELECT 1) LEFT JOIN ({_of_keys(len(keys))}) f ON true"""
        values = [subscription or projection, *(part for key in keys for part in key), projection, version]
        rows = self._connections.rows(sql, values)
        pin = (inline_pin if inline else pin_of)(subscription or projection, rows[0][0])
        states = [FoldState(*row[1:]) for row in rows if row[1] is not None]
        return PinnedStates(pin, {FoldKey(state.tenant, state.key): state for state in states})

    def mend_inline(self, projection: str, version: int, mend: Callable[[int], Mended]) -> None:
        with translated(), self._connections.committing() as connection:
            [position] = connection.execute("SELECT position FROM everlog_log").fetchone()
            states, gone = mend(position)
            connection.executemany(STORE, [(projection, version, *state) for state in states])
            connection.executemany(_DELETE, [(projection, version, *key) for key in gone])


def _of_keys(count: int) -> str:
    """The states of so many keys. CROSS keeps SQLite from reading all states to see which are of these keys."""
    pairs = ", ".join(["(?, ?)"] * count) or "(NULL, NULL)"
    return f"""SELECT f.tenant, f.key, f.state, f.position FROM (VALUES {pairs}) AS wanted CROSS JOIN everlog_fold f
        ON f.projection = ? AND f.version = ? AND f.tenant = wanted.column1 AND f.key = wanted.column2"""
