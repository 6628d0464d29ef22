"""A second server that follows the first one by streaming replication, and can take over."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from everlog.testing.postgres import Server, running
from everlog.testing.postgres.binaries import find_binaries, server_user

PATIENCE = 20.0


@contextlib.contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    """In step: from here on the primary acknowledges nothing that the standby has not made durable."""
    run_as = server_user()
    with tempfile.TemporaryDirectory(prefix="everlog-standby-", dir="/var/tmp") as name:
        folder = Path(name)
        if run_as:
            shutil.chown(folder, run_as["user"], run_as["group"])
        program = find_binaries(run_as, major=primary.version[0]).folder / "pg_basebackup"
        source = f"host={primary.socket} port={primary.port} user=postgres"
        command: list[str | Path] = [
            program,
            "-d",
            source,
            "-D",
            folder / "data",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]
        subprocess.run(command, cwd="/", check=True, capture_output=True, **run_as)
        with running(folder, tcp=True) as standby:
            with psycopg.connect(primary.url(), autocommit=True) as session:
                session.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                session.execute("SELECT pg_reload_conf()")
                until(lambda: ask(session, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1)
            yield standby


def promote(standby: Server) -> None:
    with psycopg.connect(standby.url(), autocommit=True) as session:
        # It has nobody to wait for, though it was told so with the rest of the primary's settings.
        session.execute("ALTER SYSTEM RESET synchronous_standby_names")
        assert ask(session, "SELECT pg_promote()") is True


def hosts(*servers: Server, database: str = "postgres") -> str:
    """A URL that names several servers, to be tried in this order."""
    listed = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres@{listed}/{database}"


def ask(session: psycopg.Connection, question: str) -> object:
    row = session.execute(question).fetchone()
    return row and row[0]


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
