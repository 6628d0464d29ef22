"""One server that can be started, stopped, killed, frozen and wiped, and that goes with the process that wanted it."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everlog.testing.watching import watch

PATIENCE = 60.0

# Whoever reads end of file is alone: kill the server, and remove its folder if nobody else wants it; the last one, all.
WATCH = """
read -r _
kill -KILL "$1"
[ "$3" = keep ] || { rm -rf -- "$2"; rmdir -- "$(dirname "$2")"; }
"""


class NatsFailed(Exception):
    """The server did not do as told; the message ends with what it logged last."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens: for clients, for the other nodes, for who looks at its state."""

    host: str
    client: int
    routes: int
    monitor: int


class Node:
    """One server on a folder of its own. `running` makes these.

    `inside` is the command that runs another one in the node's network namespace, if it has one.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        program: Path,
        address: Address,
        *,
        routes: Sequence[Address],
        sync_interval: str,
        temporary: bool,
        inside: Sequence[str] = (),
    ) -> None:
        self.name, self.folder, self.address = name, folder, address
        self._program, self._temporary, self._inside = program, temporary, inside
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "server.conf"
        self._config.write_text(_config(name, self.store, address, routes, sync_interval))

    @property
    def store(self) -> Path:
        """JetStream's own folder."""
        return self.folder / "store"

    @property
    def log(self) -> Path:
        """The file of what the server says."""
        return self.folder / "server.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None or not self.is_running:
            raise NatsFailed(f"node {self.name} does not run")
        return self._process.pid

    def launch(self) -> None:
        """Start, and do not wait: a node of a cluster is ready only with others."""
        if self.is_running:
            return
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C is for us, and we say when the server goes.
            self._process = subprocess.Popen(
                [*self._inside, self._program, "-c", self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watch(self._process.pid)

    def start(self) -> None:
        """Start, after `stop` or `kill` too, and wait until the server takes clients and has read its store."""
        self.launch()
        self.wait(self.is_ready, "get ready")

    def stop(self) -> None:
        """Let it write everything down and end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone, so that `start` works."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does, with its connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Remove all it has stored. It must not run."""
        if self.is_running:
            raise NatsFailed(f"node {self.name} runs: stop it before its store is removed")
        shutil.rmtree(self.store, ignore_errors=True)

    def is_ready(self) -> bool:
        if not self.is_running:
            self._forget()
            raise NatsFailed(f"node {self.name} in {self.folder} did not start\n{self._last_words()}")
        return self.ask("/healthz?js-enabled-only=true") is not None

    def ask(self, path: str) -> Any:
        """The answer of its monitoring page, `None` while it has none or says that it is not well."""
        connection = http.client.HTTPConnection(self.address.host, self.address.monitor, timeout=1.0)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return json.loads(answer.read()) if answer.status == 200 else None
            except (OSError, http.client.HTTPException, ValueError):
                return None

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > deadline:
                raise NatsFailed(f"node {self.name} did not {what} within {PATIENCE:.0f} s\n{self._last_words()}")
            time.sleep(0.005)

    def _end(self, number: int) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a frozen one would not hear of its end
            self.wait(lambda: process.poll() is not None, "end")
        self._forget()

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


def _config(name: str, store: Path, at: Address, routes: Sequence[Address], sync_interval: str) -> str:
    told = f"""server_name: {json.dumps(name)}
listen: "{at.host}:{at.client}"
http: "{at.host}:{at.monitor}"
jetstream {{ store_dir: {json.dumps(str(store))}, sync_interval: {sync_interval} }}
"""
    if routes:
        others = ", ".join(f'"nats://{one.host}:{one.routes}"' for one in routes)
        told += f'cluster {{ name: "everlog", listen: "{at.host}:{at.routes}", routes: [{others}] }}\n'
    return told
