"""everlog opens the transaction and commits it, or joins the one that is open."""

import os

import psycopg

from everlog import NoStream, Session
from examples.joining import TABLE, Issued, platform


def issue(acme: Session, connection: psycopg.Connection, number: str, cents: int) -> None:
    with acme.join(connection) as joined:
        connection.execute("INSERT INTO invoice VALUES (%s, %s)", (number, cents))
        joined.append(f"invoice-{number}", Issued(number, cents), expect=NoStream())


def main(url: str) -> None:
    with platform(url).open() as log, psycopg.connect(url, autocommit=True) as connection:
        acme = log.tenant("acme")
        connection.execute(TABLE)
        issue(acme, connection, "2026-1", 4200)
        with connection.transaction():  # yours, and both blocks join it
            issue(acme, connection, "2026-2", 100)
            issue(acme, connection, "2026-3", 200)
        print(connection.execute("SELECT number, cents FROM invoice ORDER BY number").fetchall())
        print([(e.data.number, e.data.cents) for e in acme.events(Issued)])


if __name__ == "__main__":
    main(os.environ["EVERLOG_STORE"])
