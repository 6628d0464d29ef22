"""One case in a process of its own, a slice whenever it is told: `python -m benchmarks.one CASE FOLDER INPUTS SIZES`.

`rounds` starts it, writes the seconds of a slice on its stdin, and reads what was done, how long it took, and the p50
and p99 of its steps. A case that runs on both stores runs on PostgreSQL when `@postgres` follows its name.
By hand, to profile a case: `python -m cProfile -s tottime -m benchmarks.one cases:load`.
"""

import pkgutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks import postgres
from benchmarks.timing import Slice, Timed, latencies
from benchmarks.workload import LOADED_EVENTS, WRITERS

StoreName = Literal["sqlite", "postgres"]


class Sizes(msgspec.Struct, frozen=True):
    """How much a case has before it."""

    slices: int = 8
    seconds: float = 0.2  # how long a slice is
    log: int = 100_000  # events of the log that is read as a whole
    raw: int = 80_000  # rows that raw SQL may insert, which is more than it can
    rows: int = 50_000  # of the imported CSV
    writers: int = WRITERS
    loaded: int = LOADED_EVENTS  # of the stream that is loaded


@dataclass(frozen=True, slots=True)
class Job:
    """Where a case works: `folder` is its own and empty, `inputs` is one for the whole run."""

    folder: Path
    inputs: Path
    sizes: Sizes
    store: StoreName = "sqlite"

    def prepared(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder whose files cases only read, filled by the first that asks for it."""
        path = self.inputs / name
        if not path.exists():
            making = self.inputs / f"{name}.making"
            making.mkdir()
            make(making)
            making.rename(path)
            (self.inputs / PREPARED).touch()
        return path


Case = Callable[[Job], AbstractContextManager[Slice]]

PREPARED = "prepared"
"""Says that a case was the first to need an input: making it left its process in another state, so it starts again."""

_WARM_SECONDS = 0.02


def store_of(name: str) -> StoreName:
    """Of a case's name: `cases:load`, or `cases:load@postgres`."""
    return "postgres" if name.endswith("@postgres") else "sqlite"


def main(name: str, job: Job, slices: Iterable[float]) -> None:
    case: Case = pkgutil.resolve_name(f"{__package__}.{name.partition('@')[0]}")
    with case(job) as work:
        work(_WARM_SECONDS)
        print("ready", flush=True)
        for seconds in slices:
            latencies.clear()
            began = time.perf_counter()
            done = work(seconds)
            took = time.perf_counter() - began
            if isinstance(done, Timed):
                done, took = done
            print(done, took, *_percentiles(), flush=True)


def _percentiles() -> tuple[float, float]:
    """The median of the steps in seconds, and the slowest but one in a hundred."""
    ordered = sorted(latencies) or [0.0]
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if rest:
        folder, inputs, sizes = rest
        job = Job(Path(folder), Path(inputs), msgspec.json.decode(sizes, type=Sizes), store_of(name))
        main(name, job, map(float, sys.stdin))
    else:
        server = postgres.serving() if store_of(name) == "postgres" else nullcontext()
        with server, tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as shared:
            main(name, Job(Path(own), Path(shared), Sizes(), store_of(name)), [3.0])
