"""The conformance suite: what every store promises, as tests that an adapter joins in one line.

    TestSqlite = store_conformance(lambda folder, clock: SqliteStore(SqliteSettings(folder / "log.db"), clock=clock))

The tests need pytest, are plain functions over the fixtures below, and live in one module a topic. After each test the
log must be sound: positions 1..n without holes, and nothing that `examine(deep=True)` calls a problem.
"""

import pytest

# Before the modules with the asserts are imported, or a failure would show no values.
pytest.register_assert_rewrite(__name__)

from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import AbstractContextManager, closing  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from everlog.core.clock import Clock  # noqa: E402
from everlog.store.contract import Store  # noqa: E402
from everlog.testing.conformance import (  # noqa: E402
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
from everlog.testing.conformance.events import SettableClock, append, assert_sound, everything, new_event  # noqa: E402
from everlog.testing.conformance.mix import Mix, filled  # noqa: E402

__all__ = ["SettableClock", "append", "everything", "new_event", "store_conformance"]

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
            if not shared:
                pytest.skip("this store cannot be opened twice")
            with closing(opened()) as second:
                yield second

        @pytest.fixture
        def connection(self, store: Store, tmp_path: Path) -> Iterator[Any]:
            if connect is None:
                pytest.skip("this store joins no transaction")
            with connect(tmp_path) as connection:
                yield connection

        @pytest.fixture(scope="class")
        def mix(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mix]:
            """A log full of many kinds of events, only read."""
            clock = SettableClock()
            with closing(open(tmp_path_factory.mktemp("mix"), clock)) as store:
                yield filled(store, clock)

    for name, test in ((name, test) for topic in _TOPICS for name, test in vars(topic).items()):
        if name.startswith("test_"):
            if hasattr(StoreConformance, name):
                raise TypeError(f"two tests of the suite are called {name}: rename one")
            setattr(StoreConformance, name, staticmethod(test))
    return StoreConformance
