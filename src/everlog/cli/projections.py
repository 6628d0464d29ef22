"""`everlog projection`: how far read models are, what is in them, and building one anew."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import msgspec
import typer

from everlog.app.comparing import Everything
from everlog.app.following import Projection
from everlog.app.log import Log
from everlog.app.read_models import build_of
from everlog.app.rebuild import Rebuild, RebuildProgress
from everlog.app.shadow import ShadowBuild
from everlog.app.verify import Verification
from everlog.app.waiting import Waiting
from everlog.app.worker import Lag, lags
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode, usage
from everlog.cli.filters import AllTenants, Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call, nearest
from everlog.cli.output import Part, View, view_of
from everlog.cli.progress import Mode, Pace, ProgressOption, Show, Step, progress
from everlog.core.clock import rfc3339
from everlog.core.envelope import FoldKey, FoldState
from everlog.core.errors import Misconfigured, NotFound
from everlog.process.timekeeper import NAME as TIMEKEEPER
from everlog.projection.fold import Fold
from everlog.subscription.contract import Kind
from everlog.subscription.partition import MOST_PARTITIONS

LAGS: View[Lag] = View(
    json=lambda lag: {name: cell(lag) for name, cell in LAGS.cells.items()} | {"position": str(lag.progress.position)},
    cells={
        "name": lambda lag: lag.progress.name,
        "version": lambda lag: lag.progress.version,
        "status": lambda lag: lag.progress.status,
        "position": lambda lag: lag.progress.position,
        "lag": lambda lag: None if lag.source else lag.events,
        "lanes": lambda lag: lag.lanes,
        "partitions": lambda lag: lag.progress.parts,
        "owner": lambda lag: lag.progress.owner,
        "error": lambda lag: lag.progress.error,
        "failed_position": lambda lag: str(lag.progress.failed_position or ""),
        "moved_at": lambda lag: rfc3339(lag.progress.moved_at),
    },
    table=("name", "version", "status", "position", "lag", "lanes", "partitions", "owner", "error"),
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

Partitions = Annotated[int, typer.Argument(metavar="N", min=1, max=MOST_PARTITIONS, help="Into so many.")]
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
            found = log.store.fold_states.all(fold.name, build_of(fold, log.store), tenant)
            call.output.listing(STATES.showing_tenant(all_tenants), found, limit=limit)
            return
        if tenant is None:
            raise usage("a key is inside its tenant: leave --all-tenants out")
        wanted = FoldKey(tenant, key)
        one = log.store.fold_states.load(fold.name, build_of(fold, log.store), [wanted]).get(wanted)
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
    everlog projection rebuild revenue --shadow --swap
    everlog projection rebuild revenue --resume
    """,
)
def rebuild(
    call: Call,
    name: ProjectionName,
    *,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Beside the one that serves, which goes on; see --swap.")
    ] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Let what was built beside serve, and keep what did for `rollback`.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare what was built beside with the log, row by row, before --swap.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a rebuild was cut off.")] = False,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY", help="Only this key of the tenant, while it runs; repeat it for several."),
    ] = None,
    of_tenant: Annotated[
        str | None, typer.Option("--of-tenant", metavar="NAME", help="Only the keys of this tenant, while it runs.")
    ] = None,
    show: ProgressOption = Mode.AUTO,
) -> int:
    """Build a projection anew from where it starts, up to the head. No processor runs.

    In place its rows are gone until they are built again; with --shadow the old ones serve until --swap. With --verify
    exits with 1, and swaps nothing, when what was built is not what the log makes.
    """
    if (swap or verify) and not shadow:
        raise usage("--swap and --verify are of what --shadow builds: say that too, or `everlog projection swap`")
    if (keys or of_tenant) and (shadow or resume or (keys and of_tenant)):
        raise usage("--key, or --of-tenant, builds some keys anew, where they are: leave the other options out")
    projection = named_projection(call, name)
    if not keys:
        call.refuse_tenant()
    if keys or of_tenant:
        _rebuild_some(call, projection, keys or [], of_tenant, show)
        return ExitCode.OK
    with call.platform.open(call.url) as log, progress(call.output, show, "positions") as tell:
        if shadow:
            beside = _beside(call, log, projection, tell)
            stopping = _stop_on_interrupt(beside)
            reached = beside.run(resume=resume)
            if verify and not stopping() and (wrong := _differing(call, log, projection, tell)):
                call.output.warn(
                    f"{counted(wrong, 'row')} of what was built of {name} are not what the log makes of them: nothing "
                    "was swapped; build it again, and if they differ again `everlog doctor --deep` looks at the store"
                )
                return ExitCode.FOUND
            if swap and not stopping():
                reached = beside.swap()
        else:
            work = Rebuild(projection, call.platform.types, log.store)
            stopping = _stop_on_interrupt(work)
            reached = work.run(lambda one: tell(_step(one)), resume=resume)
    if stopping():
        again = f"{name}{' --shadow' if shadow else ''} --resume"
        raise KeyboardInterrupt(f"stopped at position {reached}: `everlog projection rebuild {again}` goes on")
    _told(call, name, reached, "is built beside" if shadow and not swap else "is built")
    return ExitCode.OK


@command("swap", example="everlog projection swap revenue")
def swap_build(call: Call, name: ProjectionName, *, show: ProgressOption = Mode.AUTO) -> None:
    """Let serve what `rebuild --shadow` built, in one transaction; what served is kept for `rollback`."""
    projection = named_projection(call, name)
    with call.platform.open(call.url) as log, progress(call.output, show, "positions") as tell:
        reached = _beside(call, log, projection, tell).swap()
    _told(call, name, reached, "serves as built")


@command("rollback", example="everlog projection rollback revenue")
def rollback(call: Call, name: ProjectionName, *, show: ProgressOption = Mode.AUTO) -> None:
    """Let serve again what a swap put aside, caught up; run it with the code that built that."""
    projection = named_projection(call, name)
    with call.platform.open(call.url) as log, progress(call.output, show, "positions") as tell:
        reached = _beside(call, log, projection, tell).rollback()
    _told(call, name, reached, "serves as before")


@command("cancel", example="everlog projection cancel revenue")
def cancel(call: Call, name: ProjectionName) -> None:
    """Throw away what `rebuild --shadow` has built; what serves goes on."""
    projection = named_projection(call, name)
    with call.platform.open(call.url) as log:
        ShadowBuild(projection, call.platform.types, log.store).cancel()
    told = {"projection": name, "canceled": True}
    call.output.document(told, Part(view_of(told), [told]))


@command("partitions", example="everlog projection partitions revenue 4")
def partitions(call: Call, name: ProjectionName, number: Partitions) -> None:
    """Divide a projection, so that as many workers share it; they go on meanwhile, and the order of a key holds."""
    divide(call, "projection", name, number)


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
    projection = named_projection(call, name)
    with call.open() as log:
        wanted = log.head().position if position is None else position
        Waiting(log.store, call.platform.types).wait([projection], wanted, timeout)
    told = {"projection": name, "position": str(wanted)}
    call.output.document(told, Part(view_of(told), [told]))


def divide(call: Call, kind: Kind, name: str, number: int) -> None:
    with call.open(as_stored=True) as log:
        if name not in {lag.progress.name for lag in of_kind(log, kind)}:
            raise NotFound(f"no {kind} {name!r} has run on this log: `everlog {kind} list` shows them")
        if name == TIMEKEEPER:
            raise usage(f"{name} keeps the time for all processes, and is one")
        log.store.checkpoints.divide(name, number)
    told = {kind: name, "partitions": number}
    call.output.document(told, Part(view_of(told), [told]))


def of_kind(log: Log, kind: Kind) -> Iterator[Lag]:
    return (lag for lag in lags(log.store) if lag.progress.kind == kind)


def show_status(call: Call, log: Log, kind: Kind, name: str) -> int:
    found = {lag.progress.name: lag for lag in of_kind(log, kind)}
    if name not in found:
        raise NotFound(f"no {kind} {name!r} has run on this log{nearest(name, found)}")
    call.output.record(LAGS, found[name])
    return ExitCode.FOUND if found[name].progress.status in ("failed", "stopped") else ExitCode.OK


def named_projection(call: Call, name: str) -> Projection:
    known = {one.name: one for one in call.application(f"the projection {name!r}").projections}
    if name not in known:
        raise Misconfigured(f"there is no projection {name!r}{nearest(name, known)}")
    return known[name]


def _fold(call: Call, name: str) -> Fold[object]:
    projection = named_projection(call, name)
    if not isinstance(projection, Fold):
        raise usage(f"{name} keeps its rows in tables of its own ({', '.join(projection.tables)}): query them with SQL")
    return projection


def _beside(call: Call, log: Log, projection: Projection, tell: Show) -> ShadowBuild:
    return ShadowBuild(projection, call.platform.types, log.store, on_progress=lambda one: tell(_step(one)))


def _rebuild_some(call: Call, projection: Projection, keys: Sequence[str], of_tenant: str | None, show: Mode) -> None:
    """What the log makes of them takes the place of what is there, where the two differ."""
    tenant = call.tenant if of_tenant is None else of_tenant
    with call.open() as log, progress(call.output, show, "positions") as tell:
        pace = Pace(0, log.head().position)
        work = Verification(
            projection, call.platform.types, log.store, tenant=tenant,
            on_progress=lambda position: tell(pace.step(position, position)),
        )  # fmt: skip
        for _ in work.run([FoldKey(tenant, key) for key in keys] or Everything(), repair=True):
            pass
    outcome = work.outcome
    told = {"projection": projection.name, "rows": outcome.rows, "changed": outcome.repaired}
    call.output.document(told, Part(view_of(told), [told]))


def _differing(call: Call, log: Log, projection: Projection, tell: Show) -> int:
    """How many rows of what is being built beside differ from what the log makes of them."""
    pace = Pace(0, log.head().position)
    work = Verification(
        projection, call.platform.types, log.store, building=True,
        on_progress=lambda position: tell(pace.step(position, position)),
    )  # fmt: skip
    return sum(1 for _ in work.run(Everything()))


def _told(call: Call, name: str, position: int, what: str) -> None:
    told = {"projection": name, "position": str(position)}
    call.output.document(told, Part(view_of(told), [told]))
    call.output.note(f"{name} {what}, up to position {position}")


def _step(one: RebuildProgress) -> Step:
    return Step(one.position, one.total, one.position, one.rate, one.seconds_left)


def _stop_on_interrupt(work: Rebuild | ShadowBuild) -> Callable[[], bool]:
    """Ctrl-C ends it after the page in hand, a second one at once. Tells whether there was one."""
    interrupted = False

    def stop(number: int, frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        work.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    return lambda: interrupted
