"""The cases of the contention test, run for as long as asked: by the suite for a moment, by the campaign for hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, NamedTuple

from everlog.app.stores import open_store
from tests.concurrency.checker import Operation, Violation, check
from tests.concurrency.processes import run_processes
from tests.concurrency.workload import client, exercised, logged, run_tasks, run_threads, streams

CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Case:
    """Who fights (64 threads, 64 asyncio tasks, or some processes of some threads) over how many streams."""

    who: Literal["threads", "tasks", "processes"]
    streams: int
    processes: int = 5
    threads_each: int = 4

    def __str__(self) -> str:
        who = f"{self.processes}x{self.threads_each}-processes" if self.who == "processes" else self.who
        return f"{who}-{'one-hot-stream' if self.streams == 1 else f'{self.streams}-streams'}"


class Found(NamedTuple):
    done: Counter[str]
    violations: list[Violation]


HOT = Case("threads", 1)
CASES = (
    HOT,
    Case("threads", 64),
    Case("tasks", 1),
    Case("tasks", 64),
    Case("processes", 1),
    Case("processes", 64),
)
ON_A_SERVER = (Case("processes", 1, 2, 128), Case("processes", 64, 2, 128))
"""256 clients: what a server has to bear, and one file need not."""


def contend(case: Case, url: str, *, seed: str, seconds: float) -> Found:
    """Run the case on a new log at `url`, then have the checker and the store's own examination judge it."""
    history = _run(case, url, seed, streams(case.streams), seconds)
    with closing(open_store(url)) as store:
        log = logged(store)
        problems = [found for found in store.examine(deep=True) if found.level == "problem"]
    violations = [*check(history, log), *(Violation(problem.check, problem.seen) for problem in problems)]
    return Found(exercised(history) + Counter({"events": len(log)}), violations)


def _run(case: Case, url: str, seed: str, over: Sequence[str], seconds: float) -> list[Operation]:
    if case.who == "processes":
        crews = [[f"{process}.{thread}" for thread in range(case.threads_each)] for process in range(case.processes)]
        return run_processes(url, crews, seed, over, seconds)
    clients = [client(str(number), seed, over) for number in range(CLIENTS)]
    with closing(open_store(url)) as store:
        return (run_threads if case.who == "threads" else run_tasks)(store, clients, seconds)
