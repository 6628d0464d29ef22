"""The fixtures of the suite, and the test class that holds every topic for one adapter."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from everlog.core.clock import Clock
from everlog.store.contract import Store
from everlog.testing.conformance.events import SettableClock, assert_sound
from everlog.testing.conformance.mix import Mix, filled
from everlog.testing.conformance.topics import (
    batches,
    boundary,
    closing_down,
    conditions,
    idempotency,
    joined,
    limits,
    reads,
    release,
    snapshots,
    streams,
    time,
    writers,
)

OpenStore = Callable[[Path, Clock], Store]
"""Opens the log kept in a folder, and makes it when there is none. The clock is the suite's own."""

Connect = Callable[[Path], AbstractContextManager[Any]]
"""A connection of the application's own on the database of the log in a folder."""

_TOPICS = (
    conditions, boundary, idempotency, batches, limits, time, reads, streams, snapshots, release, writers, joined,
    closing_down,
)  # fmt: skip


def store_conformance(open: OpenStore, *, shared: bool = True, connect: Connect | None = None) -> type:
    """A test class for one adapter; give it a name that starts with `Test`.

    `shared=False` where opening a folder twice gives two logs (a log in memory); `connect` where `join` is offered.
    """

    class StoreConformance:
        @pytest.fixture
        def clock(self) -> SettableClock:
            return SettableClock()

        @pytest.fixture
        def opened(self, tmp_path: Path, clock: SettableClock) -> Callable[[], Store]:
            return lambda: open(tmp_path, clock)

        @pytest.fixture
        def store(self, opened: Callable[[], Store]) -> Iterator[Store]:
            with closing(opened()) as store:
                yield store
                assert_sound(store)

        @pytest.fixture
        def second(self, store: Store, opened: Callable[[], Store]) -> Iterator[Store]:
            """Another handle on the log of `store`."""
            with closing(opened()) as second:
                yield second

        @pytest.fixture
        def reopened(self, opened: Callable[[], Store]) -> Callable[[], Store]:
            """Opens the same log each time."""
            return opened

        @pytest.fixture
        def connection(self, store: Store, tmp_path: Path) -> Iterator[Any]:
            assert connect is not None
            with connect(tmp_path) as connection:
                yield connection

        @pytest.fixture(scope="class")
        @classmethod
        def mix(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mix]:
            """A log full of many kinds of events, only read."""
            clock = SettableClock()
            with closing(open(tmp_path_factory.mktemp("mix"), clock)) as store:
                yield filled(store, clock)

    absent = (set() if shared else {"second", "reopened"}) | (set() if connect else {"connection"})
    for name, test in ((name, test) for topic in _TOPICS for name, test in vars(topic).items()):
        if name.startswith("test_") and absent.isdisjoint(signature(test).parameters):
            if hasattr(StoreConformance, name):
                raise TypeError(f"two tests of the suite are called {name}: rename one")
            setattr(StoreConformance, name, staticmethod(test))
    return StoreConformance
