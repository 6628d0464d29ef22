"""A disk that has not been told to sync: what is durable, what is pending, and what a power cut may leave of it.

The model, stricter than any one file system so that passing means something:

* A change of a file's content is durable once that file was fsynced after it. fsync is a barrier for its own file
  and says nothing about any other. Until then it is pending.
* A change of a directory (create, unlink, rename) is durable once that directory was fsynced after it; a rename,
  once either of its directories was. fsync of a *file* does not make its name durable: a file that was created
  and fsynced may be gone until its directory is fsynced. Directories themselves are taken to exist.
* What happens to pending changes depends on the mode:

  drop    all of them are lost.
  prefix  each file keeps the first few of its pending changes, whole and in order; so do the names, as in a journal.
  random  each pending change is lost, kept, or, if it is a write, torn: every 512-byte sector of it is kept or lost
          on its own. What is kept keeps its order. A pending create, unlink or rename is kept or undone; undoing
          one undoes the later ones of the same name, since nothing can be renamed that was never created.

* After a *failed* fsync the pending changes of that file are lost for good, and a later fsync that succeeds does not
  bring them back. Linux marks the pages clean and forgets them; a store that merely retries must be caught.
* A killed process loses nothing: its changes stay pending, and a recording may go on in the next process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal, assert_never, get_args

Mode = Literal["drop", "prefix", "random"]
MODES: tuple[Mode, ...] = get_args(Mode)

SECTOR = 512


# ---- Changes that may be pending.


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    data: bytes

    def apply(self, image: bytearray) -> None:
        if len(image) < self.offset:
            image.extend(bytes(self.offset - len(image)))
        image[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> Iterator[Write]:
        """The parts a disk writes atomically: they end where the file's sectors end, wherever the write begins."""
        begin, end = self.offset, self.offset + len(self.data)
        while begin < end:
            stop = min(end, (begin // SECTOR + 1) * SECTOR)
            yield Write(begin, self.data[begin - self.offset : stop - self.offset])
            begin = stop


@dataclass(frozen=True, slots=True)
class Resize:
    size: int
    may_shrink: bool

    def apply(self, image: bytearray) -> None:
        if self.size > len(image):
            image.extend(bytes(self.size - len(image)))
        elif self.may_shrink:
            del image[self.size :]


Change = Write | Resize


@dataclass(frozen=True, slots=True)
class Naming:
    """`old` stops naming anything and `new` names `inode`: with one of them a create or an unlink, with both a rename.

    It carries the inode because a name says too little: after unlink and create it means another file.
    """

    old: str | None
    new: str | None
    inode: int

    def names(self) -> set[str]:
        return {name for name in (self.old, self.new) if name is not None}

    def is_in(self, directory: str) -> bool:
        return any(_directory(name) == directory for name in self.names())

    def apply(self, names: dict[str, int]) -> None:
        if self.old is not None:
            names.pop(self.old, None)
        if self.new is not None:
            names[self.new] = self.inode


def _directory(name: str) -> str:
    return name.rpartition("/")[0]


# ---- The steps of a recording: changes, and what makes them durable.


@dataclass(frozen=True, slots=True)
class Changed:
    inode: int
    change: Change


@dataclass(frozen=True, slots=True)
class Synced:
    inode: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class DirectorySynced:
    directory: str


@dataclass(frozen=True, slots=True)
class Acked:
    """How many whole lines were acknowledged by now."""

    lines: int


Step = Changed | Naming | Synced | DirectorySynced | Acked


# ---- The disk.


@dataclass(slots=True)
class _File:
    image: bytearray
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.image)
        self.pending.clear()

    def after(self, kept: list[Change]) -> bytearray:
        """The content, lent until the next step: copying megabytes is most of what a state costs."""
        if not kept:
            return self.image
        image = self.image.copy()
        for change in kept:
            change.apply(image)
        return image


class Disk:
    """What is durable and what is pending after the steps so far."""

    def __init__(self, initial: Mapping[str, bytes]) -> None:
        self._files = {inode: _File(bytearray(content)) for inode, content in enumerate(initial.values())}
        self._names = {name: inode for inode, name in enumerate(initial)}
        self._pending: list[Naming] = []
        self.acked = 0

    def take(self, step: Step) -> None:
        match step:
            case Changed(inode, change):
                self._files[inode].pending.append(change)
            case Naming():
                self._pending.append(step)
                self._files.setdefault(step.inode, _File(bytearray()))
            case Synced(inode, failed):
                if failed:
                    self._files[inode].pending.clear()
                self._files[inode].sync()
            case DirectorySynced(directory):
                self._sync_directory(directory)
            case Acked(lines):
                self.acked = lines
            case _:
                assert_never(step)

    def _sync_directory(self, directory: str) -> None:
        """Make its namings durable, and with a rename also what happened before to its name in the other directory."""
        durable: list[Naming] = []
        rest: list[Naming] = []
        needed: set[str] = set()
        for naming in reversed(self._pending):
            if naming.is_in(directory) or naming.names() & needed:
                durable.append(naming)
                needed |= naming.names()
            else:
                rest.append(naming)
        for naming in reversed(durable):
            naming.apply(self._names)
        self._pending = rest[::-1]

    def crash(self, random: Random, mode: Mode) -> dict[str, bytearray]:
        # Drawn per state: one that loses almost nothing finds other mistakes than one that loses almost everything.
        loss = random.random()
        names = dict(self._names)
        for naming in _kept_namings(self._pending, random, mode, loss):
            naming.apply(names)
        files = {name: self._files[inode] for name, inode in names.items()}
        return {name: file.after(_kept_changes(file.pending, random, mode, loss)) for name, file in files.items()}


def _kept_namings(pending: list[Naming], random: Random, mode: Mode, loss: float) -> list[Naming]:
    match mode:
        case "drop":
            return []
        case "prefix":
            return pending[: random.randint(0, len(pending))]
        case "random":
            kept: list[Naming] = []
            undone: set[str] = set()
            for naming in pending:
                if random.random() < loss or naming.names() & undone:
                    undone |= naming.names()
                else:
                    kept.append(naming)
            return kept


def _kept_changes(pending: list[Change], random: Random, mode: Mode, loss: float) -> list[Change]:
    match mode:
        case "drop":
            return []
        case "prefix":
            return pending[: random.randint(0, len(pending))]
        case "random":
            return [part for change in pending for part in _torn(change, random, loss)]


def _torn(change: Change, random: Random, loss: float) -> list[Change]:
    draw = random.random()
    if draw < loss:
        return []
    # Of those not lost, half are torn.
    if draw < (1 + loss) / 2 and isinstance(change, Write):
        return [sector for sector in change.sectors() if random.random() >= loss]
    return [change]
