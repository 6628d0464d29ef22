"""Stores the model test runs against; another one joins by a class here and its name in the test's parameters."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

from everlog.adapters.sqlite import SqliteSettings, SqliteStore, append, read, snapshots, store, streams
from everlog.core.clock import Clock
from everlog.core.envelope import StoredSnapshot
from everlog.store.contract import Store


class Backend(Protocol):
    """One empty log: how to open it (and open it again), and how to do damage behind its back."""

    def open(self, clock: Clock) -> Store: ...

    def damage(self, snapshot: StoredSnapshot) -> None:
        """Change bytes of the stored snapshot as a failing disk would."""
        ...

    def remove(self) -> None: ...


class SqliteBackend:
    """A file in memory rather than `memory:`, which is the same file but gone when the store is opened again."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(prefix="everlog-model-", dir=shared if shared.is_dir() else None)
        self._file = Path(self._folder.name, "log.db")

    def open(self, clock: Clock) -> Store:
        return SqliteStore(SqliteSettings(self._file), clock=clock)

    def damage(self, snapshot: StoredSnapshot) -> None:
        sql = """UPDATE everlog_snapshot SET state = CAST(state || x'00' AS BLOB)
            WHERE tenant = ? AND stream = ? AND fingerprint = ? AND version = ?"""
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            connection.execute(sql, snapshot[:4])

    def remove(self) -> None:
        self._folder.cleanup()


@contextmanager
def small_pages() -> Iterator[None]:
    """Pages of two or three rows, so that even the short logs of this test are read over several."""
    with ExitStack() as stack:
        for module, size, rows in (
            (read, "PAGE", 3),
            (streams, "_PAGE", 2),
            (snapshots, "_PAGE", 2),
            (append, "_LOOKUP", 2),
            (store, "_IDS", 2),
        ):
            stack.enter_context(patch.object(module, size, rows))
        yield
