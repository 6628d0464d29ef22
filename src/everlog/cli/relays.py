"""`everlog relay`: sending events to the broker, how far that is, and filling the broker again."""

import math
from functools import partial
from typing import Annotated

import typer

from everlog.app.relaying import RelayLag, refill, relay_lags, relay_troubles
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, View, view_of
from everlog.cli.worker import BrokerOption, catch_up, stopped_by_signals, told_to_stop
from everlog.core.clock import rfc3339
from everlog.core.errors import Misconfigured, NotFound
from everlog.store.exact import refuse_closed
from everlog.subscription.follower import LEASE_SECONDS

RELAYS: View[RelayLag] = View(
    json=lambda lag: {
        **{name: cell(lag) for name, cell in RELAYS.cells.items()},
        "position": str(lag.progress.position),
        "warnings": [] if lag.relayed is None else list(lag.relayed.warnings),
    },
    cells={
        "name": lambda lag: lag.progress.name,
        "status": lambda lag: lag.progress.status,
        "position": lambda lag: lag.progress.position,
        "lag": lambda lag: lag.events,
        "messages": lambda lag: 0 if lag.relayed is None else lag.relayed.copy.messages,
        "stream": lambda lag: "" if lag.relayed is None else lag.relayed.copy.stream,
        "owner": lambda lag: lag.progress.owner,
        "trouble": lambda lag: lag.progress.error or ("" if lag.relayed is None else lag.relayed.trouble),
        "since": lambda lag: rfc3339(lag.relayed.since) if lag.relayed is not None and lag.relayed.trouble else "",
        "moved_at": lambda lag: rfc3339(lag.progress.moved_at),
        "warnings": lambda lag: "" if lag.relayed is None else "; ".join(lag.relayed.warnings),
    },
    table=("name", "status", "position", "lag", "messages", "stream", "trouble"),
)

RelayName = Annotated[str, typer.Argument(metavar="NAME", help="The relay's name.")]


@command(
    "run",
    example="""
    everlog --app shop:platform relay run --broker nats://127.0.0.1:4222/EVENTS
    everlog --app shop:platform relay run --once
    """,
)
def run(
    call: Call,
    *,
    broker: BrokerOption = None,
    lease: Annotated[
        float,
        typer.Option("--lease", metavar="SECONDS", min=0.1, help="After so long without a sign another takes over."),
    ] = LEASE_SECONDS,
    report: Annotated[
        float, typer.Option("--report", metavar="SECONDS", min=0, help="Tell the lag so often; 0: never.")
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything is sent.")] = False,
) -> int:
    """Run the relays and nothing else, as often as you like. SIGTERM and Ctrl-C let them finish.

    With --once exits with 7 when one has failed, or the broker does not take what it sends.
    """
    platform = call.application("a relay")
    names = [one.name for one in platform.relays]
    if not names:
        raise Misconfigured(f"{call.settings.app.value} has no relay: give Relay(…) to its Platform")
    stopping, given_up = stopped_by_signals(), False
    with platform.open(call.url, worker=True, lease_seconds=lease, relays_to=call.broker(broker), only=names) as log:
        assert log.worker is not None
        refuse_closed(log.store.exact.gate().closed)  # it would own nothing, and wait for ever
        call.output.note(f"worker {log.worker.owner} runs {', '.join(names)}")
        if once:
            # What another worker left written ends with its lease, when this one has tried.
            trouble = partial(relay_troubles, log.store, names)
            given_up = catch_up(call, log.worker, stopping, trouble=trouble, patience=1.5 * lease)
        else:
            while not told_to_stop(stopping, report or math.inf):
                call.output.report(", ".join(map(_told, relay_lags(log.store))))
        finished = log.worker.stop()
        found = relay_lags(log.store)
        call.output.listing(RELAYS, found)
    ill = [one for one in found if one.progress.name in names and _is_ill(one)]
    return ExitCode.PARTIAL if not finished or given_up or (once and ill) else ExitCode.OK


@command("list", example="everlog relay list")
def list_relays(call: Call) -> None:
    """List the relays that were ever run on the log, with how far behind its head they are."""
    with call.open(as_stored=True) as log:
        call.output.listing(RELAYS, relay_lags(log.store))


@command("status", example="everlog relay status orders-out --json")
def status(call: Call, name: RelayName) -> int:
    """Show one relay; exits with 1 when it has failed, or the broker does not take what it sends."""
    with call.open(as_stored=True) as log:
        found = next((one for one in relay_lags(log.store) if one.progress.name == name), None)
    if found is None:
        raise NotFound(f"no relay {name!r} has run on this log: `everlog relay list` shows them")
    call.output.record(RELAYS, found)
    return ExitCode.FOUND if _is_ill(found) else ExitCode.OK


@command(
    "refill",
    example="""
    everlog relay refill orders-out
    everlog relay refill orders-out --from 1041
    """,
)
def refill_broker(
    call: Call,
    name: RelayName,
    *,
    since: Annotated[
        int | None, typer.Option("--from", metavar="POSITION", min=1, help="Only events from this position on.")
    ] = None,
) -> None:
    """Remove a relay's messages from the broker and send their events again, in order. Consumers see them again.

    The worker that runs the relay does it, at once or as soon as there is one.
    """
    with call.open(as_stored=True) as log:
        position = refill(log.store, name, since)
        events = log.head().position - position + 1
    call.output.note(f"{name} sends what is in {counted(events, 'event')} again")
    told = {"relay": name, "from": str(position)}
    call.output.document(told, Part(view_of(told), [told]))


def _is_ill(lag: RelayLag) -> bool:
    return lag.progress.status in ("failed", "stopped") or bool(lag.relayed is not None and lag.relayed.trouble)


def _told(lag: RelayLag) -> str:
    trouble = f" ({lag.relayed.trouble})" if lag.relayed is not None and lag.relayed.trouble else ""
    return f"{lag.progress.name} {lag.progress.status}, {lag.events} behind{trouble}"
