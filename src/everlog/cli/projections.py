"""`everlog projection`: how far read models are, what is in them, and building one anew."""

import signal
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
import typer

from everlog.app.following import Projection
from everlog.app.log import Log
from everlog.app.rebuild import Rebuild, RebuildProgress
from everlog.app.waiting import Waiting
from everlog.app.worker import Lag, lags
from everlog.cli.failures import ExitCode, usage
from everlog.cli.filters import AllTenants, Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call, nearest
from everlog.cli.output import Part, View, view_of
from everlog.cli.progress import Mode, ProgressOption, Step, progress
from everlog.core.clock import rfc3339
from everlog.core.envelope import FoldKey, FoldState
from everlog.core.errors import Misconfigured, NotFound
from everlog.projection.fold import Fold
from everlog.subscription.contract import Kind

LAGS: View[Lag] = View(
    json=lambda lag: {name: cell(lag) for name, cell in LAGS.cells.items()} | {"position": str(lag.progress.position)},
    cells={
        "name": lambda lag: lag.progress.name,
        "version": lambda lag: lag.progress.version,
        "status": lambda lag: lag.progress.status,
        "position": lambda lag: lag.progress.position,
        "lag": lambda lag: lag.events,
        "lanes": lambda lag: lag.lanes,
        "owner": lambda lag: lag.progress.owner,
        "error": lambda lag: lag.progress.error,
        "failed_position": lambda lag: str(lag.progress.failed_position or ""),
        "moved_at": lambda lag: rfc3339(lag.progress.moved_at),
    },
    table=("name", "version", "status", "position", "lag", "lanes", "owner", "error"),
)

STATES: View[FoldState] = View(
    json=lambda one: {
        "tenant": one.tenant,
        "key": one.key,
        "state": msgspec.Raw(one.state),
        "position": str(one.position),
    },
    cells={
        "tenant": lambda one: one.tenant,
        "key": lambda one: one.key,
        "state": lambda one: one.state.decode(),
        "position": lambda one: one.position,
    },
    table=("key", "state", "position"),
)

ProjectionName = Annotated[str, typer.Argument(metavar="NAME", help="The projection's name.")]


@command("list", example="everlog projection list")
def list_projections(call: Call) -> None:
    """List the projections that were ever run on the log, with how far behind its head they are."""
    with call.open(as_stored=True) as log:
        call.output.listing(LAGS, of_kind(log, "projection"))


@command("status", example="everlog projection status revenue --json")
def status(call: Call, name: ProjectionName) -> int:
    """Show one projection; exits with 1 when it has failed or stopped."""
    with call.open(as_stored=True) as log:
        return show_status(call, log, "projection", name)


@command(
    "get",
    example="""
    everlog projection get revenue acme
    everlog projection get revenue --all-tenants -o ndjson
    """,
)
def get(
    call: Call,
    name: ProjectionName,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="One key; all of them without it.")] = None,
    *,
    all_tenants: AllTenants = False,
    limit: Limit = None,
) -> None:
    """Show the states of a fold, as its projection has them."""
    fold = _fold(call, name)
    tenant = call.named_tenant(all_tenants)
    with call.open() as log:
        if key is None:
            found = log.store.fold_states.all(fold.name, fold.version, tenant)
            call.output.listing(STATES.showing_tenant(all_tenants), found, limit=limit)
            return
        if tenant is None:
            raise usage("a key is inside its tenant: leave --all-tenants out")
        wanted = FoldKey(tenant, key)
        one = log.store.fold_states.load(fold.name, fold.version, [wanted]).get(wanted)
    if one is None:
        raise NotFound(
            f"{name} has no key {key!r} in tenant {tenant!r}: "
            f"`everlog projection get {name} --all-tenants` lists what there is"
        )
    call.output.record(STATES, one)


@command(
    "rebuild",
    example="""
    everlog projection rebuild revenue
    everlog projection rebuild revenue --resume
    """,
)
def rebuild(
    call: Call,
    name: ProjectionName,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a rebuild was cut off.")] = False,
    show: ProgressOption = Mode.AUTO,
) -> None:
    """Build a projection anew from where it starts, up to the head. No processor runs."""
    projection = _projection(call, name)
    with call.platform.open(call.url) as log, progress(call.output, show, "positions") as tell:
        work = Rebuild(projection, call.platform.types, log.store)
        stopping = _stop_on_interrupt(work)
        reached = work.run(lambda one: tell(_step(one)), resume=resume)
    if stopping():
        raise KeyboardInterrupt(f"stopped at position {reached}: `everlog projection rebuild {name} --resume` goes on")
    told = {"projection": name, "position": str(reached)}
    call.output.document(told, Part(view_of(told), [told]))
    call.output.note(f"{name} is built up to position {reached}")


@command("wait", example="everlog projection wait revenue --position 4200 --timeout 30")
def wait(
    call: Call,
    name: ProjectionName,
    *,
    position: Annotated[
        int | None, typer.Option("--position", metavar="N", min=0, help="Until it has passed this; else the head.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0, help="At most so long.")] = 10.0,
) -> None:
    """Return once a projection has passed a position; exits with 6 when it takes too long."""
    projection = _projection(call, name)
    with call.open() as log:
        wanted = log.head().position if position is None else position
        Waiting(log.store, call.platform.types).wait([projection], wanted, timeout)
    told = {"projection": name, "position": str(wanted)}
    call.output.document(told, Part(view_of(told), [told]))


def of_kind(log: Log, kind: Kind) -> Iterator[Lag]:
    return (lag for lag in lags(log.store) if lag.progress.kind == kind)


def show_status(call: Call, log: Log, kind: Kind, name: str) -> int:
    found = {lag.progress.name: lag for lag in of_kind(log, kind)}
    if name not in found:
        raise NotFound(f"no {kind} {name!r} has run on this log{nearest(name, found)}")
    call.output.record(LAGS, found[name])
    return ExitCode.FOUND if found[name].progress.status in ("failed", "stopped") else ExitCode.OK


def _projection(call: Call, name: str) -> Projection:
    known = {one.name: one for one in call.application(f"the projection {name!r}").projections}
    if name not in known:
        raise Misconfigured(f"there is no projection {name!r}{nearest(name, known)}")
    return known[name]


def _fold(call: Call, name: str) -> Fold[object]:
    projection = _projection(call, name)
    if not isinstance(projection, Fold):
        raise usage(f"{name} keeps its rows in tables of its own ({', '.join(projection.tables)}): query them with SQL")
    return projection


def _step(one: RebuildProgress) -> Step:
    return Step(one.position, one.total, one.position, one.rate, one.seconds_left)


def _stop_on_interrupt(work: Rebuild) -> Callable[[], bool]:
    """Ctrl-C ends it after the page in hand, a second one at once. Tells whether there was one."""
    interrupted = False

    def stop(number: int, frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        work.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    return lambda: interrupted
