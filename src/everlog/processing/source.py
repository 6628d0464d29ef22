"""Where the events of a processor come from, as far as it makes a difference: what is read again, what must be kept."""

from collections.abc import Sequence
from typing import Protocol

from everlog.core.envelope import StoredEvent
from everlog.store.contract import Store
from everlog.store.query import Filter
from everlog.subscription.contract import Claim, Effects

LATE = (
    "it came after later events were handled: the broker's copy had a hole that was filled since; "
    "retry handles it now, out of order, skip passes it over"
)
"""Why a lane holds an event that nobody has tried."""


class Source(Protocol):
    """The log, or a broker that holds a copy of it."""

    def begin(self, claim: Claim) -> None:
        """A new ownership: forget what was in hand in an earlier one."""
        ...

    def stored(self, position: int) -> StoredEvent:
        """An event that lies in a lane."""
        ...

    def late(self) -> Sequence[StoredEvent]:
        """Events in hand that belong before others which are done."""
        ...

    def settle(self, effects: Effects, *, handled: Sequence[int], parked: Sequence[int], upto: int) -> None:
        """What became of the events in hand up to this position, and of the late ones, in the transaction that says
        so. Of those named in neither nobody will ask."""
        ...

    def extend(self) -> None:
        """Handlers are still at work on what is in hand."""
        ...


class FromLog:
    """The log knows its events, and a checkpoint says which of them are done: there is nothing to keep."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, claim: Claim) -> None: ...

    def stored(self, position: int) -> StoredEvent:
        return next(self._store.read(Filter(None), after=position - 1, upto=position))

    def late(self) -> Sequence[StoredEvent]:
        return ()

    def settle(self, effects: Effects, *, handled: Sequence[int], parked: Sequence[int], upto: int) -> None: ...

    def extend(self) -> None: ...
