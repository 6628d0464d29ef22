"""`everlog worker`: every projection and processor of an application, until it is told to stop."""

import math
import signal
import threading
import time
from typing import Annotated

import typer

from everlog.app.worker import Lag, lags
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.projections import LAGS
from everlog.subscription.follower import LEASE_SECONDS

_LOOK_SECONDS = 0.1


@command(
    "worker",
    example="""
    everlog --app shop:platform worker
    everlog --app shop:platform worker --once
    """,
)
def worker(
    call: Call,
    *,
    lease: Annotated[
        float,
        typer.Option("--lease", metavar="SECONDS", min=0.1, help="After so long without a sign another takes over."),
    ] = LEASE_SECONDS,
    drain: Annotated[
        float, typer.Option("--drain", metavar="SECONDS", min=0, help="How long what is in hand may take at the end.")
    ] = 30.0,
    report: Annotated[
        float, typer.Option("--report", metavar="SECONDS", min=0, help="Tell the lag so often; 0: never.")
    ] = 10.0,
    once: Annotated[
        bool, typer.Option("--once", help="Stop when it has caught up, and no lane is to be tried again.")
    ] = False,
) -> int:
    """Run all projections and processors, in as many workers as you like. SIGTERM and Ctrl-C let them finish."""
    platform = call.application("a worker")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with platform.open(call.url, worker=True, lease_seconds=lease) as log:
        assert log.worker is not None
        call.output.note(f"worker {log.worker.owner} runs {', '.join(log.worker.followers) or 'nothing'}")
        if once:
            while not stopping.is_set() and not log.worker.drain(0.2, lanes=True):
                pass
        else:
            while not _told_to_stop(stopping, report or math.inf):
                call.output.note(", ".join(map(_told, lags(log.store))))
        finished = log.worker.stop(drain)
        call.output.listing(LAGS, lags(log.store))
    if not finished:
        call.output.warn(f"not all was finished within {drain:g} s: it will be handled again")
        return ExitCode.PARTIAL
    return ExitCode.OK


def _told_to_stop(stopping: threading.Event, seconds: float) -> bool:
    """Whether that came within so many seconds.

    Not by `stopping.wait`: a signal that comes just as it begins to wait does not end it, or waits in `set` for a lock
    that the wait holds.
    """
    until = time.monotonic() + seconds
    while not stopping.is_set() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_SECONDS))
    return stopping.is_set()


def _told(lag: Lag) -> str:
    lanes = f", {counted(lag.lanes, 'lane')}" if lag.lanes else ""
    return f"{lag.progress.name} {lag.progress.status}, {lag.events} behind{lanes}"
