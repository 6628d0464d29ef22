"""Slices: a case works for a fraction of a second at a time and says how much it did."""

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

T = TypeVar("T")

latencies: list[float] = []
"""Seconds of every step since it was last cleared."""

_PATIENCE = 10.0
_QUIET_SECONDS = 0.005


class Timed(NamedTuple):
    """What was done, and in how many seconds that counted."""

    done: int
    seconds: float


Slice = Callable[[float], int | Timed]
"""Works for about so many seconds and returns how many events, loads or rows that were (a step below does so too);
`Timed` where not all of that time counts."""


def alone(step: Callable[[], int]) -> Slice:
    """One caller, one step after the other."""
    return lambda seconds: _repeat(time.perf_counter() + seconds, step)


@contextmanager
def threads(count: int, step: Callable[[], int]) -> Iterator[Slice]:
    """`count` threads at once; a slice ends when each has finished what it began."""
    with ThreadPoolExecutor(count) as pool:
        yield lambda seconds: sum(pool.map(_repeat, [time.perf_counter() + seconds] * count, [step] * count))


def tasks(runner: asyncio.Runner, count: int, step: Callable[[], Awaitable[int]]) -> Slice:
    """`count` asyncio tasks at once; a slice ends when each has finished what it began."""

    async def repeat(until: float) -> int:
        done, began = 0, time.perf_counter()
        while began < until:
            done += await step()
            began = _ended(began)
        return done

    async def work(seconds: float) -> int:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*[repeat(until) for _ in range(count)]))

    return lambda seconds: runner.run(work(seconds))


def each(items: Iterator[T], step: Callable[[T], int]) -> Slice:
    """One caller, one item after the other; once they are used up, a slice does nothing and takes no time."""

    def work(seconds: float) -> int:
        until, done = time.perf_counter() + seconds, 0
        for item in items:
            done += step(item)
            if time.perf_counter() > until:
                break
        return done

    return work


@contextmanager
def followed(append: Callable[[], int]) -> Iterator[tuple[Slice, Callable[[], None]]]:
    """One append after the other, each once the one before was seen; and what is to be called when one is.

    What counts is half of the appends: the time from the moment it was acknowledged until it was seen, at the median.
    """
    seen = threading.Event()
    seen_at = 0.0

    def saw() -> None:
        nonlocal seen_at
        seen_at = time.perf_counter()
        seen.set()

    def work(seconds: float) -> Timed:
        until, took = time.perf_counter() + seconds, list[float]()
        while time.perf_counter() < until:
            seen.clear()
            append()
            appended = time.perf_counter()
            if not seen.wait(_PATIENCE):
                raise TimeoutError("an event was not seen")
            took.append(max(0.0, seen_at - appended))
            time.sleep(_QUIET_SECONDS)  # it is the first thing to happen for a while
        return Timed(len(took), len(took) * statistics.median(took))

    yield work, saw


def _repeat(until: float, step: Callable[[], int]) -> int:
    done, began = 0, time.perf_counter()
    while began < until:
        done += step()
        began = _ended(began)
    return done


def _ended(began: float) -> float:
    ended = time.perf_counter()
    latencies.append(ended - began)
    return ended
