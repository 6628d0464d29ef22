"""Several processes at one log: own interpreters, let go at the same moment."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import NamedTuple

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.app.stores import open_store
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from tests.concurrency.checker import Operation
from tests.concurrency.workload import client, run_threads

_SPAWN = multiprocessing.get_context("spawn")
_PATIENCE = 60.0  # seconds until a process that never came counts as dead


class Crew(NamedTuple):
    """Processes that wait for each other at `start`, and those that run for as long as it takes until `stop`."""

    pool: ProcessPoolExecutor
    start: Barrier
    stop: Event


@contextmanager
def crew(size: int, *, watchers: int = 0) -> Iterator[Crew]:
    """`size` fresh interpreters; `watchers` is how many others of the caller's wait at `start` too."""
    start, stop = _SPAWN.Barrier(size + watchers, timeout=_PATIENCE), _SPAWN.Event()
    with ProcessPoolExecutor(size, mp_context=_SPAWN, initializer=_enlist, initargs=(start, stop)) as pool:
        try:
            yield Crew(pool, start, stop)
        finally:
            stop.set()


def run_processes(
    url: str, crews: Sequence[Sequence[str]], seed: str, over: Sequence[str], seconds: float
) -> list[Operation]:
    """A process for each list of clients' names, with its own store on the log and a thread for each client."""
    with crew(len(crews)) as processes:
        running = [processes.pool.submit(_contend, url, names, seed, over, seconds) for names in crews]
        return [operation for process in running for operation in process.result()]


def write_alone(path: Path, threads: int, seconds: float) -> int:
    """Append one event after the other from every thread, until told to stop; how many that were."""
    with closing(SqliteStore(SqliteSettings(path))) as store, ThreadPoolExecutor(threads) as pool:
        _start.wait()
        until = time.monotonic() + seconds

        def write(stream: str) -> int:
            for written in count():
                if _stop.is_set() or time.monotonic() >= until:
                    return written
                store.append(Append("acme", (NewEvent(new_id(), stream, "seat.taken", 1, b"{}"),)))
            raise AssertionError("counting ended")

        return sum(pool.map(write, [f"seat-{new_id().hex()}" for _ in range(threads)]))


def _contend(url: str, names: Sequence[str], seed: str, over: Sequence[str], seconds: float) -> list[Operation]:
    with closing(open_store(url)) as store:
        _start.wait()
        return run_threads(store, [client(name, seed, over) for name in names], seconds)


def _enlist(start: Barrier, stop: Event) -> None:
    # A pool hands synchronization objects to its processes at birth only, so they lie in module variables.
    global _start, _stop
    _start, _stop = start, stop


_start: Barrier
_stop: Event
