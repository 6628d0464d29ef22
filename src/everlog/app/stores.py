"""Which adapter serves a URL: the one place that imports by scheme, so that an adapter not used costs nothing."""

import re
from importlib.util import find_spec
from typing import NamedTuple, Protocol
from urllib.parse import quote

from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import Misconfigured
from everlog.process.timers import Timers
from everlog.processing.contract import Desk
from everlog.projection.contract import MendableStates, Shadows, Tables
from everlog.relay.state import Relays
from everlog.store.contract import Inline, Store
from everlog.store.exact import Exact
from everlog.subscription.contract import Checkpoints
from everlog.telemetry import Counters


class Backend(Store, Protocol):
    """One database: the log, and what those who follow it keep beside it."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def fold_states(self) -> MendableStates: ...

    @property
    def tables(self) -> Tables: ...

    @property
    def shadows(self) -> Shadows: ...

    @property
    def desk(self) -> Desk: ...

    @property
    def timers(self) -> Timers: ...

    @property
    def relays(self) -> Relays: ...

    @property
    def exact(self) -> Exact: ...


class Migrated(NamedTuple):
    """The format of a log's tables, and the numbered steps that brought it there just now."""

    format: int
    steps: list[int]


_PASSWORD = re.compile(r"(://[^/:@?]*:).*@", re.S)  # whatever characters it holds, up to the last @
_PASSWORD_OPTION = re.compile(r"([?&](?:ssl)?password=)[^&]*")
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
    raise Misconfigured(f"{shown(url)!r} names no store everlog knows: {_KNOWN}")


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
    raise Misconfigured(f"{shown(url)!r} names no store everlog knows: {_KNOWN}")


def migrate_store(url: str) -> Migrated:
    """Bring the tables of the log at `url` to what this everlog writes, and make them where there are none."""
    match url.partition(":")[0]:
        case "sqlite" | "memory":
            from everlog.adapters.sqlite import FORMAT

            made = not store_exists(url)
            open_store(url).close()
            return Migrated(FORMAT, [FORMAT] if made else [])
        case "postgresql" | "postgres":
            _need_psycopg()
            from everlog.adapters.postgres import FORMAT, PostgresSettings, migrate_log

            return Migrated(FORMAT, migrate_log(PostgresSettings.from_url(url)))
    raise Misconfigured(f"{shown(url)!r} names no store everlog knows: {_KNOWN}")


def prepare_roles(url: str, *, tenant_role: str | None = None, engine_role: str | None = None) -> None:
    """Make the roles where they are missing, and grant them what they need of the log's tables, which are there."""
    if tenant_role is None and engine_role is None:
        return
    if url.partition(":")[0] not in ("postgresql", "postgres"):
        raise Misconfigured(f"{shown(url)!r} knows no roles: PostgreSQL does")
    _need_psycopg()
    from everlog.adapters import postgres

    settings = postgres.PostgresSettings.from_url(url)
    postgres.prepare_roles(settings, tenant_role=tenant_role, engine_role=engine_role)


def shown(url: str) -> str:
    """The URL for people: as it was given, but for its password."""
    return _PASSWORD_OPTION.sub(r"\1…", _PASSWORD.sub(r"\1…@", url))


def place_of(url: str) -> str:
    """Where a store that outlives this process is, for people and for comparing: no password, no options."""
    match url.partition(":")[0]:
        case "sqlite" | "memory":
            from everlog.adapters.sqlite import SqliteSettings

            path = SqliteSettings.from_url(url).path
            if path is None:
                raise Misconfigured("memory: is gone when this process ends: name a file or a database")
            return f"sqlite:///{quote(str(path.resolve()))}"
        case "postgresql" | "postgres":
            _need_psycopg()
            from everlog.adapters.postgres import PostgresSettings

            return PostgresSettings.from_url(url).place
    raise Misconfigured(f"{shown(url)!r} names no store everlog knows: {_KNOWN}")


def _need_psycopg() -> None:
    if find_spec("psycopg") is None or find_spec("psycopg_pool") is None:
        raise Misconfigured("a log on PostgreSQL needs psycopg: pip install everlog[postgres]")
