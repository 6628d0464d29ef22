"""The cases of the contention test, run for as long as asked: by the suite for a moment, by the campaign for hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from tests.concurrency.checker import Operation, Violation, check
from tests.concurrency.processes import run_processes
from tests.concurrency.workload import client, exercised, logged, run_tasks, run_threads, streams

CLIENTS = 64
PROCESSES, THREADS_EACH = 5, 4


@dataclass(frozen=True, slots=True)
class Case:
    """Who fights (64 threads, 64 asyncio tasks, or 5 processes of 4 threads) over how many streams."""

    who: Literal["threads", "tasks", "processes"]
    streams: int

    def __str__(self) -> str:
        return f"{self.who}-{'one-hot-stream' if self.streams == 1 else f'{self.streams}-streams'}"


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


def contend(case: Case, file: Path, *, seed: str, seconds: float) -> Found:
    """Run the case on a new log at `file`, then have the checker and the store's own examination judge it."""
    history = _run(case, file, seed, streams(case.streams), seconds)
    with closing(SqliteStore(SqliteSettings(file))) as store:
        log = logged(store)
        problems = [found for found in store.examine(deep=True) if found.level == "problem"]
    violations = [*check(history, log), *(Violation(problem.check, problem.seen) for problem in problems)]
    return Found(exercised(history) + Counter({"events": len(log)}), violations)


def _run(case: Case, file: Path, seed: str, over: Sequence[str], seconds: float) -> list[Operation]:
    if case.who == "processes":
        crews = [[f"{process}.{thread}" for thread in range(THREADS_EACH)] for process in range(PROCESSES)]
        return run_processes(file, crews, seed, over, seconds)
    clients = [client(str(number), seed, over) for number in range(CLIENTS)]
    with closing(SqliteStore(SqliteSettings(file))) as store:
        return (run_threads if case.who == "threads" else run_tasks)(store, clients, seconds)
