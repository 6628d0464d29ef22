"""Numbered SQL that makes the tables and changes them; each step once, also when two start at the same time."""

from importlib import resources

from psycopg import Connection
from psycopg.errors import UndefinedTable

from everlog.core.errors import IncompatibleStore, Misconfigured

_LOCK = 0x6576_6572_6C6F_67  # "everlog": held by whoever migrates, until its transaction ends

# Not to_regclass: it remembers that there was no such table, also once somebody else has made it.
_EXISTS = "SELECT count(*) FROM pg_class WHERE relname = 'everlog_log' AND pg_table_is_visible(oid)"


def steps() -> list[tuple[int, str]]:
    """The number and the SQL of every step, in order."""
    files = [file for file in resources.files("everlog.adapters.postgres.migrations").iterdir() if file.name[0] == "0"]
    return sorted((int(file.name.partition("_")[0]), file.read_text()) for file in files)


FORMAT = max(number for number, _ in steps())
"""What this everlog reads and writes."""


def migrate(connection: Connection) -> list[int]:
    """Bring the database to `FORMAT` in one transaction, and say which steps that took."""
    with connection.transaction():
        # A snapshot taken while this waits for the lock would not show what the other one has made.
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = stored_format(connection)
        _refuse_newer(found)
        taken = []
        for number, sql in steps():
            if number > found:
                connection.execute(sql, prepare=False)
                connection.execute("UPDATE everlog_log SET format = %s", (number,))
                taken.append(number)
    return taken


def check(connection: Connection) -> None:
    """Make the tables where there are none; raises `IncompatibleStore` where they are older or newer than this code."""
    found = stored_format(connection)
    if found == 0:
        migrate(connection)
        return
    _refuse_newer(found)
    if found < FORMAT:
        raise IncompatibleStore(
            f"the database has format {found}, this everlog writes {FORMAT}: run everlog store migrate"
        )


def stored_format(connection: Connection) -> int:
    """0 where there is no log."""
    if connection.execute(_EXISTS).fetchone() == (0,):
        return 0
    try:
        row = connection.execute("SELECT format FROM everlog_log").fetchone()
    except UndefinedTable:
        return 0
    if row is None:
        raise Misconfigured(
            f"there is a log, and the role {connection.info.user!r} sees none of it: make it a member of the role that "
            "everlog store migrate --engine-role prepares"
        )
    return int(row[0])


def _refuse_newer(found: int) -> None:
    if found > FORMAT:
        raise IncompatibleStore(
            f"the database has format {found}, this everlog reads up to {FORMAT}: upgrade everlog on this machine"
        )
