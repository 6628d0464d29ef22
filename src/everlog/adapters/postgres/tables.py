"""The tables of SQL projections in one schema: which columns they have, and what tells their rows apart."""

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.folds import PIN
from everlog.projection.contract import TableShape
from everlog.projection.tables import SqlTables, quoted

# A number that a sequence hands out is another one when the same rows are made once more.
_COLUMNS = """
    SELECT n.nspname, a.attname, a.attgenerated <> '',
        a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false),
        coalesce(array_position(i.indkey::smallint[], a.attnum) + 1, 0)  -- counted from 0
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped AND (? = '' OR n.nspname = ?)
    ORDER BY a.attnum"""


def postgres_tables(connections: Connections, schema: str = "") -> SqlTables:
    """Of `schema` only, or wherever a name without one leads."""
    return SqlTables(connections.rows, PIN, lambda table: _shape(connections, table, schema))


def _shape(connections: Connections, table: str, schema: str) -> TableShape | None:
    found = connections.rows(_COLUMNS, (quoted(table.lower()), schema, schema))
    if not found:
        return None
    place = f"{quoted(found[0][0])}.{quoted(table.lower())}"
    handed_out = {name for _, name, _, numbered, _ in found if numbered}
    columns = [name for _, name, *_ in found if name not in handed_out]
    key = [name for *_, at, name in sorted((at, name) for _, name, _, _, at in found if at)]
    if handed_out.intersection(key):
        key = []
    written = [name for _, name, generated, _, _ in found if name in columns and not generated]
    whole = f'(ROW({", ".join(map(quoted, columns))})::text COLLATE "C")'
    return TableShape(table, place, tuple(columns), tuple(key), tuple(written), whole, "(array_agg({}))[1]")
