"""A real broker for all tests of this process, and a stream in it for each."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from everlog.testing.nats import Cluster
from tests.feed.parts import Copy
from tests.following.conftest import tmp_path, url
from tests.nats.server import nats_server

_streams = itertools.count(1)
_ = tmp_path, url  # fixtures: in memory, on either store


@pytest.fixture(scope="session")
def nats() -> Iterator[Cluster]:
    with nats_server() as cluster:
        yield cluster


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
