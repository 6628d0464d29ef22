"""Following on SQLite: rebuilding a read model, and `python -m benchmarks.following` for what has no target.

That prints how long an event takes from its append to its handler, beside one raw durable commit, and how many events a
second a worker handles whose handler waits a millisecond, by the number of keys.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.inputs import TENANT, url, url_of
from benchmarks.one import Job, Sizes
from benchmarks.raw import append_alone
from benchmarks.timing import Slice, alone
from everlog import Fold, Platform, Recorded, Write, event, processor
from everlog.app.following import subscription_of
from everlog.app.rebuild import REBUILD_PAGE, SAVE_EVERY
from everlog.core.limits import BATCH_EVENTS
from everlog.projection.run import FoldHandler

KEYS = 10_000
HANDLER_SECONDS = 0.001


@event("line.added")
class Added(msgspec.Struct, frozen=True):
    key: str
    quantity: int


totals = Fold("totals", initial=0)


@totals.on(Added, key=lambda e: e.data.key)
def add(total: int, e: Recorded[Added]) -> int:
    return total + e.data.quantity


platform = Platform("memory:", totals)


def rebuild(job: Job) -> AbstractContextManager[Slice]:
    return _folding(job, REBUILD_PAGE, SAVE_EVERY)


def rebuild_one_by_one(job: Job) -> AbstractContextManager[Slice]:
    """The same with a transaction for every event."""
    return _folding(job, 1, 1)


@contextmanager
def _folding(job: Job, page: int, save_every: int) -> Iterator[Slice]:
    """Folds the log from its start, again and again; neighbours in the log are of different keys."""
    with platform.open(url_of(job)) as log:
        acme, per_batch = log.tenant(TENANT), BATCH_EVENTS
        for number in range(0, job.sizes.log, per_batch):
            events = [Added(f"key-{(number + i) * 7919 % KEYS}", 1) for i in range(per_batch)]
            acme.append_batch(*[Write(f"line-{i}", one) for i, one in enumerate(events)])
        store, head = log.store, log.head().position
        where = subscription_of(totals, platform.types).where
        store.checkpoints.register(totals.name, "projection", 1, 0)
        claim = store.checkpoints.claim(totals.name, "benchmark", 3600.0)
        assert claim is not None
        handler = FoldHandler(totals, platform.types, store.checkpoints, store.fold_states, save_every=save_every)
        at = 0

        def step() -> int:
            nonlocal at, claim
            assert claim is not None
            if at >= head:
                store.checkpoints.reset(totals.name)
                claim = store.checkpoints.claim(totals.name, "benchmark", 3600.0)
                assert claim is not None
                handler.begin(claim)
                at = 0
            events = list(store.read(where, after=at, upto=head, limit=page))
            taken = handler.handle(claim, events, events[-1].position)
            claim, at = claim._replace(position=taken.saved), taken.reached
            return len(events)

        yield alone(step)


def live(folder: Path, events: int) -> list[float]:
    """Seconds from before the append to inside the handler, for each event."""
    seen = threading.Event()

    @processor("seen", on=Added)
    def handle(e: Recorded[Added]) -> None:
        seen.set()

    took = []
    with Platform(url(folder), handle).open(worker=True) as log:
        for number in range(events):
            seen.clear()
            began = time.perf_counter()
            log.tenant(TENANT).append(f"line-{number}", Added("a", 1))
            seen.wait()
            took.append(time.perf_counter() - began)
    return took


def throughput(folder: Path, keys: int, events: int) -> float:
    """Events a second of a worker with 64 threads for one processor."""
    left, done = [events], threading.Event()
    mutex = threading.Lock()

    @processor("slow", on=Added, concurrency=64)
    def handle(e: Recorded[Added]) -> None:
        time.sleep(HANDLER_SECONDS)  # the world, answering
        with mutex:
            left[0] -= 1
            if not left[0]:
                done.set()

    slow = Platform(url(folder), handle)
    with slow.open() as log:
        for start in range(0, events, BATCH_EVENTS):
            numbers = range(start, min(start + BATCH_EVENTS, events))
            by_key = [[n for n in numbers if n % keys == key] for key in range(keys)]
            writes = [Write(f"line-{key}", *[Added("a", 1)] * len(found)) for key, found in enumerate(by_key) if found]
            log.tenant(TENANT).append_batch(*writes)
    began = time.perf_counter()
    with slow.open(worker=True):
        done.wait()
        return events / (time.perf_counter() - began)


def main() -> None:
    console, table = Console(), Table("what", "figure", title="following on SQLite, synchronous=FULL")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folders = (Path(scratch) / str(number) for number in range(100))
        raw_times, live_times = [], []
        for _ in range(5):  # interleaved: the disk has phases
            live_times += live(_made(next(folders)), 100)
            raw_times += _raw_commits(_made(next(folders)), _made(next(folders)), 100)
        p50, p99 = statistics.median(live_times), sorted(live_times)[int(len(live_times) * 0.99)]
        commit = statistics.median(raw_times)
        table.add_row("append to handler, p50 / p99", f"{p50 * 1000:.2f} ms / {p99 * 1000:.2f} ms")
        table.add_row("the same p50, in raw durable commits", f"{p50 / commit:.2f} x {commit * 1000:.2f} ms")
        for keys in (1, 2, 4, 8, 16, 32, 64):
            rate = throughput(_made(next(folders)), keys, 1000)
            table.add_row(f"worker, {keys} keys, handler of 1 ms", f"{rate:,.0f} events/s")
    console.print(table)


def _raw_commits(folder: Path, inputs: Path, count: int) -> list[float]:
    took = []
    with append_alone(Job(folder, inputs, Sizes(raw=BATCH_EVENTS))) as work:
        for _ in range(count):
            began = time.perf_counter()
            work(0.0)
            took.append(time.perf_counter() - began)
    return took


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
