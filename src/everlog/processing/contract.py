"""What processors need of a database beside `Checkpoints`: lanes, attempts and the inbox."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from everlog.core.envelope import StoredEvent
from everlog.subscription.contract import Effects
from everlog.subscription.partition import ALL_KEYS, Slice

LaneStatus = Literal["retrying", "parked", "waiting"]


class Lane(NamedTuple):
    """One failing key: its events lie behind it as positions, in order.

    `retrying` lanes are tried at `next_at` (microseconds), `parked` ones wait for a person,
    `waiting` ones for the canary.
    """

    processor: str
    key: str
    status: LaneStatus
    attempts: int
    next_at: int
    error: str
    since: int
    first: int
    depth: int


@dataclass(frozen=True, slots=True)
class LaneFilter:
    """Which lanes a person means; `None` asks nothing."""

    processor: str
    key: str | None = None
    tenant: str | None = None
    error: str | None = None
    """A text the error holds."""


class Lanes(Protocol):
    """Lanes of all processors. What takes `effects` is part of a subscription's transaction, and so fenced."""

    def open(self, processor: str, keys: Iterable[str]) -> set[str]:
        """Which of these keys have a lane."""
        ...

    def due(self, processor: str, now: int, limit: int, keys: Slice = ALL_KEYS) -> list[Lane]:
        """Lanes of these keys to try now, the longest due first."""
        ...

    def positions(self, processor: str, key: str, limit: int) -> list[int]:
        """The first events of a lane, in order."""
        ...

    def totals(self, processor: str) -> tuple[int, int]:
        """How many lanes, and how many events lie in them."""
        ...

    def find(self, where: LaneFilter) -> Iterator[Lane]: ...

    def park(self, effects: Effects, processor: str, key: str, positions: Sequence[int]) -> None:
        """Put events behind a lane; if a person closed it meanwhile it opens again, due at once, so none is lost."""
        ...

    def set(
        self, effects: Effects, processor: str, key: str, status: LaneStatus, attempts: int, next_at: int, error: str
    ) -> None:
        """Open a lane, or say how it stands; those that wait for it follow when it is parked."""
        ...

    def begin(self, effects: Effects, processor: str, key: str, position: int) -> int:
        """Count one more attempt on a lane that begins with this event, and say which it is.

        0 when there is nothing to try: by now a person took the event away, or made the lane wait.
        """
        ...

    def failed(
        self,
        effects: Effects,
        processor: str,
        key: str,
        attempt: int,
        *,
        status: LaneStatus,
        attempts: int,
        next_at: int,
        error: str,
    ) -> bool:
        """As `set`, once the attempt that `begin` counted went wrong.

        False, and nothing happens, when a person asked for something else meanwhile: that deserves an attempt of its
        own.
        """
        ...

    def done(self, effects: Effects, processor: str, key: str, position: int) -> bool:
        """Take one handled event away; the one behind it has all its attempts.

        True when the lane is empty and closed, and those that wait for it are due.
        """
        ...

    def retry(self, where: LaneFilter, *, canary: bool) -> int:
        """Ask for lanes to be tried again, and say how many; with `canary` the first alone, the others after it."""
        ...

    def skip(self, processor: str, key: str, position: int) -> None:
        """Take the first event of a parked lane away for ever and let the rest be tried.

        Raises `NotFound` when there is no such lane, and `InvalidInput` while it is being tried, or when another event
        than the one at `position` is its first by now.
        """
        ...


class Marks(Protocol):
    """What a handler was about to do, committed before it does it, so that a crash counts; of one partition each."""

    def mark(self, effects: Effects, partition: str, upto: int) -> None:
        """Events up to here may have been begun."""
        ...

    def marked(self, partition: str) -> int: ...

    def attempt(self, effects: Effects, partition: str, position: int) -> int:
        """Count one more attempt on one event, and say which it is."""
        ...

    def clear(self, effects: Effects, partition: str, upto: int) -> None:
        """Forget the attempts up to a checkpoint."""
        ...


class Inbox(Protocol):
    """Which events a consumer has taken into this database; one row each, in the transaction of the effect."""

    def first(self, effects: Effects, consumer: str, incarnation: int, position: int, part: int) -> bool:
        """True the first time; false when the effect is there already."""
        ...

    def known(self, consumer: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        """At which of these positions events were settled as a whole, by `remember` or from `Received`."""
        ...

    def remember(self, effects: Effects, consumer: str, incarnation: int, positions: Sequence[int]) -> None:
        """These events are settled, with all their parts: who is given one again may drop it."""
        ...


ALL_PARTS = -1
"""The part under which the inbox knows a stored event that is settled, whatever an upcaster makes of it."""


_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(StoredEvent)


def packed(event: StoredEvent) -> bytes:
    """As `Received` keeps it, in every store."""
    return _pack.encode(event)


def unpacked(raw: bytes) -> StoredEvent:
    return _unpack.decode(raw)


class Received(Protocol):
    """Events from a broker that lie in lanes: whoever works these off may not see the log they come from.

    An event goes into the inbox as a lane lets it go, handled or skipped.
    """

    def keep(self, effects: Effects, processor: str, incarnation: int, events: Sequence[StoredEvent]) -> None:
        """Those that are kept already stay as they are."""
        ...

    def find(self, processor: str, incarnation: int, positions: Sequence[int]) -> set[int]:
        """At which of these positions events of this incarnation are kept."""
        ...

    def get(self, processor: str, position: int) -> StoredEvent | None: ...


class Feed(NamedTuple):
    """How far a partition came in a broker's stream, as of the commit that moved its checkpoint to `position`.

    `source` and `incarnation` name the log the messages are of, `stream` and `created` the life of the broker's
    stream that `sequence` counts in; `read` is the position of the event in that message, -1 if it held none. Up to
    `floor` everything counts as handled, whether or not the inbox knows it. Up to `shared` what earlier incarnations
    sent is what this one has there, because a person said so.
    """

    source: str
    incarnation: int
    stream: str
    created: int
    sequence: int
    read: int
    position: int
    floor: int
    shared: int = 0


FEED = ", ".join(Feed._fields)
"""Its columns, in both stores."""


class Feeds(Protocol):
    """One row for each partition that is fed by a broker."""

    def get(self, partition: str) -> Feed | None: ...

    def put(self, effects: Effects, partition: str, feed: Feed) -> None: ...

    def accept(self, processor: str, source: str, incarnation: int, shared: int) -> None:
        """What a person says of a log that began anew: up to `shared` it is what was known before.

        Each partition of the processor goes back to there, under a new epoch, or stays where it is, if that is before.
        What the inbox and `Received` know up to there they know of the new incarnation too, in the same transaction;
        where `source` is another than before, nothing of what lies behind.
        """
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """All that processors keep, in one place."""

    lanes: Lanes
    marks: Marks
    inbox: Inbox
    received: Received
    feeds: Feeds
