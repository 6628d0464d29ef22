"""Inline folds inside a group of appends: read through what earlier requests changed, written with the rows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.core.errors import Misconfigured
from everlog.store.contract import Inline

NO_INLINE = "{}"
"""What the head row holds where no inline projection is in force."""

_decode = msgspec.json.Decoder(dict[str, int]).decode


class StateKey(NamedTuple):
    """One state of one version of a projection."""

    projection: str
    version: int
    tenant: str
    key: str


class States(Protocol):
    """The stored states, in the transaction of the group."""

    def load(self, key: StateKey) -> bytes | None: ...

    def store(self, states: Sequence[tuple[StateKey, FoldState]]) -> None: ...


class InlineStates:
    """The states of one transaction. `suffix` keeps those of a projection that is still being built from readers."""

    def __init__(self, states: States, inline: Inline | None, in_force: str, suffix: str = "") -> None:
        wanted = versions_in(in_force)
        known = {} if inline is None else inline.versions
        missing = [f"{name} v{version}" for name, version in wanted.items() if known.get(name) != version]
        if inline is None or missing:
            raise Misconfigured(
                f"appends to this log keep inline projections that this process lacks ({', '.join(missing)}): "
                "open it with the platform that declares them"
            )
        self._states, self._inline, self._versions, self._suffix = states, inline, wanted, suffix
        self._changed: dict[tuple[str, FoldKey], FoldState] = {}

    def change(self, events: Sequence[StoredEvent]) -> None:
        """Fold one request's events; raises `SubscriptionFailed` and changes nothing when a fold cannot take one."""
        for name, states in self._inline(events, self._load).items():
            if name in self._versions:
                self._changed.update(((name, FoldKey(state.tenant, state.key)), state) for state in states)

    def write(self) -> None:
        self._states.store([(self._key(name, key), state) for (name, key), state in self._changed.items()])

    def _load(self, name: str, key: FoldKey) -> bytes | None:
        changed = self._changed.get((name, key))
        return self._states.load(self._key(name, key)) if changed is None else changed.state

    def _key(self, name: str, key: FoldKey) -> StateKey:
        version = self._versions.get(name, self._inline.versions[name])
        return StateKey(name + self._suffix, version, *key)


def versions_in(in_force: str) -> dict[str, int]:
    """The projections in force and their versions, from the text of the head row."""
    return _decode(in_force)


def in_force_with(in_force: str, versions: Mapping[str, int]) -> str:
    """The head row's text once these are in force too."""
    return msgspec.json.encode(versions_in(in_force) | dict(versions), order="sorted").decode()
