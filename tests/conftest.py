"""What any test may ask for."""

import signal
from collections.abc import Iterator

import pytest

from everlog.testing.postgres import Server
from tests.postgres import server


@pytest.fixture(scope="session")
def postgres_server() -> Server:
    """The PostgreSQL of this test process. A test that kills its server starts another, with `running()`."""
    return server.postgres_server()


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test alone."""
    with server.empty_database() as url:
        yield url


def pytest_configure() -> None:
    """Whoever runs the tests in the background ignores Ctrl-C, and so would all the programs that they interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    server.stop_server()
