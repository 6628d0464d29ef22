"""`everlog processor`: which run, how far they are, and holding one for a while."""

from typing import Annotated

import typer

from everlog.app.feeding import accept
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, view_of
from everlog.cli.projections import LAGS, Partitions, divide, of_kind, show_status
from everlog.core.errors import NotFound
from everlog.subscription.contract import Status

ProcessorName = Annotated[str, typer.Argument(metavar="NAME", help="The processor's name.")]


@command("list", example="everlog processor list")
def list_processors(call: Call) -> None:
    """List the processors that were ever run on the log, with how far behind its head they are."""
    with call.open(as_stored=True) as log:
        call.output.listing(LAGS, of_kind(log, "processor"))


@command("status", example="everlog processor status mail --json")
def status(call: Call, name: ProcessorName) -> int:
    """Show one processor; exits with 1 when it has failed or stopped."""
    with call.open(as_stored=True) as log:
        return show_status(call, log, "processor", name)


@command("pause", example="everlog processor pause mail")
def pause(call: Call, name: ProcessorName) -> None:
    """Hold a processor: what it has in hand is not kept, and nothing is lost."""
    _set(call, name, "paused")


@command("resume", example="everlog processor resume mail")
def resume(call: Call, name: ProcessorName) -> None:
    """Let a paused, failed or stopped processor go on from its checkpoint."""
    _set(call, name, "running")


@command(
    "accept",
    example="everlog processor accept mail --source everlog:5f0c --incarnation 2 --after 1041",
)
def accept_log(
    call: Call,
    name: ProcessorName,
    *,
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="The log, as its events name it.")],
    incarnation: Annotated[int, typer.Option("--incarnation", metavar="N", help="Which history of it.")],
    after: Annotated[
        int, typer.Option("--after", metavar="POSITION", help="The last position it shares with what came before.")
    ],
) -> None:
    """Let a processor that is fed by a broker go on with a log that was restored or copied."""
    with call.open(as_stored=True) as log:
        accept(log.store, name, source=source, incarnation=incarnation, after=after)
    told = {"processor": name, "source": source, "incarnation": incarnation, "after": str(after)}
    call.output.document(told, Part(view_of(told), [told]))


@command("partitions", example="everlog processor partitions mail 4")
def partitions(call: Call, name: ProcessorName, number: Partitions) -> None:
    """Divide a processor, so that as many workers share it; they go on meanwhile, and the order of a key holds."""
    divide(call, "processor", name, number)


def _set(call: Call, name: str, status: Status) -> None:
    with call.open(as_stored=True) as log:
        if not any(lag.progress.name == name for lag in of_kind(log, "processor")):
            raise NotFound(f"no processor {name!r} has run on this log: `everlog processor list` shows them")
        log.store.checkpoints.set_status(name, status)
    told = {"processor": name, "status": status}
    call.output.document(told, Part(view_of(told), [told]))
