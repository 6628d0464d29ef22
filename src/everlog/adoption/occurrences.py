"""How often a row was there before, counted on disk, so that ten million rows need no more memory than ten."""

import sqlite3

from everlog.core.errors import StoreUnavailable

_COUNT = "INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"


class Occurrences:
    """A table in a temporary file that SQLite deletes by itself, even after a kill."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA cache_size=-65536")
        self._connection.execute("CREATE TABLE seen (row BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def count(self, row: bytes) -> int:
        """1 for the first time this row comes by, 2 for the second."""
        try:
            times: int = self._connection.execute(_COUNT, (row,)).fetchone()[0]
        except sqlite3.Error as error:
            raise StoreUnavailable(
                f"the temporary table of rows cannot grow ({error}): make room, or point SQLITE_TMPDIR to a larger disk"
            ) from error
        return times

    def close(self) -> None:
        self._connection.close()
