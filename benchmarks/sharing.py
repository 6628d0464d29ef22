"""`python -m benchmarks.sharing URL WORKERS EVENTS`: how many events a second so many worker processes handle together.

Each handler computes for some milliseconds, which threads of one Python process do one after another. What only waits
needs no second worker: its partitions, and the keys within, wait side by side. Prints the rate.
"""

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.following import Added
from benchmarks.inputs import TENANT
from everlog import Platform, Recorded, Write, processor
from everlog.core.limits import BATCH_EVENTS
from everlog.subscription.partition import as_one

PARTITIONS, KEYS = 8, 400
COMPUTED = 150_000  # numbers to add up: two to four milliseconds


@processor("call", on=Added, key=lambda e: e.data.key, concurrency=1, partitions=PARTITIONS)
def call(e: Recorded[Added]) -> None:
    sum(range(COMPUTED))


platform = Platform("memory:", call)


def fill(url: str, events: int) -> None:
    with platform.open(url) as log:
        for number in range(0, events, BATCH_EVENTS):
            added = [Added(f"key-{(number + i) % KEYS}", 1) for i in range(min(BATCH_EVENTS, events - number))]
            log.tenant(TENANT).append_batch(*[Write(f"line-{i}", one) for i, one in enumerate(added)])


def share(url: str, workers: int, events: int) -> dict[str, float]:
    """Measured from when every worker is there to when every event is handled."""
    fill(url, events)
    with platform.open(url) as log:
        checkpoints = log.store.checkpoints
        checkpoints.register(call.name, "processor", 1, 0, parts=PARTITIONS)
        checkpoints.set_status(call.name, "paused")
        started = [_start(url) for _ in range(workers)]
        try:
            for one in started:
                one.stdout.readline()
            checkpoints.set_status(call.name, "running")
            began = time.perf_counter()
            while as_one(checkpoints.progress())[call.name].position < events:
                time.sleep(0.01)
            return {"rate": events / (time.perf_counter() - began)}
        finally:
            for one in started:
                one.kill()
                one.communicate()


def _start(url: str) -> Any:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.sharing", url], stdout=subprocess.PIPE)


def work(url: str) -> None:
    with platform.open(url, worker=True):
        print("ready", flush=True)
        while True:
            time.sleep(1.0)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        work(sys.argv[1])
    print(json.dumps(share(sys.argv[1], *map(int, sys.argv[2:]))))
