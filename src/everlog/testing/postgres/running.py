"""From nothing to a running server: a folder that the server's user may enter, `initdb`, start."""

import contextlib
import fcntl
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from everlog.testing.postgres.binaries import Binaries, RunAs, find_binaries, may, server_user
from everlog.testing.postgres.server import USER, PostgresFailed, Server

# On disk also where /tmp is memory, and short, as the path of a socket must be.
TEMPORARY = Path("/var/tmp")
KEPT = Path("/var/lib")
LONGEST_SOCKET = 103  # bytes on macOS; Linux allows 107


@contextlib.contextmanager
def running(
    folder: Path | None = None, *, settings: Mapping[str, str] | None = None, tcp: bool = False
) -> Iterator[Server]:
    """A server while the block runs.

    Without a folder it is new, and removed afterwards. With one, data persist, and a server that somebody already runs
    there is used as it is and left running. `tcp`: listen on 127.0.0.1 too. Raises `PostgresNotFound`.
    """
    run_as = server_user()
    home = _new_folder(TEMPORARY, run_as) if folder is None else _kept_folder(folder, run_as)
    try:
        with _started(home, run_as, settings=settings or {}, tcp=tcp, temporary=folder is None) as server:
            yield server
    finally:
        if folder is None:
            shutil.rmtree(home)


@contextlib.contextmanager
def _started(home: Path, run_as: RunAs, *, settings: Mapping[str, str], tcp: bool, temporary: bool) -> Iterator[Server]:
    made_by = home / "data" / "PG_VERSION"
    with contextlib.ExitStack() as end:
        with _alone(home):
            binaries = find_binaries(run_as, major=int(made_by.read_text()) if made_by.exists() else None)
            if not made_by.exists():
                _initialise(home / "data", binaries, durably=not temporary)
            port = _free_port() if tcp else 5432
            place = end.enter_context(_socket_folder(home, port, run_as))
            server = Server(home, binaries, socket=place, port=port, tcp=tcp, settings=settings, temporary=temporary)
            if not server.is_adopted():
                end.callback(server.kill if temporary else server.stop)
                server.start()
        yield server


def _new_folder(parent: Path, run_as: RunAs) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="everlog-postgres-", dir=parent))
    _give(folder, run_as)
    return folder


def _kept_folder(folder: Path, run_as: RunAs) -> Path:
    """The folder, made where it is missing. Where root's server may not go it is a link to one where it may."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            _give(folder, run_as)
            if not may(run_as, "-w", folder):
                folder.rmdir()
                folder.symlink_to(_new_folder(KEPT, run_as))
    home = folder.resolve()
    if not may(run_as, "-w", home):
        raise PostgresFailed(
            f"the server's user (uid {run_as.get('user')}) may not write to {home}: give another folder"
        )
    return home


def _give(folder: Path, run_as: RunAs) -> None:
    if run_as:
        os.chown(folder, run_as["user"], run_as["group"])


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two processes may want the same folder at once: one starts the server, the other finds it."""
    with (home / "starting.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _initialise(data: Path, binaries: Binaries, *, durably: bool) -> None:
    draft = data.with_name("data.draft")
    if draft.exists():  # somebody was killed in the middle
        shutil.rmtree(draft)
    command: list[str | Path] = [binaries.folder / "initdb", "-D", draft, "-U", USER, "-A", "trust", "-E", "UTF8"]
    command += [] if durably else ["--no-sync"]
    for locale in ("C.UTF-8", "C"):  # not every system has the first
        made = subprocess.run(
            [*command, f"--locale={locale}"], cwd="/", capture_output=True, text=True, **binaries.run_as
        )
        if made.returncode == 0:
            draft.rename(data)
            return
    raise PostgresFailed(f"initdb failed in {data.parent}\n{made.stderr}")


@contextlib.contextmanager
def _socket_folder(home: Path, port: int, run_as: RunAs) -> Iterator[Path]:
    """The server's own folder where the path is short enough for a socket, else another."""
    if len(os.fsencode(home / f".s.PGSQL.{port}")) <= LONGEST_SOCKET:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="everlog-", dir="/tmp", ignore_cleanup_errors=True) as short:
        _give(Path(short), run_as)
        yield Path(short)


def _free_port() -> int:
    """One that no client is given by chance while the server is down."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
