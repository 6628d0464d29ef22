"""The log in a PostgreSQL database, for many processes."""

from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.store import PostgresStore, log_exists

__all__ = ["PostgresSettings", "PostgresStore", "log_exists"]
