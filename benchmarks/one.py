"""One case in a process of its own, a slice whenever it is told: `python -m benchmarks.one CASE FOLDER INPUTS SIZES`.

`rounds` starts it, writes the seconds of a slice on its stdin, and reads what was done and how long it took.
By hand, to profile a case: `python -m cProfile -s tottime -m benchmarks.one cases:load`.
"""

import pkgutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.timing import Slice


class Sizes(msgspec.Struct, frozen=True):
    """How much a case has before it."""

    slices: int = 8
    seconds: float = 0.2  # how long a slice is
    log: int = 100_000  # events of the log that is read as a whole
    raw: int = 80_000  # rows that raw SQL may insert, which is more than it can
    rows: int = 50_000  # of the imported CSV


@dataclass(frozen=True, slots=True)
class Job:
    """Where a case works: `folder` is its own and empty, `inputs` is one for the whole run."""

    folder: Path
    inputs: Path
    sizes: Sizes

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


def main(name: str, job: Job, slices: Iterable[float]) -> None:
    case: Case = pkgutil.resolve_name(f"{__package__}.{name}")
    with case(job) as work:
        work(_WARM_SECONDS)
        print("ready", flush=True)
        for seconds in slices:
            began = time.perf_counter()
            done = work(seconds)
            print(done, time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    if sys.argv[2:]:
        folder, inputs, sizes = sys.argv[2:]
        main(
            sys.argv[1], Job(Path(folder), Path(inputs), msgspec.json.decode(sizes, type=Sizes)), map(float, sys.stdin)
        )
    else:
        with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as shared:
            main(sys.argv[1], Job(Path(own), Path(shared), Sizes()), [3.0])
