"""Starts workloads under the shim by the hundred: one process imports everything and waits, each run is a fork of it.

A start of Python with everlog takes ten times as long as the workload. The fork knows nothing of earlier runs, because
the process it comes from has done nothing but import; `run_under_shim` starts a fresh one and must see the same.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from everlog.adapters.sqlite import connections
from tests.faults import workload
from tests.faults.run import Outcome, When, executable, fault_settings, outcome_of, shim_environment

SECONDS = 60


class Order(NamedTuple):
    """What one child is to do."""

    arguments: Sequence[str]
    settings: Mapping[str, str]
    acks: str
    errors: str


class Nursery(AbstractContextManager["Nursery"]):
    """Runs one workload at a time. With a mutant's name it runs a store that is broken on purpose: see `MUTANTS`."""

    def __init__(self, mutant: str = "") -> None:
        self._waiting = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery", mutant],
            cwd=Path(__file__).parents[2],
            executable=executable(sys.executable),
            env=shim_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        log: Path,
        kill_at: int | None = None,
        when: When = "before",
        fail: str | None = None,
    ) -> Outcome:
        """As `run_under_shim`, with the arguments of `workload`."""
        start = log.stat().st_size if log.exists() else 0
        with tempfile.TemporaryDirectory(prefix="everlog-nursery-") as scratch:
            acks, errors = Path(scratch, "acks"), Path(scratch, "errors")
            settings = fault_settings(directory, log, kill_at, when, fail)
            returncode = self._ask(Order(arguments, settings, str(acks), str(errors)))
            return outcome_of(returncode, acks.read_bytes(), errors.read_bytes(), log, start)

    def _ask(self, order: Order) -> int:
        assert self._waiting.stdin is not None
        assert self._waiting.stdout is not None
        print(json.dumps(order), file=self._waiting.stdin, flush=True)
        exit_code = self._waiting.stdout.readline()
        if not exit_code:
            raise RuntimeError("the nursery is gone: its standard error says why")
        return int(exit_code)

    def __exit__(self, *_: object) -> None:
        self._waiting.communicate()


# ---- Stores that the hunt has to see through, each without one of the things that make a found log durable.


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


MUTANTS: Mapping[str, tuple[object, str, Callable[..., None]]] = {
    "trusts what it finds": (connections.Connections, "_settle", lambda self: None),
    "syncs what it finds and does not write it again": (connections, "_write_again", _sync),
    "leaves the folder to SQLite": (connections, "_sync_folder", lambda folder: None),
}


# ---- The process that waits, and its children.


def wait_for_orders(mutant: str) -> None:
    if mutant:
        setattr(*MUTANTS[mutant])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _obey(Order(*json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: Order) -> None:
    signal.alarm(SECONDS)  # its default is death
    for path, descriptor in ((os.devnull, 0), (order.acks, 1), (order.errors, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
    try:
        os.environ.update(order.settings)
        ctypes.CDLL(None).everlog_fault_start()
        workload.main(*order.arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    wait_for_orders(sys.argv[1])
