"""Which adapter serves a URL: the one place that imports by scheme, so that an adapter not used costs nothing."""

from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import Misconfigured
from everlog.store.contract import Store
from everlog.telemetry import Counters


def open_store(
    url: str, *, clock: Clock = system_clock, crash: CrashPoint = nothing, counters: Counters | None = None
) -> Store:
    """Open (and create, where that is safe) the log at `url`: `memory:`, `sqlite:///shop.db`."""
    scheme = url.partition(":")[0]
    if scheme in ("sqlite", "memory"):
        from everlog.adapters.sqlite import SqliteSettings, SqliteStore

        return SqliteStore(SqliteSettings.from_url(url), clock=clock, crash=crash, counters=counters or Counters())
    raise Misconfigured(f"{url!r} names no store everlog knows: write memory: or sqlite:///shop.db")
