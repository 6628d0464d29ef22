"""`everlog event`: append, list and get. Moving many in and out is in `transfer`."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import UUID

import typer

from everlog.app.intake import Incoming, Intake, compact
from everlog.app.scope import Acting
from everlog.cli.appending import (
    Appending,
    Line,
    checked,
    id_of_request,
    opened,
    read_lines,
    warning_of_types,
)
from everlog.cli.failures import usage
from everlog.cli.files import DryRun
from everlog.cli.filters import AllTenants, Backwards, Filters, Limit, Raw
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.times import whole
from everlog.cli.views import EVENTS
from everlog.core.errors import NotFound
from everlog.core.expect import ANYTHING, Exactly, Expect, NoStream, StreamExists
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes

EXPECTATIONS = "any, no-stream, exists, or the version the stream is at"
_WORDS: dict[str, Expect] = {"any": ANYTHING, "no-stream": NoStream(), "exists": StreamExists()}


@dataclass(frozen=True)
class Acts:
    """Who acts and why; wins over what the events say."""

    actor: Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Who acts.")] = None
    ip: Annotated[str | None, typer.Option("--ip", metavar="ADDRESS", help="From where.")] = None
    user_agent: Annotated[str | None, typer.Option("--user-agent", metavar="TEXT", help="With what.")] = None
    correlation_id: Annotated[
        UUID | None, typer.Option("--correlation-id", metavar="UUID", help="In which conversation.")
    ] = None
    causation_id: Annotated[
        UUID | None, typer.Option("--causation-id", metavar="UUID", help="Because of which event.")
    ] = None

    def acting(self) -> Acting:
        # Its fields are named as those of `Acting`, and what was not said must not take back what an event says.
        return cast(Acting, {name: value for name, value in vars(self).items() if value is not None})


@command(
    "append",
    example="""
    everlog event append order-o-1 --type order.placed --data '{"order_id": "o-1", "cents": 4200}' --expect no-stream
    everlog event append order-o-1 events.ndjson --actor ann --request-id import-7
    """,
)
def append(
    call: Call,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Where to; whatever the lines say themselves.")],
    acts: Acts,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Lines of JSON; - or nothing for standard input.")
    ] = None,
    *,
    type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Append one event of this type.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="Its data, an object; else {}.")] = None,
    expect: Annotated[str, typer.Option("--expect", metavar="WHAT", help=f"Only if: {EXPECTATIONS}.")] = "any",
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="TEXT", help="Stored once, however often it is run.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Append events to a stream.

    A line is {"type": …, "data": {…}} with "tags", "time", "id" or "schemaversion" if need be, or a CloudEvent 1.0.
    A type the application declares is checked and gets its tags; any other is stored as the JSON it is.
    Up to 500 events and 1 MiB are stored together or not at all; of more, batch after batch.
    """
    condition = expectation(expect)
    if type is None and data is not None:
        raise usage("--data needs --type: say what kind of event it is")
    if type is not None and file is not None:
        raise usage("--type appends one event, FILE many: leave one of them out")
    intake = Intake(call.platform.types, call.tenant, **acts.acting())
    again = "run it again to go on" if request_id else "give the lines behind {line} to go on"
    appending = Appending(call, again)
    with opened(call, file) if type is None else nullcontext() as source:
        if source is not None:
            lines = read_lines(source, intake, call.tenant, stream=stream, request_id=request_id)
        else:
            incoming = Incoming(type or "", compact((data or "{}").encode()))
            event = intake.event(incoming, stream, id=id_of_request(call.tenant, request_id, 0))
            lines = iter([Line(1, checked(event, call.tenant))])
        run = appending.rehearse if dry_run else appending.run
        return run(warning_of_types(call, intake, lines), stream=stream, expect=condition)


@command(
    "list",
    example="""
    everlog event list --type order.placed --since -7d
    everlog event list --stream order-o-1 --backwards --limit 1 --json
    everlog event list --all-tenants --actor ann -o ndjson | jq .data
    """,
)
def list_events(
    call: Call,
    filters: Filters,
    *,
    all_tenants: AllTenants = False,
    backwards: Backwards = False,
    limit: Limit = None,
    raw: Raw = False,
) -> None:
    """List events in the order of the log, as today's code reads them."""
    with call.open(as_stored=raw) as log:
        types = EventTypes(()) if raw else call.platform.types
        where = filters.where(call.now)
        asked = set(filters.type or ())
        # What a type was called and stored as in earlier versions; what it is today is looked at again below.
        where["named"] = [*asked, *sorted(_earlier_names(types, asked))]
        where["backwards"] = backwards
        most = call.output.most(limit)
        if most is not None and not types.chain.steps:  # else a stored event may be none or several
            where["limit"] = most + 1
        found: Iterator[Recorded[Any]] = call.reader(log, all_tenants).events(**where)
        if asked:
            found = (event for event in found if event.type in asked or event.stored.type in asked)
        call.output.listing(EVENTS.showing_tenant(all_tenants), found, limit=limit)


@command("get", example="everlog event get 01932c07-1b1c-7c9e-8f3a-2b6d5e4f3a21 --json")
def get(
    call: Call, id: Annotated[UUID, typer.Argument(metavar="ID", help="The event's id.")], *, raw: Raw = False
) -> None:
    """Show one event. What a split or a drop made of it is shown as today's code reads it, unless --raw."""
    with call.open(as_stored=raw) as log:
        stored = log.store.find(call.tenant, [id.bytes]).get(id.bytes)
        if stored is None:
            raise NotFound(f"tenant {call.tenant!r} has no event {id}")
        parts = EventTypes(()).recorded(stored) if raw else call.platform.types.recorded(stored)
        if not parts:
            call.output.note("today's code drops this event; it is shown as stored")
            parts = EventTypes(()).recorded(stored)
        if len(parts) == 1:
            call.output.record(EVENTS, parts[0])
        else:
            call.output.listing(EVENTS, parts)


def expectation(text: str) -> Expect:
    if text in _WORDS:
        return _WORDS[text]
    return Exactly(whole(text, f"what --expect takes ({EXPECTATIONS})"))


def _earlier_names(types: EventTypes, asked: Iterable[str]) -> set[str]:
    classes = [types.kinds[name].cls for name in asked if name in types.kinds]
    return {source.name for source in types.stored_as(classes)} - set(asked)
