"""What a disk may hold after the power fails: a recording made by the shim, cut anywhere, turned back into files.

What may be lost, and what may not, is the model of `disk`, and is described there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple, assert_never

from tests.faults.disk import MODES, Acked, Changed, DirectorySynced, Disk, Mode, Naming, Resize, Step, Synced, Write
from tests.faults.recording import Kind, Record, records


@dataclass(frozen=True, slots=True)
class State:
    """The files a restarted machine would find, and what had been acknowledged when the power failed."""

    files: dict[str, bytes]
    acks: list[bytes]


@dataclass(frozen=True, slots=True)
class Cut:
    """Names one state of a recording: `recording.state(cut.seed, cut.mode, cut.upto)` makes it again."""

    seed: int
    mode: Mode
    upto: int


class CrashState(NamedTuple):
    cut: Cut
    directory: Path
    acks: list[bytes]


@dataclass(frozen=True, slots=True)
class Recording:
    """The steps of one or more processes, run one after another, on the files `initial`, which were durable."""

    initial: Mapping[str, bytes]
    steps: list[Step]
    acks: list[bytes]

    def state(self, seed_or_random: int | Random, mode: Mode, upto: int) -> State:
        """The state after the power fails behind the first `upto` steps. For many states, `states` is faster."""
        random = Random(seed_or_random) if isinstance(seed_or_random, int) else seed_or_random
        disk = Disk(self.initial)
        for step in self.steps[:upto]:
            disk.take(step)
        files = {name: bytes(content) for name, content in disk.crash(random, mode).items()}
        return State(files, self.acks[: disk.acked])


def load(log: Path, initial: Mapping[str, bytes] | None = None) -> Recording:
    """Read a recording; `initial` are the files that were there before it began, by name below the directory."""
    initial = dict(initial or {})
    reader = _Reader(initial)
    steps = [step for record in records(log) for step in reader.steps(record)]
    return Recording(initial, steps, reader.acks())


def states(recording: Recording, count: int, seed: int) -> Iterator[CrashState]:
    """Write `count` crash states, one after another, into one directory that is emptied in between.

    They come in the order of their cuts, not at random: the durable files then only ever grow by the next few steps,
    where building each state from nothing would cost the whole recording every time. Close what you opened in the
    directory before you ask for the next state.
    """
    random = Random(seed)
    cuts = [
        Cut(random.getrandbits(32), MODES[number % len(MODES)], random.randint(0, len(recording.steps)))
        for number in range(count)
    ]
    disk, taken = Disk(recording.initial), 0
    with memory_directory() as directory:
        for cut in sorted(cuts, key=lambda cut: cut.upto):
            for step in recording.steps[taken : cut.upto]:
                disk.take(step)
            taken = cut.upto
            write_files(disk.crash(Random(cut.seed), cut.mode), directory)
            yield CrashState(cut, directory, recording.acks[: disk.acked])


@contextlib.contextmanager
def memory_directory() -> Iterator[Path]:
    """A scratch directory, in memory where Linux offers that: fsync is free there, and nothing wears out."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="everlog-faults-", dir=shared if shared.is_dir() else None) as path:
        yield Path(path)


def write_files(files: Mapping[str, bytes | bytearray], directory: Path) -> None:
    """Make `directory` hold exactly these files."""
    for old in directory.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name not in files:
            old.unlink()
    for name, content in files.items():
        path = directory / PurePosixPath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Over the old content: giving its pages back, only to ask for them again, takes as long as the writing.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT), "wb", buffering=0) as file:
            file.write(content)
            file.truncate()


class _Reader:
    """Turns records, which name files by path, into steps, which name them by inode."""

    def __init__(self, initial: Mapping[str, bytes]) -> None:
        self._names = {name: inode for inode, name in enumerate(initial)}
        self._inodes = len(initial)
        self._acked = b""

    def steps(self, record: Record) -> list[Step]:
        match record.kind:
            case Kind.WRITE:
                return [Changed(self._inode(record), Write(record.offset, record.data))]
            case Kind.TRUNCATE | Kind.GROW:
                return [Changed(self._inode(record), Resize(record.offset, record.kind is Kind.TRUNCATE))]
            case Kind.SYNC:
                return [Synced(self._inode(record))]
            case Kind.SYNC_DIRECTORY:
                return [DirectorySynced(record.name)]
            case Kind.CREATE | Kind.UNLINK | Kind.RENAME:
                return self._naming(record)
            case Kind.ACK:
                self._acked += record.data
                return [Acked(self._acked.count(b"\n"))]
            case Kind.FAILED:
                return [Synced(self._inode(record), failed=True)] if record.of is Kind.SYNC else []
            case Kind.KILLED:
                return []
            case _:
                assert_never(record.kind)

    def acks(self) -> list[bytes]:
        return self._acked.split(b"\n")[:-1]

    def _naming(self, record: Record) -> list[Step]:
        if record.kind is Kind.CREATE:
            if record.name in self._names:
                return []  # two processes raced to create it, and each thinks it did
            naming = Naming(None, record.name, self._inodes)
            self._inodes += 1
        else:
            new = record.data.decode() if record.kind is Kind.RENAME else None
            naming = Naming(record.name, new, self._inode(record))
        naming.apply(self._names)
        return [naming]

    def _inode(self, record: Record) -> int:
        try:
            return self._names[record.name]
        except KeyError:
            raise ValueError(
                f"call {record.call} changes {record.name!r}, but the recording never saw that file come into being: "
                f"pass it as `initial` if it was there before; links and renamed directories cannot be recorded"
            ) from None
