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
from typing import NamedTuple, TypeVar

import msgspec

from benchmarks import postgres
from benchmarks.one import PREPARED, Sizes, store_of
from benchmarks.targets import NEEDS

T = TypeVar("T")

Round = Mapping[str, float]
"""Case to how much it did a second; a case that failed is missing."""


class Measured(NamedTuple):
    """How much a second, and how many seconds a step takes: the median, and the slowest but one in a hundred."""

    rate: float
    p50: float
    p99: float


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
                found = take_turns(_shuffled(group, chance), Path(inputs), sizes, chance)
                rates |= {name: measured.rate for name, measured in found.items()}
            yield rates


def take_turns(group: Sequence[str], inputs: Path, sizes: Sizes, chance: random.Random) -> dict[str, Measured]:
    """Each case in its process, in turns; what failed is missing."""
    with ExitStack() as stack:
        running = [stack.enter_context(closing(_start(case, inputs, sizes))) for case in group]
        for _ in range(sizes.slices):
            for case in _shuffled(running, chance):
                case.begin(sizes.seconds)
                case.finish()
        return _told(running)


def work_together(case: str, count: int, inputs: Path, sizes: Sizes, folder: Path) -> Measured | None:
    """Several processes of one case at the same time, in one folder, and so on one log."""
    with ExitStack() as stack:
        running = [stack.enter_context(closing(_Running(case, inputs, sizes, folder))) for _ in range(count)]
        for _ in range(sizes.slices):
            for one in running:
                one.begin(sizes.seconds)
            for one in running:
                one.finish()
        found = [measured for one in running if (measured := one.measured) is not None]
    if len(found) < count:
        return None
    return Measured(
        sum(one.rate for one in found), statistics.median(one.p50 for one in found), max(one.p99 for one in found)
    )


def _told(running: Sequence["_Running"]) -> dict[str, Measured]:
    found = {case.name: case.measured for case in running}
    for name, measured in found.items():
        _say(f"  {name:44} " + ("failed" if measured is None else f"{measured.rate:>12,.1f} /s"))
    return {name: measured for name, measured in found.items() if measured is not None}


def _start(case: str, inputs: Path, sizes: Sizes) -> "_Running":
    running = _Running(case, inputs, sizes)
    if (inputs / PREPARED).exists():
        (inputs / PREPARED).unlink()
        running.close()
        running = _Running(case, inputs, sizes)
    return running


class _Running:
    """One case in its process, ready to work; see `benchmarks.one`. Its stderr is ours.

    `folder`: one that others work in too, which it leaves as it is.
    """

    def __init__(self, name: str, inputs: Path, sizes: Sizes, folder: Path | None = None) -> None:
        self.name = name
        self._own = tempfile.TemporaryDirectory(dir=inputs) if folder is None else None
        arguments = [name, str(folder or Path(self._own.name if self._own else "")), str(inputs)]
        command = [sys.executable, "-m", "benchmarks.one", *arguments, msgspec.json.encode(sizes).decode()]
        self._process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=_ROOT)
        self._slices: list[tuple[int, Measured]] = []
        self._failed = self._answer() != ["ready"]

    @property
    def measured(self) -> Measured | None:
        done, seconds = sum(done for done, _ in self._slices), sum(done / one.rate for done, one in self._slices)
        if self._failed or not done:
            return None
        parts = [one for _, one in self._slices]
        p50, p99 = (statistics.median(part) for part in ([one.p50 for one in parts], [one.p99 for one in parts]))
        return Measured(done / seconds, p50, p99)

    def begin(self, seconds: float) -> None:
        if not self._failed:
            print(seconds, file=self._process.stdin, flush=True)

    def finish(self) -> None:
        if self._failed:
            return
        match self._answer():
            case [done, took, p50, p99]:
                if int(done):
                    self._slices.append((int(done), Measured(int(done) / float(took), float(p50), float(p99))))
            case _:
                self._failed = True

    def close(self) -> None:
        self._process.communicate()  # closes its stdin, and so it ends
        if self._own is not None:
            if store_of(self.name) == "postgres":
                postgres.drop(Path(self._own.name).name)
            self._own.cleanup()

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
