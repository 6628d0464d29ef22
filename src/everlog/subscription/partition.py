"""Partitions of a subscription: which keys are in which, how they are named, and how they look as one."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from everlog.core.errors import InvalidInput, NotFound, StoreUnavailable
from everlog.subscription.contract import Progress, Status

MOST_PARTITIONS = 256
BUILDING, KEPT, ASIDE = "+", "-", "?"
"""End the name of a subscription that is built beside the one of that name, is kept after it, or is changing places."""
BESIDE = BUILDING + KEPT
_WORST: tuple[Status, ...] = ("failed", "stopped", "paused", "running")


@dataclass(frozen=True, slots=True)
class Slice:
    """The keys of one partition: number `part`, from 0, of `parts`."""

    part: int = 0
    parts: int = 1

    def holds(self, key: str) -> bool:
        return self.parts == 1 or key_hash(key) % self.parts == self.part


ALL_KEYS = Slice()


def key_hash(key: str) -> int:
    """The same on every machine and in every release: 0 to 2**32 - 1."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass"))


def partition_name(subscription: str, part: int, parts: int) -> str:
    """An undivided subscription is its own partition."""
    return subscription if parts == 1 else f"{subscription}/{part}of{parts}"


def first_of(name: str, partitions: Iterable[Progress]) -> Progress:
    """The first partition of a subscription that was registered just now."""
    found = next((one for one in partitions if one.subscription == name), None)
    if found is None:
        raise StoreUnavailable(f"{name!r} was swapped or canceled by somebody else at this moment: try again")
    return found


def to_divide(name: str, partitions: Sequence[Progress], parts: int) -> Progress | None:
    """What the new partitions of a subscription take over from those there are; `None` when it is divided so already.

    Raises `NotFound` and `InvalidInput`.
    """
    if not partitions:
        raise NotFound(f"there is no subscription {name!r}")
    if not 1 <= parts <= MOST_PARTITIONS:
        raise InvalidInput(f"{name!r} cannot have {parts} partitions: 1 to {MOST_PARTITIONS}")
    ending = [one for one in partitions if one.until is not None]
    if ending:
        raise InvalidInput(
            f"{name!r} is being divided: its earlier partitions go on up to position {ending[0].until}; "
            "wait until they are there"
        )
    one = as_one(partitions)[name]
    return None if one.parts == parts else replace(one, position=max(each.position for each in partitions))


def refuse_fed(name: str, fed: object) -> None:
    """Raises `InvalidInput` when a partition of it is fed by a broker, whose places are no positions of this log."""
    if fed:
        raise InvalidInput(
            f"{name!r} is fed by a broker, and keeps the partitions it began with: to have others, let it run from the "
            "log, or begin it under another name"
        )


def to_exchange(name: str, other: str, partitions: Sequence[Progress]) -> bool:
    """Whether `other` is as far as `name`, so that it may take its place. Raises `NotFound` and `InvalidInput`."""
    ours, theirs = ([one for one in partitions if one.subscription == each] for each in (name, other))
    for each, found in ((name, ours), (other, theirs)):
        if not found:
            raise NotFound(f"there is no subscription {each!r}")
        if any(one.until is not None for one in found):
            raise InvalidInput(f"{each!r} is being divided: wait until its new partitions have begun")
    if len(ours) == len(theirs):
        pairs = zip(sorted(ours, key=_by_part), sorted(theirs, key=_by_part), strict=True)
        return all(new.position >= old.position for old, new in pairs)
    return min(one.position for one in theirs) >= max(one.position for one in ours)


def as_one(partitions: Iterable[Progress]) -> dict[str, Progress]:
    """Each subscription as a whole: as far as its last partition is, as ill as its worst."""
    ordered = sorted(partitions, key=lambda one: one.subscription)
    return {name: _joined(name, list(rows)) for name, rows in groupby(ordered, lambda one: one.subscription)}


def _by_part(one: Progress) -> int:
    return one.part


def _joined(name: str, rows: list[Progress]) -> Progress:
    worst = min(rows, key=lambda one: (_WORST.index(one.status), one.position))
    return replace(
        worst,
        name=name,
        part=0,
        parts=max(one.parts for one in rows if one.until is None),
        position=min(one.position for one in rows),
        owner=", ".join(sorted({one.owner for one in rows if one.owner})),
        moved_at=max(one.moved_at for one in rows),
    )
