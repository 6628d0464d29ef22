"""Inline folds inside a group of appends, and putting one in force."""

import os
import sqlite3
from collections.abc import Sequence

import msgspec

from everlog.adapters.sqlite.connections import Connections
from everlog.adapters.sqlite.folds import STORE
from everlog.adapters.sqlite.translate import translated
from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.core.errors import Misconfigured
from everlog.store.contract import Inline, Store
from everlog.store.query import Filter

NO_INLINE = "{}"

_PAGE = 1000
_BUILDING = "~"  # in no name of a projection
_PUT_AWAY = "DELETE FROM everlog_fold WHERE projection = ? AND version = ?"
_PUT_THERE = "UPDATE everlog_fold SET projection = ?1 WHERE projection = ?1 || ?3 AND version = ?2"
_CLEAN_UP = "DELETE FROM everlog_fold WHERE projection > ?1 || ?3 AND projection < ?1 || ?3 || '~' AND version = ?2"
_SELECT = "SELECT state FROM everlog_fold WHERE projection = ? AND version = ? AND tenant = ? AND key = ?"
_decode = msgspec.json.Decoder(dict[str, int]).decode


class InlineStates:
    """The states of one transaction: read through what earlier requests of the group changed, written with the rows."""

    def __init__(
        self, connection: sqlite3.Connection, inline: Inline | None, in_force: str, building: str = ""
    ) -> None:
        wanted = _decode(in_force)
        known = {} if inline is None else inline.versions
        missing = [f"{name} v{version}" for name, version in wanted.items() if known.get(name) != version]
        if inline is None or missing:
            raise Misconfigured(
                f"appends to this log keep inline projections that this process lacks ({', '.join(missing)}): "
                "open it with the platform that declares them"
            )
        self._connection, self._inline, self._versions, self._building = connection, inline, wanted, building
        self._changed: dict[tuple[str, FoldKey], FoldState] = {}

    def change(self, events: Sequence[StoredEvent]) -> None:
        """Fold one request's events; raises `SubscriptionFailed` and changes nothing when a fold cannot take one."""
        for name, states in self._inline(events, self._load).items():
            if name in self._versions:
                self._changed.update(((name, FoldKey(state.tenant, state.key)), state) for state in states)

    def write(self) -> None:
        rows = [(name + self._building, self._versions[name], *state) for (name, _), state in self._changed.items()]
        self._connection.executemany(STORE, rows)

    def _load(self, name: str, key: FoldKey) -> bytes | None:
        changed = self._changed.get((name, key))
        if changed is not None:
            return changed.state
        version = self._versions.get(name, self._inline.versions[name])
        found = self._connection.execute(_SELECT, (name + self._building, version, *key)).fetchone()
        return None if found is None else found[0]


def put_in_force(connections: Connections, store: Store, inline: Inline) -> None:
    """Fold what is stored, most of it without the lock, the rest with it; every append goes on from there.

    The states are built under a name nobody reads, because another process may be building the same at this moment.
    """
    if inline.versions.items() <= _decode(connections.rows("SELECT inline FROM everlog_log")[0][0]).items():
        return
    building = f"{_BUILDING}{os.urandom(8).hex()}"
    reached = _fold_stored(connections, store, inline, building)
    with translated(), connections.committing() as connection:
        in_force = _decode(connection.execute("SELECT inline FROM everlog_log").fetchone()[0])
        if not inline.versions.items() <= in_force.items():
            _fold(connection, inline, [*store.read(Filter(None), after=reached)], building)
            connection.executemany(_PUT_AWAY, inline.versions.items())
            connection.executemany(_PUT_THERE, [(*one, building) for one in inline.versions.items()])
            together = msgspec.json.encode(in_force | dict(inline.versions), order="sorted").decode()
            connection.execute("UPDATE everlog_log SET inline = ?", (together,))
        # Whoever builds the same version still finds it in force at the end; what was killed on the way goes too.
        connection.executemany(_CLEAN_UP, [(*one, _BUILDING) for one in inline.versions.items()])


def _fold_stored(connections: Connections, store: Store, inline: Inline, building: str) -> int:
    after, head = 0, store.head().position
    while page := list(store.read(Filter(None), after=after, upto=head, limit=_PAGE)):
        with translated(), connections.committing() as connection:
            _fold(connection, inline, page, building)
        after = page[-1].position
    return head


def _fold(connection: sqlite3.Connection, inline: Inline, events: Sequence[StoredEvent], building: str) -> None:
    states = InlineStates(connection, inline, msgspec.json.encode(dict(inline.versions)).decode(), building)
    if events:
        states.change(events)
        states.write()
