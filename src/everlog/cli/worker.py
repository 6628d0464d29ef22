"""`everlog worker`: every projection and processor of an application, until it is told to stop."""

import math
import signal
import threading
import time
from typing import Annotated

import typer

from everlog.app.worker import Lag, Worker, lags
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.projections import LAGS
from everlog.store.exact import refuse_closed
from everlog.subscription.follower import LEASE_SECONDS

_LOOK_SECONDS = 0.1
_ONCE_SECONDS = 0.2


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
    """Run all projections and processors, in as many workers as you like. SIGTERM and Ctrl-C let them finish.

    With --once exits with 7 when one of them has failed or stopped.
    """
    platform = call.application("a worker")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with platform.open(call.url, worker=True, lease_seconds=lease) as log:
        assert log.worker is not None
        refuse_closed(log.store.exact.gate().closed)  # it would own nothing, and wait for ever
        call.output.note(f"worker {log.worker.owner} runs {', '.join(log.worker.followers) or 'nothing'}")
        if once:
            _finish(call, log.worker, stopping)
        else:
            while not _told_to_stop(stopping, report or math.inf):
                call.output.note(", ".join(map(_told, lags(log.store))))
        finished = log.worker.stop(drain)
        found = lags(log.store)
        call.output.listing(LAGS, found)
    if not finished:
        call.output.warn(f"not all was finished within {drain:g} s: it will be handled again")
        return ExitCode.PARTIAL
    ill = [one.progress for one in found if one.progress.status in ("failed", "stopped")]
    if once and ill:
        call.output.warn(", ".join(f"{one.name} {one.status} at position {one.failed_position}" for one in ill))
        return ExitCode.PARTIAL
    return ExitCode.OK


def _finish(call: Call, worker: Worker, stopping: threading.Event) -> None:
    """Until all is done, by whoever owns it: a lease that a dead worker left ends, and then it is ours."""
    waited = False
    while not stopping.is_set() and not worker.drain(_ONCE_SECONDS, everything=True):
        theirs = [name for name, one in worker.followers.items() if one.owns is False]
        if theirs and not waited:
            waited = True
            call.output.note(f"waiting for another worker to get on with {', '.join(theirs)}, or for its lease to end")


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
