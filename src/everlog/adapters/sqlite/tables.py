"""The tables of SQL projections in a file of ours: which columns they have, and what tells their rows apart."""

from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.folds import PIN
from everlog.projection.contract import TableShape
from everlog.projection.tables import SqlTables, quoted

_COLUMNS = "SELECT name, pk, hidden FROM pragma_table_xinfo(?, 'main') WHERE hidden <> 1 ORDER BY cid"
_GENERATED = (2, 3)


def sqlite_tables(connections: Connections) -> SqlTables:
    return SqlTables(connections.rows, PIN, lambda table: _shape(connections, table))


def _shape(connections: Connections, table: str) -> TableShape | None:
    columns = connections.rows(_COLUMNS, (table,))
    if not columns:
        return None
    names = [name for name, _, _ in columns]
    place = f"main.{quoted(table)}"
    key = [name for _, name in sorted((pk, name) for name, pk, _ in columns if pk)]
    # SQLite lets a key be NULL, which no comparison finds.
    nulls = " OR ".join([f"{quoted(name)} IS NULL" for name in key])
    if key and connections.rows(f"SELECT 1 FROM {place} WHERE {nulls} LIMIT 1"):
        key = []
    whole = " || ',' || ".join([f"quote({quoted(name)})" for name in names])
    written = [name for name, _, hidden in columns if hidden not in _GENERATED]
    return TableShape(table, place, tuple(names), tuple(key), tuple(written), whole)
