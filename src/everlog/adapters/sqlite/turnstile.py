"""A fair lock between processes, made of two lock files: take `next`, take `write`, release `next`.

Whoever waits for `write` holds `next`, so a busy writer that comes straight back finds the turnstile taken and queues
like everyone else; `busy_timeout` alone lets it starve the others. It also keeps two checkpointers apart, which
SQLite up to 3.51.2 needs (the WAL-reset corruption bug).
"""

import fcntl
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everlog.core.errors import StoreUnavailable

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.001


class Turnstile:
    """One database's turnstile. Thread-safe: every holder has its own pair of open files, so threads queue too."""

    def __init__(self, database: Path, timeout: float) -> None:
        self._paths = (f"{database}-next.lock", f"{database}-write.lock")
        self._timeout = timeout
        self._idle: deque[tuple[int, int]] = deque()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the right to write; raises `StoreUnavailable` when others keep it longer than the timeout."""
        following, write = pair = self._pair()
        try:
            until = time.monotonic() + self._timeout
            self._lock(following, until, write)
            try:
                self._lock(write, until, write)
            finally:
                fcntl.flock(following, fcntl.LOCK_UN)
            try:
                yield
            finally:
                fcntl.flock(write, fcntl.LOCK_UN)
        finally:
            self._idle.append(pair)

    def close(self) -> None:
        while self._idle:
            for file in self._idle.pop():
                os.close(file)

    def _pair(self) -> tuple[int, int]:
        try:
            return self._idle.pop()
        except IndexError:
            following = _open(self._paths[0])
            try:
                return following, _open(self._paths[1])
            except BaseException:
                os.close(following)
                raise

    def _lock(self, file: int, until: float, write: int) -> None:
        # Polled, because a blocking flock cannot be given a time limit; fairness comes from `next`, not from here.
        pause = _FIRST_PAUSE
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise StoreUnavailable(
                        f"the write lock was not free for {self._timeout:g} s, {_holder(write)} has it: "
                        "end that process or its long transaction, then try again"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot open the lock file {path}: {error.strerror}: give this process the right to write there"
        ) from error


def _holder(file: int) -> str:
    """Who holds the lock, as Linux tells it in /proc/locks; elsewhere nobody can say."""
    inode = os.fstat(file).st_ino
    try:
        held = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return "another process"
    for fields in map(str.split, held):
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return f"process {fields[4]}"
    return "another process"
