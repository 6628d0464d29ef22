"""How much of the log a projection had taken in when its rows were read, told in the same moment as the rows.

Effect and checkpoint commit together, so rows and checkpoint read by one statement say exactly: folded up to here.
"""

from dataclasses import dataclass
from typing import NamedTuple

from everlog.core.errors import NotFound, StoreUnavailable
from everlog.store.inline import versions_in
from everlog.subscription.partition import Slice


class Reached(NamedTuple):
    """One partition: all events of its keys up to `position`. `until` is -1 where it has no end."""

    part: int
    parts: int
    position: int
    until: int
    version: int
    anew: int
    build: int

    def holds(self, key: str) -> bool:
        return Slice(self.part, self.parts).holds(key)


@dataclass(frozen=True, slots=True)
class Pin:
    """A position for each partition."""

    partitions: tuple[Reached, ...]

    @property
    def last(self) -> int:
        """No event behind this is."""
        return max(one.position for one in self.partitions)

    @property
    def parts(self) -> int:
        return self.partitions[0].parts

    @property
    def build(self) -> int:
        """Under which number the states are kept."""
        return self.partitions[0].build

    def position_of(self, key: str) -> int:
        """How far the partition is that this key belongs to."""
        return next(one.position for one in self.partitions if one.holds(key))

    def check(self, name: str, version: int) -> None:
        """Raises where the rows cannot be what `version` makes of the log up to here."""
        other = {one.version for one in self.partitions} - {version}
        if other:
            raise StoreUnavailable(f"{name!r} is run as version {other.pop()}, not {version}: start a worker with it")
        if any(one.anew for one in self.partitions):
            raise StoreUnavailable(f"{name!r} was sent back and has not begun anew: let a worker run it first")
        if any(one.until >= 0 for one in self.partitions):
            raise StoreUnavailable(f"{name!r} is being divided: verify it once its earlier partitions have ended")


def pin_of(name: str, told: str | None) -> Pin:
    """From the text a store gives: numbers apart by spaces, partitions by `;`. Raises `NotFound` where it is empty."""
    if not told:
        raise NotFound(f"{name!r} never ran on this log: start a worker first")
    return Pin(tuple(Reached(*map(int, one.split())) for one in told.split(";")))


def inline_pin(name: str, told: str) -> Pin:
    """Of an inline projection, which is always at the head: from its position, and the versions in force."""
    position, _, in_force = told.partition(" ")
    version = versions_in(in_force).get(name)
    if version is None:
        raise NotFound(f"{name!r} is not in force on this log: open the platform first")
    return Pin((Reached(0, 1, int(position), -1, version, 0, version),))
