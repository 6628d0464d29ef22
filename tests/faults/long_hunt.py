"""The hunt spread over the cores and over hours: many small jobs, each with a seed of its own."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from random import Random
from typing import NamedTuple, get_args

from tests.faults.build import shim, skip_reason
from tests.faults.hunt import (
    ERRORS,
    History,
    Report,
    every_error,
    hunt_errors,
    hunt_kills,
    hunt_mixed_cuts,
    undisturbed,
)
from tests.faults.nursery import Nursery
from tests.faults.run import When

PROGRESS_SECONDS = 10.0


class Job(NamedTuple):
    what: str
    seed: str
    amount: int


def hunt_long(seed: str, wanted: Mapping[str, int]) -> Report:
    """`wanted` says how many of each kind in `HUNTS`; says meanwhile how far it is and what it found."""
    if shim() is None:
        raise RuntimeError(skip_reason())
    jobs = [job for what, count in wanted.items() for job in _jobs(what, seed, count)]
    report, said = Report(), time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), _start_nursery) as pool:
        for number, done in enumerate(as_completed([pool.submit(_work, job) for job in jobs]), 1):
            more = done.result()
            report.include(more)
            for told in more.violations[:3]:
                print(told, flush=True)
            if time.monotonic() - said > PROGRESS_SECONDS:
                said = time.monotonic()
                print(f"{number} of {len(jobs)} jobs: {dict(report.exercised)}", flush=True)
    return report


def _jobs(what: str, seed: str, count: int) -> Iterator[Job]:
    size = HUNTS[what][1]
    for number in range(0, count, size):
        yield Job(what, f"{seed}/{what}/{number // size}", min(size, count - number))


def _start_nursery() -> None:
    # A pool's process keeps one for all its jobs; it ends when the pipe from here is closed.
    global _nursery
    _nursery = Nursery()


def _work(job: Job) -> Report:
    return HUNTS[job.what][0](_nursery, job.seed, job.amount)


def _kills(nursery: Nursery, seed: str, count: int) -> Report:
    history, random = History(seed, "all"), Random(seed)
    calls = len(undisturbed(nursery, history))
    kills = [(random.randint(1, calls), random.choice(get_args(When))) for _ in range(count)]
    return hunt_kills(nursery, history, kills, resume_every=3)


def _errors(nursery: Nursery, seed: str, count: int) -> Report:
    history = History(seed, "small")
    calls = undisturbed(nursery, history)
    rules = [rule for name in ERRORS for rule in every_error(calls, name)]
    return hunt_errors(nursery, history, Random(seed).sample(rules, min(count, len(rules))))


# What there is to hunt, and how much of it makes a job.
HUNTS: Mapping[str, tuple[Callable[[Nursery, str, int], Report], int]] = {
    "kills": (_kills, 100),
    "states": (hunt_mixed_cuts, 1000),
    "errors": (_errors, 100),
}
_nursery: Nursery
