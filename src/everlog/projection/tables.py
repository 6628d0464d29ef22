"""Rows of SQL projections in the order of their keys, by statements that both stores take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from everlog.core.errors import Misconfigured
from everlog.projection.contract import TableRow, TableShape
from everlog.projection.pin import Pin, pin_of
from everlog.subscription.contract import Effects

_AT_ONCE = 100


class Rows(Protocol):
    """Rows of one statement with `?` for its values."""

    def __call__(self, sql: str, values: Sequence[object], /) -> list[Any]: ...


class ShapeOf(Protocol):
    def __call__(self, table: str, /) -> TableShape | None: ...


@dataclass(frozen=True, slots=True)
class SqlTables:
    """`Tables` by SQL. `pin` is the expression that tells how far the projection named by its `?` is."""

    rows_of: Rows
    pin: str
    shape: ShapeOf

    def pinned(
        self, projection: str, shape: TableShape, after: Sequence[object] | None, most: int
    ) -> tuple[Pin, list[TableRow]]:
        sql, values = _page(shape, after, None, most)
        order = ", ".join(f"t.k{number}" for number in range(len(_keys(shape))))
        # One statement, and so one moment.
        found = self.rows_of(
            f"SELECT {self.pin}, t.* FROM (SELECT 1 AS one) AS once LEFT JOIN ({sql}) t ON true ORDER BY {order}",
            (projection, *values),
        )
        return pin_of(projection, found[0][0]), [_row(shape, row[1:]) for row in found if row[1] is not None]

    def page(
        self, shape: TableShape, after: Sequence[object] | None, upto: Sequence[object] | None, most: int
    ) -> list[TableRow]:
        return [_row(shape, row) for row in self.rows_of(*_page(shape, after, upto, most))]

    def rows(self, shape: TableShape, keys: Sequence[Sequence[object]]) -> list[TableRow]:
        return [
            _row(shape, row)
            for some in _some(keys)
            for row in self.rows_of(f"{_select(shape)} WHERE {_any_of(shape, some)} {_grouped(shape)}", _flat(some))
        ]

    def replace(
        self, effects: Effects, shape: TableShape, keys: Sequence[Sequence[object]], rows: Sequence[TableRow]
    ) -> None:
        for some in _some(keys):
            effects.execute(f"DELETE FROM {shape.place} WHERE {_any_of(shape, some)}", _flat(some))
        names = ", ".join(map(quoted, shape.written))
        insert = f"INSERT INTO {shape.place} ({names}) VALUES ({', '.join('?' * len(shape.written))})"
        places = [shape.columns.index(name) for name in shape.written]
        for row in rows:
            for _ in range(row.times):
                effects.execute(insert, [row.values[place] for place in places])


def writes_elsewhere(name: str, table: str) -> Misconfigured:
    """The error of a projection that cannot be run once more without harm."""
    return Misconfigured(
        f"{name!r} writes to {table}, which its setup does not make: that was refused, and nothing is changed; "
        "let setup make every table that it writes to"
    )


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _keys(shape: TableShape) -> list[str]:
    """What rows are found and ordered by: the key, or the whole row as text."""
    return [*map(quoted, shape.key)] or [shape.whole]


def _select(shape: TableShape) -> str:
    keys = [f"{key} AS k{number}" for number, key in enumerate(_keys(shape))]
    columns = [quoted(name) if shape.key else shape.any_of.format(quoted(name)) for name in shape.columns]
    named = [f"{column} AS c{number}" for number, column in enumerate(columns)]
    counted = "1" if shape.key else "count(*)"
    return f"SELECT {counted} AS n, {', '.join([*keys, *named])} FROM {shape.place}"


def _grouped(shape: TableShape) -> str:
    return "" if shape.key else f"GROUP BY {shape.whole}"


def _page(
    shape: TableShape, after: Sequence[object] | None, upto: Sequence[object] | None, most: int
) -> tuple[str, list[object]]:
    keys = ", ".join(_keys(shape))
    bounds = [
        (f"({keys}) {sign} ({_marks(key)})", key) for sign, key in ((">", after), ("<=", upto)) if key is not None
    ]
    where = " AND ".join([bound for bound, _ in bounds]) or "true"
    sql = f"{_select(shape)} WHERE {where} {_grouped(shape)} ORDER BY {keys} LIMIT ?"
    return sql, [*(value for _, key in bounds for value in key), most]


def _any_of(shape: TableShape, keys: Sequence[Sequence[object]]) -> str:
    one = " AND ".join([f"{key} = ?" for key in _keys(shape)])
    return " OR ".join([f"({one})"] * len(keys))


def _marks(key: Sequence[object]) -> str:
    return ", ".join("?" * len(key))


def _row(shape: TableShape, row: Sequence[Any]) -> TableRow:
    end = 1 + len(_keys(shape))
    return TableRow(tuple(row[1:end]), tuple(row[end:]), row[0])


def _some(keys: Sequence[Sequence[object]]) -> Iterator[list[Sequence[object]]]:
    following = iter(keys)
    while some := list(islice(following, _AT_ONCE)):
        yield some


def _flat(keys: Sequence[Sequence[object]]) -> list[object]:
    return [value for key in keys for value in key]
