"""The state of one aggregate: its newest usable snapshot, and the events behind it folded through `evolve`."""

import itertools
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from everlog.core.envelope import StoredEvent, StoredSnapshot
from everlog.core.errors import EverlogError, InvalidInput, Misconfigured, UnknownEventType
from everlog.domain.codec import Codec
from everlog.domain.decider import Decider
from everlog.domain.fingerprint import fingerprint, state_codec
from everlog.domain.types import EventTypes
from everlog.store.contract import Store
from everlog.telemetry import Counters

S = TypeVar("S")

_BEGINNING = -(2**63)
NEWEST = 2**63 - 1
COMPARE_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """A state and what it rests on. `occurred_at` is the greatest one folded; version and position are 0 for none."""

    state: S
    version: int
    position: int
    occurred_at: int
    snapshot_version: int = 0

    @property
    def folded(self) -> bool:
        """Whether any event counted."""
        return self.occurred_at > _BEGINNING


class Loader(Generic[S]):
    """Loads one decider's aggregates. Thread-safe; built once with the platform."""

    def __init__(
        self,
        decider: Decider[Any, S, Any],
        types: EventTypes,
        counters: Counters,
        *,
        compare_every: int = COMPARE_EVERY,
    ) -> None:
        self.decider, self._types, self._counters = decider, types, counters
        self._wanted = frozenset(types.stored_as(decider.event_types()))
        self._current = {kind.name: kind.version for kind in types.kinds.values()}
        self._classes = {kind.name for kind in types.kinds.values() if kind.cls in decider.event_types()}
        # Without snapshots a state may be anything, JSON or not.
        self._codec: Codec[S] | None = None if decider.snapshot_every is None else state_codec(decider)
        self._fingerprint = b"" if decider.snapshot_every is None else fingerprint(decider, types)
        self._direct = types.decoders(decider.event_types())
        self._loads = itertools.count(1)
        self._compare_every = compare_every

    def load(
        self, store: Store, tenant: str, stream: str, *, version: int = NEWEST, occurred_at: int | None = None
    ) -> Loaded[S]:
        """The state after the stream's events up to `version` (that occurred by `occurred_at`, when given).

        Raises `UnreadableEvent` for an event of the decider that today's code cannot read.
        """
        snapshot = self._snapshot(store, tenant, stream, version, occurred_at)
        if snapshot is None:
            return self._replay(store, tenant, stream, version, occurred_at)
        base, found = snapshot
        events = store.read_stream(tenant, stream, after=found.version - 1, upto=version)
        first = next(events, None)
        if first is None or (first.version, first.position) != (found.version, found.position):
            self._counters.count("snapshots_unreadable")  # of another history, such as one before a restore
            return self._replay(store, tenant, stream, version, occurred_at)
        loaded = self.fold(events, base, occurred_at=occurred_at)
        if next(self._loads) % self._compare_every == 0:
            return self._compared(store, tenant, stream, loaded, occurred_at)
        return loaded

    def fold(
        self, events: Iterable[StoredEvent], base: Loaded[S] | None = None, *, occurred_at: int | None = None
    ) -> Loaded[S]:
        """`base` (default: the initial state) after `events`; one that occurred after `occurred_at` changes nothing."""
        evolve, recorded, wanted, classes = self.decider.evolve, self._types.recorded, self._wanted, self._classes
        direct = self._direct
        base = base or self.nothing()
        state, version, position, latest = base.state, base.version, base.position, base.occurred_at
        for stored in events:
            version, position = stored.version, stored.position
            if occurred_at is not None and stored.occurred_at > occurred_at:
                continue
            if stored.occurred_at > latest:
                latest = stored.occurred_at
            # Nearly every event is of today's version, and its class is all that is needed of it.
            if (decode := direct.get((stored.type, stored.schema_version))) is not None and stored.data is not None:
                try:
                    event = decode(stored.data)
                except Exception:  # told by the longer way, with its position
                    pass
                else:
                    state = evolve(state, event)
                    continue
            if (stored.type, stored.schema_version) in wanted:
                for one in recorded(stored):
                    if one.type in classes or self._types.may_become(one, classes):
                        state = evolve(state, one.data)
            elif stored.type in classes:
                self._refuse(stored)
        return Loaded(state, version, position, latest, base.snapshot_version)

    def nothing(self) -> Loaded[S]:
        return Loaded(self.decider.initial, 0, 0, _BEGINNING)

    def save_snapshot_when_due(self, store: Store, tenant: str, stream: str, loaded: Loaded[S]) -> None:
        """Every `snapshot_every` events; one that cannot be written is counted, because the events are safe."""
        every = self.decider.snapshot_every
        if every is None or self._codec is None or loaded.version // every <= loaded.snapshot_version // every:
            return
        try:
            state = self._codec.encode(loaded.state)
            store.snapshots.save(
                StoredSnapshot(
                    tenant, stream, self._fingerprint, loaded.version, loaded.position, loaded.occurred_at, state
                )
            )
            self._counters.count("snapshots_saved")
        except Exception:  # whatever the state's type or the store raises
            self._counters.count("snapshots_failed")

    def _snapshot(
        self, store: Store, tenant: str, stream: str, version: int, occurred_at: int | None
    ) -> tuple[Loaded[S], StoredSnapshot] | None:
        if self._codec is None:
            return None
        found = store.snapshots.latest(tenant, stream, self._fingerprint, version=version, occurred_at=occurred_at)
        if found is None:
            return None
        try:
            state = self._codec.decode(found.state)
        except Exception:  # whatever the state's type raises over values it does not like
            self._counters.count("snapshots_unreadable")
            return None
        return Loaded(state, found.version, found.position, found.occurred_at, found.version), found

    def _replay(self, store: Store, tenant: str, stream: str, version: int, occurred_at: int | None) -> Loaded[S]:
        return self.fold(store.read_stream(tenant, stream, upto=version), occurred_at=occurred_at)

    def _compared(
        self, store: Store, tenant: str, stream: str, loaded: Loaded[S], occurred_at: int | None
    ) -> Loaded[S]:
        self._counters.count("snapshots_compared")
        replayed = self._replay(store, tenant, stream, loaded.version, occurred_at)
        if replayed.state == loaded.state:
            return loaded
        self._counters.count("snapshots_wrong")
        with suppress(EverlogError):  # it is compared again, and the answer is right
            store.snapshots.delete(tenant, stream)
        return replayed

    def _refuse(self, stored: StoredEvent) -> None:
        """A version of a type the state depends on, which this code does not know: going on would be a wrong state."""
        raise UnknownEventType(
            stored.position, stored.type, stored.schema_version,
            f"the state of {stored.stream} depends on it, and this code knows v{self._current[stored.type]}: "
            "deploy the newer code",
        )  # fmt: skip


def check_snapshots(decider: Decider[Any, Any, Any]) -> None:
    """Raise what writing a snapshot of the initial state would raise, when the platform is built."""
    if decider.snapshot_every is None:
        return
    try:
        codec = state_codec(decider)
        back = codec.decode(codec.encode(decider.initial))
    except (InvalidInput, Misconfigured) as error:
        raise InvalidInput(str(error)) from error
    if back != decider.initial:
        raise InvalidInput(f"{decider.initial!r} comes back as {back!r}")
