"""`everlog dlq`: the lanes of failing keys; look into one, have it tried again, or skip an event with a reason."""

from collections.abc import Iterator
from itertools import takewhile
from typing import Annotated

import typer

from everlog.app.brokers import open_broker
from everlog.app.lanes import LaneOperator
from everlog.cli.appending import counted
from everlog.cli.failures import usage
from everlog.cli.filters import Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call, nearest
from everlog.cli.output import Part, View, view_of
from everlog.cli.views import EVENTS
from everlog.core.clock import rfc3339
from everlog.core.errors import NotFound
from everlog.processing.contract import Lane, LaneFilter
from everlog.relay.contract import DeadLetter, Receiver
from everlog.subscription.partition import as_one

LANES: View[Lane] = View(
    json=lambda lane: {name: cell(lane) for name, cell in LANES.cells.items()} | {"first": str(lane.first)},
    cells={
        "processor": lambda lane: lane.processor,
        "key": lambda lane: lane.key,
        "status": lambda lane: lane.status,
        "attempts": lambda lane: lane.attempts,
        "events": lambda lane: lane.depth,
        "first": lambda lane: lane.first,
        "since": lambda lane: rfc3339(lane.since),
        "next_try": lambda lane: rfc3339(lane.next_at) if lane.status == "retrying" and lane.next_at else "",
        "error": lambda lane: lane.error,
    },
    table=("processor", "key", "status", "attempts", "events", "first", "error"),
)

LETTERS: View[DeadLetter] = View(
    json=lambda letter: {name: cell(letter) for name, cell in LETTERS.cells.items()},
    cells={
        "consumer": lambda letter: letter.consumer,
        "log": lambda letter: letter.log,
        "sequence": lambda letter: letter.original,
        "subject": lambda letter: letter.message.subject,
        "reason": lambda letter: letter.reason,
        "body": lambda letter: letter.message.body.decode(errors="replace"),
    },
    table=("consumer", "sequence", "subject", "reason"),
)

ProcessorName = Annotated[str, typer.Argument(metavar="PROCESSOR", help="Whose lanes.")]
LaneKey = Annotated[str, typer.Argument(metavar="KEY", help="The lane's key, as `everlog dlq list` shows it.")]
BrokerOfLetters = Annotated[
    str, typer.Option("--from", metavar="URL", help="The broker, and the stream they came from.")
]
ErrorText = Annotated[str | None, typer.Option("--error", metavar="TEXT", help="Lanes whose error holds this text.")]
OfTenant = Annotated[str | None, typer.Option("--of-tenant", metavar="NAME", help="Lanes of this tenant.")]


@command("list", example="everlog dlq list mail --error 'no such mailbox'")
def list_lanes(
    call: Call,
    processor: Annotated[str | None, typer.Argument(metavar="PROCESSOR", help="Of one; else of all.")] = None,
    *,
    error: ErrorText = None,
    of_tenant: OfTenant = None,
    limit: Limit = None,
) -> None:
    """List the lanes of keys that failed: what is tried again, what waits for a person, and why."""
    call.refuse_tenant()
    with call.open(as_stored=True) as log:
        names = [processor] if processor else list(as_one(log.store.checkpoints.progress()))
        operator = LaneOperator(log.store, None)
        filters = [LaneFilter(name, tenant=of_tenant, error=error) for name in names]
        call.output.listing(LANES, (lane for one in filters for lane in operator.find(one)), limit=limit)


@command("show", example="everlog dlq show mail acme/user-7")
def show(call: Call, processor: ProcessorName, key: LaneKey, *, limit: Limit = None) -> None:
    """Show one lane, and the events in it as today's code reads them."""
    with call.open() as log:
        operator = LaneOperator(log.store, None)
        events = operator.events(processor, key, limit or 50)
        lane = _lane(operator, processor, key)
        if limit is None and lane.depth > len(events):
            call.output.note(f"only the first {len(events)} of {lane.depth} are shown: add --limit {lane.depth}")
        recorded = list(call.platform.types.each(events))
        told = {"lane": LANES.json(lane), "events": [EVENTS.json(event) for event in recorded]}
        call.output.document(told, Part(LANES, [lane], "Lane"), Part(EVENTS, recorded, "Events"))


@command(
    "retry",
    example="""
    everlog dlq retry mail acme/user-7
    everlog dlq retry mail --error 'time-out' --canary
    everlog dlq retry mail --all
    """,
)
def retry(
    call: Call,
    processor: ProcessorName,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="One lane.")] = None,
    *,
    error: ErrorText = None,
    of_tenant: OfTenant = None,
    every: Annotated[bool, typer.Option("--all", help="All lanes of the processor.")] = False,
    canary: Annotated[bool, typer.Option("--canary", help="One lane first, the others once it is done.")] = False,
) -> None:
    """Have lanes tried again by the worker, in order and with fresh attempts."""
    call.refuse_tenant()
    if every == any(one is not None for one in (key, error, of_tenant)):
        raise usage("say which lanes: a KEY, --error, --of-tenant, or --all alone")
    with call.open(as_stored=True) as log:
        count = LaneOperator(log.store, None).retry(LaneFilter(processor, key, of_tenant, error), canary=canary)
        if not count:
            progress = as_one(log.store.checkpoints.progress())
            known = {name for name, one in progress.items() if one.kind == "processor"}
            if processor not in known:
                raise NotFound(f"no processor {processor!r} has run on this log{nearest(processor, known)}")
            raise NotFound(f"processor {processor!r} has no such lane: `everlog dlq list` shows them")
        whole = as_one(log.store.checkpoints.progress()).get(processor)
        if whole is None:
            call.output.warn(f"no worker has run {processor} on this log since: `everlog worker` will try them")
        elif whole.status != "running":
            call.output.warn(
                f"{processor} is {whole.status}: `everlog processor resume {processor}` lets the worker try them"
            )
        elif not whole.owner:
            call.output.warn("no worker runs this processor now: `everlog worker` will try them")
    told = {"processor": processor, "lanes": count, "canary": canary}
    call.output.document(told, Part(view_of(told), [told]))
    call.output.note(f"{counted(count, 'lane')} will be tried again")


@command("skip", example="everlog dlq skip mail acme/user-7 --reason 'mailbox was closed' --actor ann")
def skip(
    call: Call,
    processor: ProcessorName,
    key: LaneKey,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why: it is kept in the audit trail.")],
    actor: Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Who decides it.")] = None,
) -> None:
    """Never give the first event of a parked lane to its processor; those behind it are tried."""
    with call.platform.open(call.url) as log:
        position = LaneOperator(log.store, actor).skip(processor, key, reason)
    told = {"processor": processor, "key": key, "skipped": str(position), "reason": reason}
    call.output.document(told, Part(view_of(told), [told]))


@command("letters", example="everlog dlq letters orders-in --from nats://broker:4222/EVENTS")
def letters(
    call: Call,
    consumer: Annotated[str | None, typer.Argument(metavar="NAME", help="Given up by this command inbox.")] = None,
    *,
    fed_from: BrokerOfLetters,
    limit: Limit = None,
) -> None:
    """List the messages that were given up at the broker, oldest first, and why."""
    broker = open_broker(fed_from)
    try:
        call.output.listing(LETTERS, _letters(broker, consumer), limit=limit)
    finally:
        broker.close()


@command(
    "resend",
    example="""
    everlog dlq resend orders-in --from nats://broker:4222/EVENTS --sequence 1041
    everlog dlq resend orders-in --from nats://broker:4222/EVENTS --error 'not understood'
    everlog dlq resend orders-in --from nats://broker:4222/EVENTS --all
    """,
)
def resend(
    call: Call,
    inbox: Annotated[str, typer.Argument(metavar="NAME", help="Given up by this command inbox.")],
    *,
    fed_from: BrokerOfLetters,
    sequence: Annotated[
        int | None, typer.Option("--sequence", metavar="N", help="One, as `everlog dlq letters` shows it.")
    ] = None,
    error: Annotated[
        str | None, typer.Option("--error", metavar="TEXT", help="Those whose reason holds this text.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that the inbox gave up.")] = False,
) -> None:
    """Send messages that an inbox gave up to their subject again, after mending what they failed on.

    What became of a command stays: one that was carried out is not carried out twice, and one that was rejected is
    rejected again.
    """
    if every == any(one is not None for one in (sequence, error)):
        raise usage("say which letters: --sequence, --error, or --all alone")
    broker = open_broker(fed_from)
    try:
        found = (
            one
            for one in _letters(broker, inbox)
            if one.log and sequence in (None, one.original) and (error is None or error in one.reason)
        )
        # What fails once more is a letter again, behind those that there are now.
        last = max((one.sequence for one in _letters(broker, inbox)), default=0)
        count = 0
        for count, one in enumerate(takewhile(lambda one: one.sequence <= last, found), 1):  # noqa: B007 - counted
            broker.resend(one)
        if not count:
            raise NotFound(f"command inbox {inbox!r} has no such letter: `everlog dlq letters` shows them")
    finally:
        broker.close()
    told = {"inbox": inbox, "letters": count}
    call.output.document(told, Part(view_of(told), [told]))
    call.output.note(f"{counted(count, 'message')} sent again")


def _letters(broker: Receiver, consumer: str | None) -> Iterator[DeadLetter]:
    after = 0
    while page := broker.dead_letters(consumer, after=after):
        yield from page
        after = page[-1].sequence


def _lane(operator: LaneOperator, processor: str, key: str) -> Lane:
    lane = next((one for one in operator.find(LaneFilter(processor, key)) if one.key == key), None)
    if lane is None:
        raise NotFound(f"processor {processor!r} has no lane {key!r}: `everlog dlq list` shows them")
    return lane
