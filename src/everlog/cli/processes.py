"""`everlog process`: processes that wait: which there are, one of them, what is due when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer

from everlog.app.worker import Lag, lags
from everlog.cli.filters import AllTenants, Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call, nearest
from everlog.cli.output import Part, View, fields, view_of
from everlog.cli.views import EVENTS
from everlog.core.clock import micros, moment, rfc3339
from everlog.core.errors import InvalidInput, Misconfigured, NotFound
from everlog.domain.event import kind_of
from everlog.domain.fingerprint import state_codec
from everlog.process import timers
from everlog.process.manager import ProcessManager
from everlog.process.schedule import Schedule, ScheduleBegun
from everlog.process.timekeeper import NAME
from everlog.process.timers import SetTimer


@dataclass(frozen=True)
class Listed:
    """A process manager of the application, and how far it is; nothing of that when no worker has run it."""

    name: str
    follows: str
    commands: str
    status: str
    position: str
    lag: int
    lanes: int


_LISTED = ("name", "follows", "commands", "status", "position", "lag", "lanes")
LISTED: View[Listed] = View(json=lambda one: one, cells=fields(_LISTED), table=_LISTED)

TIMERS: View[SetTimer] = View(
    json=lambda one: {name: cell(one) for name, cell in TIMERS.cells.items()},
    cells={
        "due_at": lambda one: rfc3339(one.due_at),
        "tenant": lambda one: one.tenant,
        "process": lambda one: one.stream,
        "name": lambda one: one.name,
        "kind": lambda one: "expectation" if one.expected else "timer",
        "set_by": lambda one: one.set_by.hex(),
    },
    table=("due_at", "process", "name", "kind"),
)


@dataclass(frozen=True)
class Planned:
    """A schedule of the application; `last` is empty before its first moment."""

    name: str
    cron: str
    zone: str
    tenant: str
    catch_up: str
    last: str
    next: str


_PLANNED = ("name", "cron", "zone", "tenant", "catch_up", "last", "next")
PLANNED: View[Planned] = View(json=lambda one: one, cells=fields(_PLANNED), table=_PLANNED)


@command("list", example="everlog process list")
def list_processes(call: Call) -> None:
    """List the process managers of the application: what they follow and command, and how far they are."""
    processes = call.application("a list of process managers").processes
    with call.open(as_stored=True) as log:
        known = {lag.progress.name: lag for lag in lags(log.store)}
        call.output.listing(LISTED, [_listed(one, known.get(one.name)) for one in processes])


@command("show", example="everlog process show welcome u-1 --tenant acme")
def show(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The process manager.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Of which process.")],
    *,
    limit: Limit = None,
) -> None:
    """Show one process: its state, the timers it has set, and what happened in it."""
    manager = _manager(call, name)
    stream = manager.states.stream(key)
    with call.open() as log:
        events = list(log.tenant(call.tenant).stream(stream))
        if not events:
            raise NotFound(f"tenant {call.tenant!r} has no process {name} {key}: `everlog stream list` shows them")
        past = manager.rules.past(events)
        due = [one for one in timers.every(log.store.timers) if (one.tenant, one.stream) == (call.tenant, stream)]
    shown = events[-(limit or 50) :]
    if len(shown) < len(events) and limit is None:
        call.output.note(f"only the last {len(shown)} of {len(events)} events are shown: add --limit {len(events)}")
    status = "finished" if past.finished else "under way"
    told: dict[str, object] = {"process": name, "key": key, "status": status, "version": past.version}
    whole = told | {
        "state": _state(manager, past.state),
        "timers": [TIMERS.json(one) for one in due],
        "events": [EVENTS.json(one) for one in shown],
    }
    called = told | {"state": repr(past.state)}
    call.output.document(
        whole, Part(view_of(called), [called]), Part(TIMERS, due, "Timers"), Part(EVENTS, shown, "Events")
    )


@command(
    "timers",
    example="""
    everlog process timers --due
    everlog process timers --all-tenants -o ndjson
    everlog process timers --rebuild
    """,
)
def list_timers(
    call: Call,
    *,
    due: Annotated[
        bool, typer.Option("--due", help="Only those whose time has come: a worker makes them events.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Have the worker make the table anew from the log, and list nothing.")
    ] = False,
    all_tenants: AllTenants = False,
    limit: Limit = None,
) -> None:
    """List the timers and expectations that are set, the next one first."""
    tenant = call.named_tenant(all_tenants)
    with call.open(as_stored=True) as log:
        if rebuild:
            log.store.checkpoints.reset(NAME)
            call.output.document({"rebuild": NAME}, Part(view_of({"rebuild": NAME}), [{"rebuild": NAME}]))
            call.output.note(f"a worker makes the timers anew: `everlog projection status {NAME}` shows how far it is")
            return
        until = max(micros(call.now), log.head().recorded_at) if due else None
        found = timers.every(log.store.timers, until=until)
        call.output.listing(
            TIMERS.showing_tenant(all_tenants), (one for one in found if tenant in (None, one.tenant)), limit=limit
        )


@command("schedules", example="everlog process schedules --json")
def list_schedules(call: Call) -> None:
    """List the schedules of the application: their last moment that became an event, and the next one."""
    schedules = call.application("a list of schedules").schedules
    with call.open(as_stored=True) as log:

        def last_of(one: Schedule) -> datetime | None:
            last = next(log.store.read_stream(one.tenant, one.stream, backwards=True), None)
            return None if last is None or last.type == kind_of(ScheduleBegun).name else moment(last.occurred_at)

        call.output.listing(PLANNED, [_planned(one, last_of(one), call.now) for one in schedules])


def _listed(manager: ProcessManager[Any, Any], lag: Lag | None) -> Listed:
    follows = ", ".join(sorted(manager.rules.keys))
    commands = ", ".join(manager.rules.deciders)
    if lag is None:
        return Listed(manager.name, follows, commands, "not run yet", "", 0, 0)
    return Listed(
        manager.name, follows, commands, lag.progress.status, str(lag.progress.position), lag.events, lag.lanes
    )


def _planned(one: Schedule, last: datetime | None, now: datetime) -> Planned:
    following = next(one.moments(last or now))
    last_text = "" if last is None else rfc3339(micros(last))
    return Planned(one.name, one.cron, one.zone, one.tenant, one.catch_up, last_text, rfc3339(micros(following)))


def _manager(call: Call, name: str) -> ProcessManager[Any, Any]:
    known = {one.name: one for one in call.application("a process").processes}
    if name not in known:
        raise NotFound(f"the application has no process manager {name!r}{nearest(name, known)}")
    return known[name]


def _state(manager: ProcessManager[Any, Any], state: object) -> object:
    """As JSON; or as Python shows it where JSON cannot hold it, for a process keeps no snapshots."""
    if state is None:
        return None
    try:
        return msgspec.Raw(state_codec(manager.states).encode(state))
    except (Misconfigured, InvalidInput):
        return repr(state)
