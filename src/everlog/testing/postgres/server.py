"""A server that can be started, stopped and killed, and that goes when the process that wanted it has gone."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from everlog.testing.postgres.binaries import Binaries
from everlog.testing.postgres.postmaster import answers, kill_family, lives, read_lock
from everlog.testing.watching import watch

USER = "postgres"
PATIENCE = 60.0

# Whoever reads end of file is alone: stop the server, and remove its folder if nobody else wants it.
WATCH = """
read -r _
if [ "$3" = keep ]; then kill -INT "$1"; else kill -QUIT "$1"; fi
tries=600
while [ -e "$2/data/postmaster.pid" ] && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
[ "$3" = keep ] || rm -rf -- "$2"
"""


class PostgresFailed(Exception):
    """The server did not do as told; the message ends with what it logged last."""


class Server:
    """A server on a folder: durable, and open to everybody who may enter the folder of its socket.

    `running` makes these. `temporary`: the folder goes with the process that started the server.
    """

    def __init__(
        self,
        folder: Path,
        binaries: Binaries,
        *,
        socket: Path,
        port: int,
        tcp: bool,
        settings: Mapping[str, str],
        temporary: bool,
    ) -> None:
        self.folder = folder
        self.socket = socket
        self.port = port
        self._binaries = binaries
        self._settings = {"listen_addresses": "127.0.0.1" if tcp else "", **settings}
        self._temporary = temporary
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> tuple[int, ...]:
        """Such as (18, 4)."""
        return self._binaries.version

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file of what the server says."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The postmaster's."""
        pid = self._running()
        if pid is None:
            raise PostgresFailed(f"no server runs in {self.folder}")
        return pid

    def url(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """Where clients find a database: at the socket, or at 127.0.0.1 if the server was started with `tcp`."""
        host = "127.0.0.1" if tcp else quote(str(self.socket), safe="")
        return f"postgresql://{USER}@{host}:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start, after `stop` or `kill` too, and wait until clients can connect, which may take a recovery."""
        command: list[str | Path] = [self._binaries.folder / "postgres", "-D", self.data]
        command += ["-k", self.socket, "-p", str(self.port)]
        command += [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C is for us, and we say when the server goes.
            self._process = subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._binaries.run_as,
            )
        self._watch(self._process.pid)
        self._wait(self._is_ready, "get ready")

    def stop(self) -> None:
        """End every session, write everything down, and stop."""
        pid = self._running()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            self._wait(lambda: self._is_gone(pid), "stop")
        self._forget()

    def kill(self) -> None:
        """SIGKILL for the server and all its processes; returns when none is left, so that `start` works."""
        pid = self._running()
        if pid is not None:
            family = kill_family(pid)
            self._wait(lambda: all(map(self._is_gone, family)), "die")
        self._forget()

    def is_adopted(self) -> bool:
        """Whether somebody else already runs a server in this folder; then this one is that."""
        lock = read_lock(self.data)
        if lock is None or not answers(lock):
            return False
        self.socket, self.port = lock.socket, lock.port
        self._wait(lambda: (lock := read_lock(self.data)) is not None and lock.ready, "get ready")
        return True

    def _running(self) -> int | None:
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        lock = read_lock(self.data)
        return lock.pid if lock is not None and answers(lock) else None

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            self._forget()
            raise PostgresFailed(f"the server in {self.folder} did not start\n{self._last_words()}")
        lock = read_lock(self.data)
        return lock is not None and lock.pid == self._process.pid and lock.ready

    def _is_gone(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is not None
        return not lives(pid)

    def _wait(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > deadline:
                raise PostgresFailed(
                    f"the server in {self.folder} did not {what} within {PATIENCE:.0f} s\n{self._last_words()}"
                )
            time.sleep(0.005)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def _watch(self, pid: int) -> None:
        self._watcher = watch(WATCH, str(pid), str(self.folder), "remove" if self._temporary else "keep")

    def _forget(self) -> None:
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
        if self._process is not None:
            self._process.wait()
        self._process = self._watcher = None
