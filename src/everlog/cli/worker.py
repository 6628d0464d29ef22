"""`everlog worker`: every projection and processor of an application, until it is told to stop."""

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import typer

from everlog.app.log import Log
from everlog.app.relaying import relay_troubles
from everlog.app.worker import Lag, Worker
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode, usage
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.projections import LAGS
from everlog.store.exact import refuse_closed
from everlog.subscription.follower import LEASE_SECONDS

BrokerOption = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="Where relays send, as nats://host:4222/EVENTS. Or EVERLOG_BROKER."),
]

_LOOK_SECONDS = 0.1
_ONCE_SECONDS = 0.2


@command(
    "worker",
    example="""
    everlog --app shop:platform worker
    everlog --app shop:platform worker --once
    everlog --app mails:platform --store sqlite:///mails.db worker --from nats://broker:4222/EVENTS --relay shop
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
    broker: BrokerOption = None,
    fed_from: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Feed the processors from this broker, and run nothing else."),
    ] = None,
    relay: Annotated[
        str | None,
        typer.Option("--relay", metavar="NAME", help="With --from: whose messages; else the application's one relay."),
    ] = None,
) -> int:
    """Run all projections and processors, in as many workers as you like. SIGTERM and Ctrl-C let them finish.

    Relays too, once it is known where the broker is.
    With --once exits with 7 when one of them has failed or stopped, or a broker does not answer.
    """
    if relay is not None and fed_from is None:
        raise usage("--relay says whose messages to read: say with --from where they are")
    platform = call.application("a worker")
    stopping, given_up = stopped_by_signals(), False
    relays_to = call.broker_or_none(broker) if platform.relays and fed_from is None else None
    with platform.open(
        call.url, worker=True, lease_seconds=lease, fed_from=fed_from, relay=relay, relays_to=relays_to
    ) as log:
        assert log.worker is not None
        refuse_closed(log.store.exact.gate().closed)  # it would own nothing, and wait for ever
        call.output.note(f"worker {log.worker.owner} runs {', '.join(log.worker.followers) or 'nothing'}")
        for name, source in [*log.worker.elsewhere.items()]:
            call.output.note(f"{name} is fed by a broker with events of {source}: run it with --from")
        if platform.relays and relays_to is None and fed_from is None:
            call.output.note("its relays do not run here: give --broker nats://host:4222/EVENTS, or set EVERLOG_BROKER")
        if once:
            trouble = partial(_trouble, log, [one.name for one in platform.relays] if relays_to is not None else [])
            given_up = catch_up(call, log.worker, stopping, trouble=trouble, patience=1.5 * lease)
        else:
            sending, known = [one.name for one in platform.relays] if relays_to is not None else [], ""
            while not told_to_stop(stopping, report or math.inf):
                lag, told = ", ".join(map(_told, log.worker.lags())), _trouble(log, sending)
                call.output.report(f"{lag} ({told})" if told else lag)
                if told and told != known:
                    call.output.warn(told)
                known = told
        finished = log.worker.stop(drain)
        found, broken = log.worker.lags(), log.worker.broken()
        call.output.listing(LAGS, found)
    if not finished:
        call.output.warn(f"not all was finished within {drain:g} s: it will be handled again")
        return ExitCode.PARTIAL
    if given_up:
        return ExitCode.PARTIAL
    for name, error in broken.items():
        call.output.warn(f"the new version of {name} cannot be built: {error}")
    if once and broken:
        return ExitCode.PARTIAL
    ill = [one.progress for one in found if one.progress.status in ("failed", "stopped")]
    if once and ill:
        call.output.warn(", ".join(f"{one.name} {one.status} at position {one.failed_position}" for one in ill))
        return ExitCode.PARTIAL
    return ExitCode.OK


def stopped_by_signals() -> threading.Event:
    """Is set by SIGTERM and Ctrl-C."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def catch_up(
    call: Call,
    worker: Worker,
    stopping: threading.Event,
    *,
    trouble: Callable[[], str] = lambda: "",
    patience: float = math.inf,
) -> bool:
    """Until all is done, by whoever owns it: a lease that a dead worker left ends, and then it is ours.

    What `trouble` tells is shown; true when it was told for so many seconds of `patience`, all else is done, and it is
    given up.
    """
    waited, told, since = False, "", time.monotonic()
    while not stopping.is_set() and not worker.drain(_ONCE_SECONDS, everything=True):
        theirs = [name for name, one in worker.followers.items() if one.owns is False]
        if theirs and not waited:
            waited = True
            call.output.note(f"waiting for another worker to get on with {', '.join(theirs)}, or for its lease to end")
        found = trouble()
        if found and found != told:
            told = found
            call.output.warn(found)
        if not found:
            since = time.monotonic()
        elif time.monotonic() - since > patience and worker.drain(0.0):
            return True
    return False


def _trouble(log: Log, relays: Sequence[str]) -> str:
    """Why a broker cannot be read, does not take what these relays send, or a new version cannot be built."""
    feeding = None if log.worker is None else log.worker.feeding
    if feeding is not None and (found := feeding.trouble()):
        return f"the broker cannot be read: {found}"
    if relays and (told := relay_troubles(log.store, relays)):
        return told
    broken = {} if log.worker is None else log.worker.broken()
    return "; ".join(f"the new version of {name} cannot be built: {error}" for name, error in broken.items())


def told_to_stop(stopping: threading.Event, seconds: float) -> bool:
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
    behind = "fed by a broker" if lag.source else f"{lag.events} behind"
    return f"{lag.progress.name} {lag.progress.status}, {behind}{lanes}"
