"""An invoice in your table and its event in the log, committed together: with psycopg, SQLAlchemy and Django.

Each runs on the database that EVERLOG_STORE names, here a temporary one:

    python -m everlog.testing.postgres run -- python -m examples.joining.with_psycopg
"""

from everlog import Platform, event


@event("invoice.issued")
class Issued:
    number: str
    cents: int


TABLE = "CREATE TABLE IF NOT EXISTS invoice (number TEXT PRIMARY KEY, cents INTEGER NOT NULL)"


def platform(url: str) -> Platform:
    return Platform(url, Issued)
