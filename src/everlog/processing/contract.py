"""What processors need of a database beside `Checkpoints`: lanes, attempts and the inbox."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from everlog.subscription.contract import Effects

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

    def due(self, processor: str, now: int, limit: int) -> list[Lane]:
        """Lanes to try now, the longest due first."""
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
    """What a handler was about to do, committed before it does it, so that a crash counts."""

    def mark(self, effects: Effects, processor: str, upto: int) -> None:
        """Events up to here may have been begun."""
        ...

    def marked(self, processor: str) -> int: ...

    def attempt(self, effects: Effects, processor: str, position: int) -> int:
        """Count one more attempt on one event, and say which it is."""
        ...

    def clear(self, effects: Effects, processor: str, upto: int) -> None:
        """Forget the attempts up to a checkpoint."""
        ...


class Inbox(Protocol):
    """Which events a consumer has taken into this database; one row each, in the transaction of the effect."""

    def first(self, effects: Effects, consumer: str, incarnation: int, position: int, part: int) -> bool:
        """True the first time; false when the effect is there already."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """All that processors keep, in one place."""

    lanes: Lanes
    marks: Marks
    inbox: Inbox
