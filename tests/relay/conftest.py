"""A real broker for all tests of this process, and a stream in it for each; logs in memory, where fsync is free."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from everlog.app.brokers import open_broker
from everlog.relay.contract import Broker
from everlog.testing.nats import Cluster
from tests.following.conftest import tmp_path, url
from tests.nats.server import nats_server

_streams = itertools.count(1)
_ = tmp_path, url  # fixtures: in memory, on either store


@pytest.fixture(scope="session")
def nats() -> Iterator[Cluster]:
    with nats_server() as cluster:
        yield cluster


@pytest.fixture
def own_nats() -> Iterator[Cluster]:
    """For a test that harms it."""
    with nats_server() as cluster:
        yield cluster


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
