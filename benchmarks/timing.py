"""Slices: a case works for a fraction of a second at a time and says how much it did."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Slice = Callable[[float], int]
"""Works for about so many seconds and returns how many events, loads or rows that were. So does each step below."""


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
        done = 0
        while time.perf_counter() < until:
            done += await step()
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


def _repeat(until: float, step: Callable[[], int]) -> int:
    done = 0
    while time.perf_counter() < until:
        done += step()
    return done
