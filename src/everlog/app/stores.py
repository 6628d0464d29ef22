"""Which adapter serves a URL: the one place that imports by scheme, so that an adapter not used costs nothing."""

from importlib.util import find_spec
from typing import Protocol

from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import Misconfigured
from everlog.processing.contract import Desk
from everlog.projection.contract import FoldStates
from everlog.store.contract import Inline, Store
from everlog.subscription.contract import Checkpoints
from everlog.telemetry import Counters


class Backend(Store, Protocol):
    """One database: the log, and what those who follow it keep beside it."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def fold_states(self) -> FoldStates: ...

    @property
    def desk(self) -> Desk: ...


_KNOWN = "write memory:, sqlite:///shop.db or postgresql://user@host/database"


def open_store(
    url: str,
    *,
    clock: Clock = system_clock,
    crash: CrashPoint = nothing,
    counters: Counters | None = None,
    inline: Inline | None = None,
) -> Backend:
    """Open (and create, where that is safe) the log at `url`: `memory:`, `sqlite:///shop.db`, `postgresql://…`."""
    match url.partition(":")[0]:
        case "sqlite" | "memory":
            from everlog.adapters.sqlite import SqliteSettings, SqliteStore

            settings = SqliteSettings.from_url(url)
            return SqliteStore(settings, clock=clock, crash=crash, counters=counters or Counters(), inline=inline)
        case "postgresql" | "postgres":
            _need_psycopg()
            from everlog.adapters.postgres import PostgresSettings, PostgresStore

            return PostgresStore(PostgresSettings.from_url(url), clock=clock, crash=crash, inline=inline)
    raise Misconfigured(f"{url!r} names no store everlog knows: {_KNOWN}")


def store_exists(url: str) -> bool:
    """Whether there is a log at `url`, without making one; `memory:` is made anew by every process."""
    match url.partition(":")[0]:
        case "sqlite" | "memory":
            from everlog.adapters.sqlite import SqliteSettings

            path = SqliteSettings.from_url(url).path
            return path is None or path.exists()
        case "postgresql" | "postgres":
            _need_psycopg()
            from everlog.adapters.postgres import PostgresSettings, log_exists

            return log_exists(PostgresSettings.from_url(url))
    raise Misconfigured(f"{url!r} names no store everlog knows: {_KNOWN}")


def _need_psycopg() -> None:
    if find_spec("psycopg") is None or find_spec("psycopg_pool") is None:
        raise Misconfigured("a log on PostgreSQL needs psycopg: pip install everlog[postgres]")
