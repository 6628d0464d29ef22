"""Where inline folds keep their states on SQLite, and how one is put in force."""

import os
import sqlite3
from collections.abc import Sequence

from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.folds import STORE
from everlog.adapters.sqlite.translate import translated
from everlog.core.envelope import FoldState, StoredEvent
from everlog.store.contract import Inline, Store
from everlog.store.inline import NO_INLINE, InlineStates, StateKey, in_force_with, versions_in
from everlog.store.query import Filter

_PAGE = 1000
_BUILDING = "~"  # in no name of a projection
_PUT_AWAY = "DELETE FROM everlog_fold WHERE projection = ? AND version = ?"
_PUT_THERE = "UPDATE everlog_fold SET projection = ?1 WHERE projection = ?1 || ?3 AND version = ?2"
_CLEAN_UP = "DELETE FROM everlog_fold WHERE projection > ?1 || ?3 AND projection < ?1 || ?3 || '~' AND version = ?2"
_SELECT = "SELECT state FROM everlog_fold WHERE projection = ? AND version = ? AND tenant = ? AND key = ?"


class SqliteStates:
    """The stored states, as an append's own transaction sees them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load(self, key: StateKey) -> bytes | None:
        found = self._connection.execute(_SELECT, key).fetchone()
        return None if found is None else found[0]

    def store(self, states: Sequence[tuple[StateKey, FoldState]]) -> None:
        rows = [(key.projection, key.version, *state) for key, state in states]
        self._connection.executemany(STORE, rows)


def put_in_force(connections: Connections, store: Store, inline: Inline) -> None:
    """Fold what is stored, most of it without the lock, the rest with it; every append goes on from there.

    The states are built under a name nobody reads, because another process may be building the same at this moment.
    """
    if inline.versions.items() <= versions_in(connections.rows("SELECT inline FROM everlog_log")[0][0]).items():
        return
    building = f"{_BUILDING}{os.urandom(8).hex()}"
    reached = _fold_stored(connections, store, inline, building)
    with translated(), connections.committing() as connection:
        in_force = connection.execute("SELECT inline FROM everlog_log").fetchone()[0]
        if not inline.versions.items() <= versions_in(in_force).items():
            _fold(connection, inline, [*store.read(Filter(None), after=reached)], building)
            connection.executemany(_PUT_AWAY, inline.versions.items())
            connection.executemany(_PUT_THERE, [(*one, building) for one in inline.versions.items()])
            together = in_force_with(in_force, inline.versions)
            connection.execute("UPDATE everlog_log SET inline = ?", (together,))
        # Whoever builds the same version still finds it in force at the end; what was killed on the way goes too.
        connection.executemany(_CLEAN_UP, [(*one, _BUILDING) for one in inline.versions.items()])


def _fold_stored(connections: Connections, store: Store, inline: Inline, building: str) -> int:
    """Up to a head that moves on meanwhile, so that little is left to do under the lock; gives the last position."""
    after = 0
    while page := list(store.read(Filter(None), after=after, limit=_PAGE)):
        with translated(), connections.committing() as connection:
            _fold(connection, inline, page, building)
        after = page[-1].position
        if store.head().position - after < _PAGE:
            break
    return after


def _fold(connection: sqlite3.Connection, inline: Inline, events: Sequence[StoredEvent], building: str) -> None:
    states = InlineStates(SqliteStates(connection), inline, in_force_with(NO_INLINE, inline.versions), building)
    if events:
        states.change(events)
        states.write()
