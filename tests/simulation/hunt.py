"""Many seeds, on as many processes as there are."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.world import Outcome, simulate

_SHARE = 200
_SHOWN = 1000

# A run that found nothing must have done each of these.
EXERCISED = (
    "crashes",
    "power cuts",
    "exits",
    "pauses past the lease",
    "naps of one thread",
    "wake-ups lost",
    "commits fenced",
    "store unavailable",
    "outcomes unknown",
    "transient errors",
    "slow handlers",
    "lanes parked",
    "retry",
    "canary",
    "skipped",
    "paused",
    "resets",
    "rebuilt",
    "deploys",
)


@dataclass(slots=True)
class Hunted:
    """What all seeds did, and one line for each that found something."""

    seen: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Hunted) -> None:
        self.seen.update(other.seen)
        self.violations += other.violations


Simulate = Callable[[str], Outcome]


def hunt(seeds: Iterable[str], run: Simulate = simulate) -> Hunted:
    hunted = Hunted()
    for outcome in map(run, seeds):
        hunted.seen.update(outcome.seen)
        hunted.violations += told(outcome)
    return hunted


def told(outcome: Outcome) -> list[str]:
    """What is wrong with a seed, and how to see it again."""
    seed = outcome.seed
    first = [what[:_SHOWN] for what, _ in outcome.failures[:1]]
    return [f"seed {seed}: {what}; replay: python -m tests.simulation {outcome.replay} --trace" for what in first]


def hunt_on(processes: int, seed: str, number: int, run: Simulate = simulate) -> Hunted:
    """`hunt` through so many seeds derived from one, on processes of their own."""
    hunted = Hunted()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(partial(_hunt_share, run, seed, number), range(0, number, _SHARE)):
            hunted.add(found)
    return hunted


def _hunt_share(run: Simulate, seed: str, number: int, first: int) -> Hunted:
    return hunt((f"{seed}.{one}" for one in range(first, min(first + _SHARE, number))), run)
