"""Starts `program` by the hundred: one process imports everything and waits, each run is a fork of it.

A start of Python with everlog takes longer than what is to be killed. The fork knows nothing of earlier runs, because
the process it comes from has done nothing but import.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import AbstractContextManager

import msgspec

from tests.following import program
from tests.following.program import Orders

SECONDS = 60


class Order(msgspec.Struct, frozen=True):
    """What one child is to do, where what it says goes, and when it is killed if it has not ended by then."""

    orders: Orders
    told: str
    kill_after: float | None


class Nursery(AbstractContextManager["Nursery"]):
    """Runs one process at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.following.nursery"]
        self._waiting = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, orders: Orders, told: str, kill_after: float | None = None) -> int:
        """Its exit code, once it has ended: less than 0 for the signal that ended it."""
        assert self._waiting.stdin is not None
        assert self._waiting.stdout is not None
        order = msgspec.json.encode(Order(orders, told, kill_after)).decode()
        print(order, file=self._waiting.stdin, flush=True)
        return int(self._waiting.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._waiting.communicate()


# ---- The process that waits, and its children.


def wait_for_orders() -> None:
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        child = os.fork()
        if not child:
            _obey(order)
        if order.kill_after is not None:
            time.sleep(order.kill_after)  # not to wait for anything: this is the moment of its death
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: Order) -> None:
    signal.alarm(SECONDS)  # its default is death
    for path, descriptor in ((os.devnull, 0), (order.told, 1), (order.told, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
    try:
        program.main(order.orders)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    wait_for_orders()
