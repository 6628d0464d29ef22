"""The fixtures of the suite, and the test class that holds every topic for one adapter."""

from collections.abc import Callable, Iterator
from contextlib import closing
from inspect import signature
from pathlib import Path

import pytest

from everlog.core.clock import Clock
from everlog.testing.conformance.events import SettableClock
from everlog.testing.conformance.following import (
    brokers,
    builds,
    checkpoints,
    fences,
    folds,
    inbox,
    lanes,
    marks,
    operators,
    partitions,
)
from everlog.testing.conformance.following.words import Following, SettableLease

LeaseClock = Callable[[], tuple[str, int]]
"""Which run of the machine, and microseconds since it began; where the database has a clock of its own, a test's."""

OpenFollowing = Callable[[Path, Clock, LeaseClock], Following]
"""Opens the database kept in a folder, and makes it when there is none. Both clocks are the suite's own."""

_TOPICS = (brokers, checkpoints, partitions, builds, fences, folds, lanes, operators, marks, inbox)


def following_conformance(open: OpenFollowing, *, shared: bool = True, boots: bool = True) -> type:
    """A test class for one adapter; give it a name that starts with `Test`.

    `shared=False` where opening a folder twice gives two databases (a log in memory); `boots=False` where leases run on
    a clock that goes on while its machine starts again.
    """

    class FollowingConformance:
        @pytest.fixture
        def clock(self) -> SettableClock:
            return SettableClock()

        @pytest.fixture
        def lease(self) -> SettableLease:
            return SettableLease()

        @pytest.fixture
        def reboot(self, lease: SettableLease) -> Callable[[], None]:
            return lease.reboot

        @pytest.fixture
        def opened(self, tmp_path: Path, clock: SettableClock, lease: SettableLease) -> Callable[[], Following]:
            return lambda: open(tmp_path, clock, lease)

        @pytest.fixture
        def following(self, opened: Callable[[], Following]) -> Iterator[Following]:
            with closing(opened()) as following:
                yield following

        @pytest.fixture
        def second(self, following: Following, opened: Callable[[], Following]) -> Iterator[Following]:
            """Another handle on the same database."""
            with closing(opened()) as second:
                yield second

    absent = {fixture for fixture, there in (("second", shared), ("reboot", boots)) if not there}
    for name, test in ((name, test) for topic in _TOPICS for name, test in vars(topic).items()):
        if name.startswith("test_") and absent.isdisjoint(signature(test).parameters):
            if hasattr(FollowingConformance, name):
                raise TypeError(f"two tests of the suite are called {name}: rename one")
            setattr(FollowingConformance, name, staticmethod(test))
    return FollowingConformance
