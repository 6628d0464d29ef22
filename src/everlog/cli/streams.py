"""`everlog stream`: what is there, one stream's events, and the state of an aggregate at any point of its past."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer

from everlog.app.log import Log
from everlog.cli import times
from everlog.cli.failures import usage
from everlog.cli.filters import AllTenants, Backwards, Limit, Raw
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, View, fields
from everlog.cli.views import EVENTS, event_json
from everlog.command.load import Loader
from everlog.core.at import At, AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.envelope import StreamHead
from everlog.core.errors import NotFound
from everlog.domain.decider import Decider
from everlog.domain.fields import MISSING, flatten
from everlog.domain.fingerprint import state_codec
from everlog.history.travel import Difference, FieldChange, state_at

STREAMS: View[StreamHead] = View(
    json=lambda head: {**head._asdict(), "position": str(head.position)},
    cells=fields(StreamHead._fields),
    table=("stream", "version", "position"),
)

STATE: View[tuple[str, object]] = View(
    json=lambda pair: {"field": pair[0], "value": pair[1]},
    cells={"field": lambda pair: pair[0], "value": lambda pair: pair[1]},
    table=("field", "value"),
)


def _change_json(change: FieldChange) -> dict[str, object]:
    """A side on which the field is missing is left out: any text in its place could be a value."""
    told = {"path": change.path, "before": change.before, "after": change.after}
    return {key: value for key, value in told.items() if value is not MISSING} | {"events": _positions(change)}


def _positions(change: FieldChange) -> list[str]:
    return [str(position) for position in change.events]


CHANGES: View[FieldChange] = View(
    json=_change_json,
    cells={
        "field": lambda change: change.path,
        "before": lambda change: change.before,
        "after": lambda change: change.after,
        "events": lambda change: " ".join(_positions(change)),
    },
    table=("field", "before", "after", "events"),
)

DeciderName = Annotated[str, typer.Argument(metavar="DECIDER", help="The decider's name.")]
AggregateId = Annotated[str, typer.Argument(metavar="ID", help="Of the aggregate: what follows NAME- in its stream.")]


@command("list", example="everlog stream list --category order --limit 10")
def list_streams(
    call: Call,
    *,
    category: Annotated[
        str | None, typer.Option("--category", metavar="NAME", help="That begin with NAME and a hyphen.")
    ] = None,
    all_tenants: AllTenants = False,
    limit: Limit = None,
) -> None:
    """List streams by name, each with its version and the position of its last event."""
    with call.open(as_stored=True) as log:
        found = call.reader(log, all_tenants).streams(category)
        call.output.listing(STREAMS.showing_tenant(all_tenants), found, limit=limit)


@command("show", example="everlog stream show order-o-1 --backwards --limit 5")
def show(
    call: Call,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Its whole name, such as order-o-1.")],
    *,
    after: Annotated[int, typer.Option("--after", metavar="VERSION", min=0, help="Behind this version.")] = 0,
    upto: Annotated[
        int | None, typer.Option("--upto", metavar="VERSION", min=0, help="Up to and with this version.")
    ] = None,
    backwards: Backwards = False,
    limit: Limit = None,
    raw: Raw = False,
) -> None:
    """List the events of one stream, as today's code reads them."""
    with call.open(as_stored=raw) as log:
        _check_stream(call, log, stream)
        events = log.tenant(call.tenant).stream(stream, after=after, upto=upto, backwards=backwards)
        call.output.listing(EVENTS, events, limit=limit)


@command(
    "state",
    example="""
    everlog stream state order o-1
    everlog stream state order o-1 --recorded-at yesterday --json
    """,
)
def state(
    call: Call,
    decider: DeciderName,
    id: AggregateId,
    *,
    at_version: Annotated[
        int | None, typer.Option("--at-version", metavar="N", min=0, help="After this version of the stream.")
    ] = None,
    at_position: Annotated[
        int | None, typer.Option("--at-position", metavar="N", min=0, help="After this position of the log.")
    ] = None,
    recorded_at: Annotated[
        str | None, typer.Option("--recorded-at", metavar="TIME", help="As we knew it then.")
    ] = None,
    occurred_at: Annotated[
        str | None, typer.Option("--occurred-at", metavar="TIME", help="As it was then, whenever we learned of it.")
    ] = None,
) -> None:
    """Show the state of an aggregate, now or at a point of its past."""
    kind = call.decider(decider)
    point = _one_point(call.now, at_version, at_position, recorded_at, occurred_at)
    stream = kind.stream(id)
    with call.open() as log:
        _check_stream(call, log, stream)
        loader = Loader(kind, call.platform.types, log.counters)
        loaded = state_at(loader, log.store, call.tenant, stream, point)
    told = {
        "decider": decider,
        "id": id,
        "stream": stream,
        "at": _told(point),
        "version": loaded.version,
        "position": str(loaded.position),
        "state": _state_json(kind, loaded.state),
    }
    call.output.document(told, Part(STATE, list(flatten(loaded.state).items())))
    call.output.note(f"{stream} at version {loaded.version}")


@command(
    "diff",
    example="""
    everlog stream diff order o-1 --from version:1
    everlog stream diff order o-1 --from recorded:-7d --to recorded:yesterday
    """,
)
def diff(
    call: Call,
    decider: DeciderName,
    id: AggregateId,
    *,
    before: Annotated[str, typer.Option("--from", metavar="POINT", help=f"The earlier point: {times.POINT_FORMS}.")],
    after: Annotated[str | None, typer.Option("--to", metavar="POINT", help="The later point; else now.")] = None,
) -> None:
    """Show what changed between two points, field by field, and the events that made it."""
    kind = call.decider(decider)
    start = times.point(before, call.now)
    end = None if after is None else times.point(after, call.now)
    with call.open() as log:
        _check_stream(call, log, kind.stream(id))
        found = log.tenant(call.tenant).difference(kind, id, start, end)
        call.output.document(
            _difference_json(kind, id, start, end, found),
            Part(CHANGES, found.changes, "Changes"),
            Part(EVENTS, found.events, "Events"),
        )


def _difference_json(
    kind: Decider[Any, Any, Any], id: str, start: At, end: At | None, found: Difference[Any]
) -> Mapping[str, object]:
    return {
        "decider": kind.name,
        "id": id,
        "stream": kind.stream(id),
        "from": _told(start),
        "to": _told(end),
        "before": _state_json(kind, found.before.state),
        "after": _state_json(kind, found.after.state),
        "changes": [_change_json(change) for change in found.changes],
        "events": [event_json(event) for event in found.events],
    }


def _check_stream(call: Call, log: Log, stream: str) -> None:
    if log.store.version_at(call.tenant, stream) == 0:
        raise NotFound(f"tenant {call.tenant!r} has no stream {stream}: `everlog stream list` shows what there is")


def _one_point(
    now: datetime, version: int | None, position: int | None, recorded_at: str | None, occurred_at: str | None
) -> At | None:
    points: list[At] = []
    if version is not None:
        points.append(AtVersion(version))
    if position is not None:
        points.append(AtPosition(position))
    if recorded_at is not None:
        points.append(RecordedAt(times.until(recorded_at, now)))
    if occurred_at is not None:
        points.append(OccurredAt(times.until(occurred_at, now)))
    if len(points) > 1:
        raise usage(
            "there can be one point only: give one of --at-version, --at-position, --recorded-at, --occurred-at"
        )
    return points[0] if points else None


def _told(point: At | None) -> str:
    """As `--from` takes it."""
    match point:
        case None:
            return "now"
        case AtVersion(version):
            return f"version:{version}"
        case AtPosition(position):
            return f"position:{position}"
        case RecordedAt(moment):
            return f"recorded:{moment.isoformat()}"
        case OccurredAt(moment):
            return f"occurred:{moment.isoformat()}"


def _state_json(kind: Decider[Any, Any, Any], state: object) -> msgspec.Raw:
    return msgspec.Raw(state_codec(kind).encode(state))
