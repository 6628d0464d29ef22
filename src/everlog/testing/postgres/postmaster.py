"""A running server as seen from outside: its lock file, its socket, its processes."""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lock:
    """What a server writes into `postmaster.pid`."""

    pid: int
    port: int
    socket: Path
    ready: bool


def read_lock(data: Path) -> Lock | None:
    """None if there is none, or a server is only just writing it."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8:
        return None
    return Lock(int(lines[0]), int(lines[3]), Path(lines[4]), ready=lines[7].strip() == "ready")


def answers(lock: Lock) -> bool:
    """Whether somebody listens: the lock of a server that was killed stays behind."""
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(lock.socket / f".s.PGSQL.{lock.port}")) == 0


def lives(pid: int) -> bool:
    """Whether the process still holds anything: one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    found = _stat(pid)
    return found is None or found[0] not in "ZX"


def kill_family(pid: int) -> list[int]:
    """SIGKILL for a process and its children, and who that was. On systems without /proc its children are spared."""
    os.kill(pid, signal.SIGSTOP)  # so that it has no more of them meanwhile
    family = [pid, *(child for child in _pids() if (found := _stat(child)) and found[1] == pid)]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    return family


def _pids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _stat(pid: int) -> tuple[str, int] | None:
    """State and parent of a process."""
    try:
        line = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = line.rpartition(") ")[2].split()[:2]
    return state, int(parent)
