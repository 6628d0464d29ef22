"""PgBouncer in front of a server, pooling by transaction: what many teams have between them and PostgreSQL."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from everlog.testing.postgres import Server
from everlog.testing.postgres.binaries import server_user

CONFIGURATION = """
[databases]
* = host={server.socket} port={server.port} user=postgres
[pgbouncer]
unix_socket_dir = {folder}
listen_port = {server.port}
auth_type = any
pool_mode = transaction
default_pool_size = {size}
"""


@contextlib.contextmanager
def pgbouncer(server: Server, *, size: int = 4) -> Iterator[str]:
    """The folder of its socket: `through(url, folder)` leads there. `size`: sessions with the server per database."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        pytest.skip("NOT TESTED THROUGH PGBOUNCER: it is in no wheel; run `apt-get install pgbouncer`")
    run_as = server_user()
    with tempfile.TemporaryDirectory(prefix="everlog-bouncer-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sockets, configuration, log = folder / "s", folder / "pgbouncer.ini", folder / "log"
        sockets.mkdir()
        if run_as:
            shutil.chown(sockets, run_as["user"], run_as["group"])
        configuration.write_text(CONFIGURATION.format(server=server, folder=sockets, size=size))
        with log.open("wb") as output:
            process = subprocess.Popen([program, configuration], cwd="/", stdout=output, stderr=output, **run_as)
        try:
            _wait(process, sockets, server, log)
            yield str(sockets)
        finally:
            process.kill()
            process.wait()


def through(url: str, folder: str) -> str:
    """The same database, by way of the pool whose socket lies in `folder`."""
    before, host_and_rest = url.split("@")
    return f"{before}@{folder.replace('/', '%2F')}:{host_and_rest.rpartition(':')[2]}"


def _wait(process: "subprocess.Popen[bytes]", folder: Path, server: Server, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(through(server.url(), str(folder))).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PgBouncer does not answer: {error}\n{log.read_text()}") from error
            time.sleep(0.02)
        else:
            return
