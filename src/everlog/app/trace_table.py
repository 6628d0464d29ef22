"""Which events a row of a table comes from: the projection is run once more, and the row is looked at after each event.

Only the projection's own statements tell, so this costs a query an event; it is done for rows that differ.
"""

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from everlog.domain.recorded import Recorded
from everlog.projection.contract import TableRow, TableShape
from everlog.projection.sql import SqlProjection
from everlog.projection.tables import SqlTables
from everlog.projection.verify import Behind
from everlog.subscription.contract import Effects

Row = tuple[str, tuple[object, ...]]
"""A table's name, and the key of one of its rows."""
Apply = Callable[[Recorded[Any], Effects], None]


class RowTrace:
    """Watches rows, each up to a position, and keeps the last `most` events that changed it.

    `stale` are those that were once as they are `stored`, before later events changed them.
    """

    def __init__(
        self, stored: Mapping[Row, TableRow], upto: Mapping[Row, int], shape: Callable[[str], TableShape], most: int
    ) -> None:
        self.behind = {row: Behind(position, deque(maxlen=most)) for row, position in upto.items()}
        self.stale: set[Row] = set()
        self._stored = stored
        self._keys = {table: [key for name, key in upto if name == table] for table, _ in upto}
        self._shape, self._shapes, self._seen = shape, dict[str, TableShape](), dict[Row, TableRow]()

    def watched(self, projection: SqlProjection) -> SqlProjection:
        """The same projection, under watch."""
        under_watch = copy.copy(projection)
        under_watch.steps = {name: (event, self._watching(apply)) for name, (event, apply) in projection.steps.items()}
        return under_watch

    def _watching(self, apply: Apply) -> Apply:
        def watched(event: Recorded[Any], tx: Effects) -> None:
            apply(event, tx)
            for table, keys in self._keys.items():
                self._look(event.position, table, keys, tx)

        return watched

    def _look(self, position: int, table: str, keys: Sequence[tuple[object, ...]], tx: Effects) -> None:
        shape = self._shapes.get(table) or self._shapes.setdefault(table, self._shape(table))
        now = {row.key: row for row in SqlTables(tx.execute, "", lambda name: shape).rows(shape, keys)}
        for key in keys:
            row, found = (table, key), now.get(key)
            if found != self._seen.get(row):
                self.behind[row].add(position)
            if found is None:
                self._seen.pop(row, None)
            else:
                self._seen[row] = found
            if found == self._stored[row]:
                self.stale.add(row)
