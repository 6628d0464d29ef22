"""`FoldStates` on the log's own file."""

from collections.abc import Iterable, Iterator, Mapping

from everlog.adapters.sqlite.connections import Connections
from everlog.core.envelope import FoldKey, FoldState
from everlog.subscription.contract import Effects

_PAGE = 500
STORE = """INSERT INTO everlog_fold VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (projection, version, tenant, key) DO UPDATE SET state = excluded.state, position = excluded.position"""


class SqliteFoldStates:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def load(self, projection: str, version: int, keys: Iterable[FoldKey]) -> Mapping[FoldKey, FoldState]:
        wanted = list(keys)
        found: dict[FoldKey, FoldState] = {}
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            pairs = ", ".join(["(?, ?)"] * len(page))
            sql = f"""SELECT tenant, key, state, position FROM everlog_fold
                WHERE projection = ? AND version = ? AND (tenant, key) IN (VALUES {pairs})"""
            values = [projection, version, *(part for key in page for part in key)]
            found.update((FoldKey(row[0], row[1]), FoldState(*row)) for row in self._connections.rows(sql, values))
        return found

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None:
        effects.connection.executemany(STORE, [(projection, version, *state) for state in states])

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        effects.execute("DELETE FROM everlog_fold WHERE projection = ? AND version = ?", (projection, version))

    def keep_only(self, effects: Effects, projection: str, version: int) -> None:
        effects.execute("DELETE FROM everlog_fold WHERE projection = ? AND version <> ?", (projection, version))

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        after = ("", "")
        sql = f"""SELECT tenant, key, state, position FROM everlog_fold
            WHERE projection = ? AND version = ? AND (tenant, key) > (?, ?) AND (? IS NULL OR tenant = ?)
            ORDER BY tenant, key LIMIT {_PAGE}"""
        while page := self._connections.rows(sql, (projection, version, *after, tenant, tenant)):
            yield from map(FoldState._make, page)
            after = page[-1][:2]
