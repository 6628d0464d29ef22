"""A real broker for all tests of this process, and a stream in it for each."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from everlog.testing.nats import Cluster, NatsNotFound, running
from tests.faults.powercut import memory_directory
from tests.feed.parts import Copy
from tests.postgres.folders import database_of

_streams = itertools.count(1)


@pytest.fixture(scope="session")
def nats() -> Iterator[Cluster]:
    try:
        with running() as cluster:
            yield cluster
    except NatsNotFound as reason:
        pytest.skip(f"NOT TESTED ON NATS: {reason}")


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Takes the place of pytest's own: in memory, where fsync is free."""
    with memory_directory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of the store that a worker is given, which is not there yet: on SQLite, or where `on_both` says so."""
    kind = getattr(request, "param", "sqlite")
    return database_of(tmp_path) if kind == "postgres" else f"sqlite:///{tmp_path}/worker.db"


@pytest.fixture
def broker_url(nats: Cluster) -> str:
    return nats.url(f"EVENTS{next(_streams)}")


@pytest.fixture
def copy(broker_url: str) -> Iterator[Copy]:
    """What a relay would have sent of some log."""
    with Copy.at(broker_url) as copy:
        yield copy


@pytest.fixture
def new_copy(nats: Cluster) -> Iterator[Callable[[], Copy]]:
    opened: list[Copy] = []

    def make() -> Copy:
        opened.append(Copy.at(nats.url(f"EVENTS{next(_streams)}")))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
