"""A pool in front of the server."""

from collections.abc import Callable, Iterator

import pytest

from everlog.testing.postgres import Server
from tests.postgres.pgbouncer import pgbouncer, through


@pytest.fixture(scope="session")
def pooled(postgres_server: Server) -> Iterator[Callable[[str], str]]:
    """Turns the URL of a database into one that goes through PgBouncer, which pools by transaction."""
    with pgbouncer(postgres_server) as folder:
        yield lambda url: through(url, folder)
