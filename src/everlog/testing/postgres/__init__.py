"""A real PostgreSQL for tests and development, from a wheel or from Debian, also for root.

`with running() as server:` gives a new one and removes it; `running(Path("data"))` keeps what is in it.
"""

from everlog.testing.postgres.binaries import PostgresNotFound
from everlog.testing.postgres.running import running
from everlog.testing.postgres.server import PostgresFailed, Server

__all__ = ["PostgresFailed", "PostgresNotFound", "Server", "running"]
