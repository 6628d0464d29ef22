"""The log in a PostgreSQL database, for many processes."""

from everlog.adapters.postgres.migrate import FORMAT
from everlog.adapters.postgres.roles import prepare_roles
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.store import PostgresStore, log_exists, migrate_log

__all__ = ["FORMAT", "PostgresSettings", "PostgresStore", "log_exists", "migrate_log", "prepare_roles"]
