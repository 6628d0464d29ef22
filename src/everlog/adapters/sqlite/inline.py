"""Inline folds inside a group of appends, and putting one in force."""

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
_SELECT = "SELECT state FROM everlog_fold WHERE projection = ? AND version = ? AND tenant = ? AND key = ?"
_decode = msgspec.json.Decoder(dict[str, int]).decode


class InlineStates:
    """The states of one transaction: read through what earlier requests of the group changed, written with the rows."""

    def __init__(self, connection: sqlite3.Connection, inline: Inline | None, in_force: str) -> None:
        wanted = _decode(in_force)
        known = {} if inline is None else inline.versions
        missing = [f"{name} v{version}" for name, version in wanted.items() if known.get(name) != version]
        if inline is None or missing:
            raise Misconfigured(
                f"appends to this log keep inline projections that this process lacks ({', '.join(missing)}): "
                "open it with the platform that declares them"
            )
        self._connection, self._inline, self._versions = connection, inline, wanted
        self._changed: dict[tuple[str, FoldKey], FoldState] = {}

    def change(self, events: Sequence[StoredEvent]) -> None:
        """Fold one request's events; raises `SubscriptionFailed` and changes nothing when a fold cannot take one."""
        for name, states in self._inline(events, self._load).items():
            if name in self._versions:
                self._changed.update(((name, FoldKey(state.tenant, state.key)), state) for state in states)

    def write(self) -> None:
        rows = [(name, self._versions[name], *state) for (name, _), state in self._changed.items()]
        self._connection.executemany(STORE, rows)

    def _load(self, name: str, key: FoldKey) -> bytes | None:
        changed = self._changed.get((name, key))
        if changed is not None:
            return changed.state
        version = self._versions.get(name, self._inline.versions[name])
        found = self._connection.execute(_SELECT, (name, version, *key)).fetchone()
        return None if found is None else found[0]


def put_in_force(connections: Connections, store: Store, inline: Inline) -> None:
    """Fold what is stored, most of it without the lock, the rest with it; every append goes on from there."""
    if inline.versions.items() <= _decode(connections.rows("SELECT inline FROM everlog_log")[0][0]).items():
        return
    reached = _fold_from(connections, store, inline, 0, first=True)
    with translated(), connections.committing() as connection:
        _fold(connection, inline, [*store.read(Filter(None), after=reached)])
        in_force = _decode(connection.execute("SELECT inline FROM everlog_log").fetchone()[0])
        together = msgspec.json.encode(in_force | dict(inline.versions), order="sorted").decode()
        connection.execute("UPDATE everlog_log SET inline = ?", (together,))


def _fold_from(connections: Connections, store: Store, inline: Inline, after: int, *, first: bool) -> int:
    head = store.head().position
    while True:
        page = list(store.read(Filter(None), after=after, upto=head, limit=_PAGE))
        with translated(), connections.committing() as connection:
            if first:
                names = [(name, version) for name, version in inline.versions.items()]
                connection.executemany("DELETE FROM everlog_fold WHERE projection = ? AND version = ?", names)
                first = False
            _fold(connection, inline, page)
        if len(page) < _PAGE:
            return head
        after = page[-1].position


def _fold(connection: sqlite3.Connection, inline: Inline, events: Sequence[StoredEvent]) -> None:
    states = InlineStates(connection, inline, msgspec.json.encode(dict(inline.versions)).decode())
    if events:
        states.change(events)
        states.write()
