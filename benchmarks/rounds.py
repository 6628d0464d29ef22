"""Rounds: in each, every case gets a fresh process and an empty folder, and cases that are compared take turns.

Virtual disks have phases that differ by a factor of twenty and last a second or a minute, and neighbours come and go.
So the cases of one group are alive at the same time, and work a fraction of a second each, in a new order every time.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import TypeVar

import msgspec

from benchmarks.one import PREPARED, Sizes
from benchmarks.targets import NEEDS

T = TypeVar("T")

Round = Mapping[str, float]
"""Case to how much it did a second; a case that failed is missing."""

_ROOT = Path(__file__).parents[1]


def missing(case: str) -> str | None:
    """The library a case needs and this environment lacks."""
    needed = NEEDS.get(case.partition(":")[0])
    return needed if needed is not None and find_spec(needed) is None else None


def run_rounds(
    groups: Sequence[Sequence[str]], count: int, sizes: Sizes, seed: int, folder: Path | None
) -> Iterator[Round]:
    """Measure in `folder` (default: where temporary files go), and say on stderr how it goes."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=folder, prefix="everlog-bench-") as inputs:
        for number in range(1, count + 1):
            _say(f"round {number} of {count}; write and sync 4 KiB: {_sync_micros(Path(inputs)):.0f} µs")
            rates: dict[str, float] = {}
            for group in _shuffled(groups, chance):
                rates |= _take_turns(_shuffled(group, chance), Path(inputs), sizes, chance)
            yield rates


def _take_turns(group: Sequence[str], inputs: Path, sizes: Sizes, chance: random.Random) -> dict[str, float]:
    with ExitStack() as stack:
        running = [stack.enter_context(closing(_start(case, inputs, sizes))) for case in group]
        for _ in range(sizes.slices):
            for case in _shuffled(running, chance):
                case.work(sizes.seconds)
        for case in running:
            _say(f"  {case.name:34} " + ("failed" if case.rate is None else f"{case.rate:>12,.1f} /s"))
        return {case.name: case.rate for case in running if case.rate is not None}


def _start(case: str, inputs: Path, sizes: Sizes) -> "_Running":
    running = _Running(case, inputs, sizes)
    if (inputs / PREPARED).exists():
        (inputs / PREPARED).unlink()
        running.close()
        running = _Running(case, inputs, sizes)
    return running


class _Running:
    """One case in its process, ready to work; see `benchmarks.one`. Its stderr is ours."""

    def __init__(self, name: str, inputs: Path, sizes: Sizes) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(dir=inputs)
        arguments = [name, self._folder.name, str(inputs), msgspec.json.encode(sizes).decode()]
        command = [sys.executable, "-m", "benchmarks.one", *arguments]
        self._process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=_ROOT)
        self._done, self._seconds = 0, 0.0
        self._failed = self._answer() != ["ready"]

    @property
    def rate(self) -> float | None:
        return None if self._failed or not self._done else self._done / self._seconds

    def work(self, seconds: float) -> None:
        if self._failed:
            return
        print(seconds, file=self._process.stdin, flush=True)
        match self._answer():
            case [done, took]:
                self._done, self._seconds = self._done + int(done), self._seconds + float(took)
            case _:
                self._failed = True

    def close(self) -> None:
        self._process.communicate()  # closes its stdin, and so it ends
        self._folder.cleanup()

    def _answer(self) -> list[str]:
        """Words of one line; none when the process ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()


def _shuffled(items: Sequence[T], chance: random.Random) -> list[T]:
    return chance.sample(items, len(items))


def _sync_micros(folder: Path, count: int = 20) -> float:
    """How fast the disk is just now, at what a write-ahead log mostly does: overwriting."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        file.write(bytes(4096 * count))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(count):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
