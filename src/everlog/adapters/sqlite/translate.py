"""The driver's errors in our words, said once."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from everlog.adapters.sqlite.connections import unavailable
from everlog.core.errors import InvalidInput


@contextmanager
def translated() -> Iterator[None]:
    """What SQLite raises inside the block leaves it as an `EverlogError`; the block must store nothing then."""
    try:
        yield
    except (sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
        raise InvalidInput(f"SQLite refused it: {error}") from error
    except sqlite3.Error as error:
        raise unavailable(error) from error
