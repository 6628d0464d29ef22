"""A real broker for all tests of this process, and a stream in it for each; logs in memory, where fsync is free."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from everlog.app.brokers import open_broker
from everlog.relay.contract import Broker
from everlog.testing.nats import Cluster, NatsNotFound, running
from tests.faults.powercut import memory_directory
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
def own_nats() -> Iterator[Cluster]:
    """For a test that harms it."""
    try:
        with running() as cluster:
            yield cluster
    except NatsNotFound as reason:
        pytest.skip(f"NOT TESTED ON NATS: {reason}")


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Takes the place of pytest's own."""
    with memory_directory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a log that is not there yet: on SQLite, or where `on_both` says so."""
    kind = getattr(request, "param", "sqlite")
    return database_of(tmp_path) if kind == "postgres" else f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def prefix() -> str:
    """No two streams of a server may keep one subject."""
    return f"out{next(_streams)}"


@pytest.fixture
def broker_url(nats: Cluster, prefix: str) -> str:
    return nats.url(prefix.upper())


@pytest.fixture
def connect() -> Iterator[Callable[[str], Broker]]:
    opened: list[Broker] = []

    def open_one(url: str) -> Broker:
        opened.append(open_broker(url))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def broker(connect: Callable[[str], Broker], broker_url: str) -> Broker:
    return connect(broker_url)
