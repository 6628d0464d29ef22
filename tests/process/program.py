"""A process that runs processes, and dies where it is told to; and one that starts it by the hundred.

Each line of its input is an order; a fork obeys it, and the exit code is the answer. What may be repeated is: inputs
carry request ids, so whoever comes after a death goes through the same story and finds what was done.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec

from tests.process.parts import MINUTE, NOON, Cancelled, Clock, Placed, TakenIn, quiet, shipping

SECONDS = 60
LEASE = 0.2  # of those that were killed, so that the next one need not wait


class Order(msgspec.Struct, frozen=True):
    """Die the `times`-th time this point is reached; at none, go through to the end."""

    url: str
    point: str = ""
    times: int = 0


class Trap:
    def __init__(self, order: Order) -> None:
        self._order, self._times = order, itertools.count(1)

    def __call__(self, point: str) -> None:
        if point == self._order.point and next(self._times) == self._order.times:
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL)


def tell(order: Order) -> None:
    """Three parcels: one that waits for ever, one that is taken in, one that is cancelled when its timer has fired."""
    clock = Clock()
    with shipping().open(order.url, worker=True, lease_seconds=LEASE, clock=clock, crash=Trap(order)) as log:
        acme = log.tenant("acme")
        for key in "pqr":
            acme.append(f"order-{key}", Placed(key), request_id=f"placed {key}")
        quiet(log, clock)
        acme.append("order-q", TakenIn("q"), request_id="taken in")
        quiet(log, clock)
        for minutes in (10, 15, 20):
            clock.now = NOON + minutes * MINUTE
            quiet(log, clock)
        acme.append("order-r", Cancelled("r"), request_id="cancelled")
        quiet(log, clock)
        clock.now = NOON + 30 * MINUTE
        quiet(log, clock)


class Nursery(AbstractContextManager["Nursery"]):
    """Runs one order at a time, in a fork of a process that has done nothing but import."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.process.program"]
        self._waiting = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, order: Order) -> int:
        """Its exit code: less than 0 for the signal that ended it."""
        assert self._waiting.stdin is not None
        assert self._waiting.stdout is not None
        print(msgspec.json.encode(order).decode(), file=self._waiting.stdin, flush=True)
        return int(self._waiting.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._waiting.communicate()


def main(orders: Iterator[str]) -> None:
    for line in orders:
        child = os.fork()
        if not child:
            _obey(msgspec.json.decode(line, type=Order))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: Order) -> None:
    signal.alarm(SECONDS)  # its default is death
    os.dup2(2, 1)
    try:
        tell(order)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main(sys.stdin)
