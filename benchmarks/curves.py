"""What the pictures show: how figures change with the number of writers, the length of a stream, the size of a log."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks import postgres
from benchmarks.inputs import TENANT, database_of, new_order, url
from benchmarks.one import Sizes, StoreName
from benchmarks.orders import orders
from benchmarks.rounds import Measured, missing, take_turns, work_together
from benchmarks.workload import lines, new_id, ordered_id
from everlog import Platform
from everlog.core.limits import BATCH_EVENTS

Curves = dict[str, list[tuple[float, float]]]
"""The name of a line to its points."""


class Range(NamedTuple):
    """How far a picture goes."""

    slices: int = 5
    seconds: float = 0.3
    writers: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    processes: Sequence[int] = (1, 2, 4)
    lengths: Sequence[int] = (10, 100, 1000, 10_000, 100_000)
    rebuilt: Sequence[int] = (10_000, 100_000, 1_000_000, 5_000_000)
    grown: Sequence[int] = (10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    workers: Sequence[int] = (1, 2, 4)
    handled: int = 4_000

    def sizes(self, **more: int) -> Sizes:
        return msgspec.structs.replace(Sizes(), slices=self.slices, seconds=self.seconds, **more)


QUICK = Range(2, 0.05, (1, 64), (1, 2), (10, 1000), (2_000, 10_000), (2_000, 10_000), (1, 2), 500)
STORES: Sequence[StoreName] = ("postgres", "sqlite")

_WRITING = {
    "cases:append_tasks@postgres": "everlog, PostgreSQL",
    "cases:append_tasks": "everlog, SQLite",
    "peer_umadb:append_threads": "UmaDB",
    "peer_eventsourcing:append_threads@postgres": "eventsourcing, PostgreSQL",
    "peer_eventsourcing:append_threads": "eventsourcing, SQLite",
}
_GROWING: Sequence[tuple[str, Callable[[], str], str]] = (
    ("cases:append_tasks", new_id, ""),
    ("cases:append_tasks_ordered", ordered_id, ", names in the order of time"),
)
_LOADING = {
    "cases:load@postgres": "everlog, PostgreSQL",
    "cases:load_snapshot@postgres": "everlog, PostgreSQL, snapshot",
    "cases:load": "everlog, SQLite",
    "cases:load_snapshot": "everlog, SQLite, snapshot",
    "peer_eventsourcing:load@postgres": "eventsourcing, PostgreSQL",
    "peer_eventsourcing:load_snapshot@postgres": "eventsourcing, PostgreSQL, snapshot",
}


def writers(inputs: Path, how: Range) -> dict[str, Curves]:
    """Appends a second, and how many milliseconds one takes, against the number of writers."""
    panels: dict[str, Curves] = {"events/s": {}, "p50, ms": {}, "p99, ms": {}}
    for count, found in _each(_WRITING, "writers", how.writers, inputs, how):
        for name, one in found.items():
            for panel, figure in zip(panels.values(), (one.rate, one.p50 * 1000, one.p99 * 1000), strict=True):
                panel.setdefault(_WRITING[name], []).append((count, figure))
    return panels


def loads(inputs: Path, how: Range) -> dict[str, Curves]:
    """Milliseconds of a load against the length of the stream."""
    curves: Curves = {}
    for length, found in _each(_LOADING, "loaded", how.lengths, inputs, how):
        for name, one in found.items():
            curves.setdefault(_LOADING[name], []).append((length, one.p50 * 1000))
    return {"ms, p50": curves}


def processes(inputs: Path, how: Range) -> dict[str, Curves]:
    """Appends a second of several processes on one log, 64 tasks in each."""
    panels: dict[str, Curves] = {"events/s": {}, "p50, ms": {}}
    for store in STORES:
        name = "cases:append_tasks@postgres" if store == "postgres" else "cases:append_tasks"
        for count in how.processes:
            folder = _folder(inputs, f"together-{store}-{count}")
            found = work_together(name, count, inputs, how.sizes(), folder)
            _forget(folder, store)
            if found is not None:
                for panel, figure in zip(panels.values(), (found.rate, found.p50 * 1000), strict=True):
                    panel.setdefault(_WRITING[name], []).append((count, figure))
    return panels


def rebuilds(inputs: Path, how: Range) -> dict[str, Curves]:
    """Events a second that a rebuild folds, and the memory of its process, against the size of the log."""
    panels: dict[str, Curves] = {"events/s": {}, "memory of the process, MiB": {}}
    for store in STORES:
        folder = _folder(inputs, f"rebuilt-{store}")
        for size in how.rebuilt:
            found = _told("benchmarks.rebuilding", url(folder, store), str(size))
            for panel, figure in zip(panels.values(), (found["rate"], found["mebibytes"]), strict=True):
                panel.setdefault(f"everlog, {_named(store)}", []).append((size, figure))
        _forget(folder, store)
    return panels


def growth(inputs: Path, how: Range) -> dict[str, Curves]:
    """Microseconds of an append by 64 tasks, against the events that are in the log already."""
    panels: dict[str, Curves] = {"µs/event": {}, "p50, ms": {}}
    for store, (case, name, line) in product(STORES, _GROWING):
        folder, filled = _folder(inputs, f"grown{len(line)}-{store}"), 0
        for size in how.grown:
            filled = _fill(url(folder, store), size, name)
            if store == "postgres":  # else its autovacuum works on what was filled, on one of the cores
                postgres.settle(database_of(folder))
            found = work_together(case + ("@postgres" if store == "postgres" else ""), 1, inputs, how.sizes(), folder)
            if found is not None:
                for panel, figure in zip(panels.values(), (1e6 / found.rate, found.p50 * 1000), strict=True):
                    panel.setdefault(f"everlog, {_named(store)}{line}", []).append((filled, figure))
        _forget(folder, store)
    return panels


def workers(inputs: Path, how: Range) -> dict[str, Curves]:
    """Events a second that worker processes handle together, whose handlers compute for some milliseconds."""
    curves: Curves = {}
    for store in STORES:
        for count in how.workers:
            folder = _folder(inputs, f"shared-{store}-{count}")
            found = _told("benchmarks.sharing", url(folder, store), str(count), str(how.handled))
            curves.setdefault(f"everlog, {_named(store)}", []).append((count, found["rate"]))
            _forget(folder, store)
    return {"events/s": curves}


PICTURES: dict[str, Callable[[Path, Range], dict[str, Curves]]] = {
    "writers": writers,
    "processes": processes,
    "loads": loads,
    "rebuilds": rebuilds,
    "growth": growth,
    "workers": workers,
}


def _each(
    cases: dict[str, str], size: str, along: Sequence[int], inputs: Path, how: Range
) -> Iterator[tuple[int, dict[str, Measured]]]:
    chance = random.Random(1)
    there = [case for case in cases if missing(case) is None]
    for count in along:
        print(f"{size} {count}", file=sys.stderr, flush=True)
        yield count, take_turns(there, inputs, how.sizes(**{size: count}), chance)


def _fill(log_url: str, size: int, name: Callable[[], str]) -> int:
    """Streams of one event each, as the writers append them, until the log holds so many; says how many it does."""
    source = lines()
    with Platform(log_url, orders).open() as log:
        acme = log.tenant(TENANT)
        for _ in range(log.head().position, size, BATCH_EVENTS):
            acme.append_batch(*[new_order(source, 1, name) for _ in range(BATCH_EVENTS)])
        return log.head().position


def _told(module: str, *arguments: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1]
    )
    print(f"  {' '.join(arguments[1:])} {ran.stdout.decode().strip()}", file=sys.stderr, flush=True)
    return json.loads(ran.stdout)


def _folder(inputs: Path, name: str) -> Path:
    folder = inputs / name
    folder.mkdir()
    return folder


def _forget(folder: Path, store: StoreName) -> None:
    """Its files go with the inputs' folder."""
    if store == "postgres":
        postgres.drop(folder.name)


def _named(store: StoreName) -> str:
    return "PostgreSQL" if store == "postgres" else "SQLite"
