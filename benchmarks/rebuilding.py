"""`python -m benchmarks.rebuilding URL EVENTS`: fill a log up to so many events, and in a new process rebuild from it.

Prints the events folded a second, and the most memory the process that rebuilt ever had.
"""

import json
import resource
import subprocess
import sys
import time

from benchmarks.following import KEYS, Added, platform, totals
from benchmarks.inputs import TENANT
from everlog import Write
from everlog.app.rebuild import Rebuild
from everlog.core.limits import BATCH_EVENTS


def fill(url: str, events: int) -> None:
    """Neighbours are of different keys."""
    with platform.open(url) as log:
        acme, first = log.tenant(TENANT), log.head().position
        for number in range(first, events, BATCH_EVENTS):
            added = [Added(f"key-{(number + i) * 7919 % KEYS}", 1) for i in range(BATCH_EVENTS)]
            acme.append_batch(*[Write(f"line-{i}", one) for i, one in enumerate(added)])


def rebuild(url: str) -> dict[str, float]:
    with platform.open(url) as log:
        began = time.perf_counter()
        folded = Rebuild(totals, platform.types, log.store).run(lambda progress: None)
        seconds = time.perf_counter() - began
    return {"rate": folded / seconds, "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main(url: str, events: int | None = None) -> None:
    if events is None:
        print(json.dumps(rebuild(url)))
        return
    fill(url, events)
    subprocess.run([sys.executable, "-m", "benchmarks.rebuilding", url], check=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
