"""Where inline folds keep their states on PostgreSQL, and how one is put in force."""

import os
from collections.abc import Sequence

from psycopg import Connection

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.folds import STORE
from everlog.adapters.postgres.nul import kept
from everlog.adapters.postgres.translate import translated
from everlog.core.envelope import FoldState, StoredEvent
from everlog.store.contract import Inline, Store
from everlog.store.inline import NO_INLINE, InlineStates, StateKey, in_force_with, versions_in
from everlog.store.query import Filter

_PAGE = 1000
_BUILDING = "~"  # in no name of a projection
_SELECT = "SELECT state FROM everlog_fold WHERE projection = %s AND version = %s AND tenant = %s AND key = %s"
_PUT_AWAY = "DELETE FROM everlog_fold WHERE projection = %s AND version = %s"
_PUT_THERE = "UPDATE everlog_fold SET projection = %s WHERE projection = %s AND version = %s"
_CLEAN_UP = "DELETE FROM everlog_fold WHERE projection > %s AND projection < %s AND version = %s"


class PostgresStates:
    """The stored states, as an append's own transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load(self, key: StateKey) -> bytes | None:
        found = self._connection.execute(_SELECT, key._replace(key=kept(key.key)), binary=True).fetchone()
        return None if found is None else bytes(found[0])

    def store(self, states: Sequence[tuple[StateKey, FoldState]]) -> None:
        if states:
            rows = [(key.projection, key.version, *state._replace(key=kept(state.key))) for key, state in states]
            self._connection.cursor().executemany(STORE, rows)


def put_in_force(connections: Connections, store: Store, inline: Inline) -> None:
    """Fold what is stored, most of it without the lock, the rest with it; every append goes on from there.

    The states are built under a name nobody reads, because another process may be building the same at this moment.
    """
    if inline.versions.items() <= versions_in(connections.rows("SELECT inline FROM everlog_log")[0][0]).items():
        return
    building = f"{_BUILDING}{os.urandom(8).hex()}"
    reached = _fold_stored(connections, store, inline, building)
    with translated(), connections.transaction() as connection:
        [(in_force,)] = connection.execute("SELECT inline FROM everlog_log FOR UPDATE").fetchall()
        if not inline.versions.items() <= versions_in(in_force).items():
            _fold(connection, inline, [*store.read(Filter(None), after=reached)], building)
            for name, version in inline.versions.items():
                connection.execute(_PUT_AWAY, (name, version))
                connection.execute(_PUT_THERE, (name, name + building, version))
            connection.execute("UPDATE everlog_log SET inline = %s", (in_force_with(in_force, inline.versions),))
        # Whoever builds the same version still finds it in force at the end; what was killed on the way goes too.
        for name, version in inline.versions.items():
            connection.execute(_CLEAN_UP, (name + _BUILDING, name + _BUILDING + "~", version))


def _fold_stored(connections: Connections, store: Store, inline: Inline, building: str) -> int:
    """Up to a head that moves on meanwhile, so that little is left to do under the lock; gives the last position."""
    after = 0
    while page := list(store.read(Filter(None), after=after, limit=_PAGE)):
        with translated(), connections.transaction() as connection:
            _fold(connection, inline, page, building)
        after = page[-1].position
        if store.head().position - after < _PAGE:
            break
    return after


def _fold(connection: Connection, inline: Inline, events: Sequence[StoredEvent], building: str) -> None:
    states = InlineStates(PostgresStates(connection), inline, in_force_with(NO_INLINE, inline.versions), building)
    if events:
        states.change(events)
        states.write()
