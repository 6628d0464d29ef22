"""The log on one SQLite file (design D5), shared by several processes through a fair turnstile."""

from everlog.adapters.sqlite.connections import FORMAT
from everlog.adapters.sqlite.settings import SqliteSettings
from everlog.adapters.sqlite.store import SqliteStore

__all__ = ["FORMAT", "SqliteSettings", "SqliteStore"]
