"""Kill -9 between any two steps of a process; whoever comes after does the rest, and everything is there once.

Ids are derived and the clock is the test's, so the streams of a story that was interrupted anywhere equal those of one
that was not, event by event.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.powercut import memory_directory
from tests.postgres.server import empty_database
from tests.process.parts import shipping
from tests.process.program import Nursery, Order

POINTS = (
    "append.before_commit",  # before and after a decision is recorded, and before and after a command is executed
    "append.after_commit",
    "processor.marked",
    "processor.effects",  # executed, and not acknowledged
    "checkpoint.before_commit",
    "checkpoint.after_commit",
    "timers.fired",
)
MOST = 40

Streams = dict[str, list[tuple[str, object, object]]]


@contextmanager
def log_on(store: str) -> Iterator[str]:
    if store == "postgres":
        with empty_database() as url:
            yield url
    else:
        with memory_directory() as folder:
            yield f"sqlite:///{folder}/log.db"


def streams(url: str) -> Streams:
    found: Streams = defaultdict(list)
    with shipping().open(url) as log:
        for e in log.tenant("acme").events():
            found[e.stream].append((e.type, e.json(), e.id if e.stream.startswith("parcel") else None))
    return dict(found)


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_it_does_the_same_once(store: str, point: str, every: int) -> None:
    with Nursery() as nursery, log_on(store) as whole:
        assert nursery.run(Order(whole)) == 0
        expected = streams(whole)
        assert [len(expected[f"parcel-{key}"]) for key in "pqr"] == [17, 2, 15]
        kills = 0
        for times in range(1 + POINTS.index(point) % every, MOST, every):
            with log_on(store) as url:
                code = nursery.run(Order(url, point, times))
                if code == 0:  # it is not reached so often
                    break
                assert code == -signal.SIGKILL
                kills += 1
                assert nursery.run(Order(url)) == 0
                assert streams(url) == expected
        assert kills
