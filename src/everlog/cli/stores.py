"""`everlog store`: the tables of a log, and moving a whole log to another store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from everlog.app.copying import CopyProgress, Tell, copy_log, reopen_log
from everlog.app.stores import migrate_store, place_of, prepare_roles
from everlog.cli.failures import usage
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import view_of
from everlog.cli.progress import Mode, ProgressOption, Step, progress


@command(
    "migrate",
    example="""
    everlog store migrate --store postgresql://owner@db/shop
    everlog store migrate --engine-role everlog --tenant-role everlog_tenant
    """,
)
def migrate(
    call: Call,
    *,
    engine_role: Annotated[str | None, typer.Option(help="A role that may append, read and follow.")] = None,
    tenant_role: Annotated[str | None, typer.Option(help="A role that sees one tenant at a time, and reads.")] = None,
) -> None:
    """Bring the tables of the log to what this everlog reads and writes, or make them; PostgreSQL's roles too.

    Safe when two start at once. Tables that a newer everlog wrote are refused. A SQLite file needs none of it.
    """
    format, steps = migrate_store(call.url)
    prepare_roles(call.url, tenant_role=tenant_role, engine_role=engine_role)
    told = {"format": format, "steps": steps}
    call.output.record(view_of(told), told)
    if not steps:
        call.output.note(f"nothing to do: the tables have format {format}")


@command(
    "copy",
    example="""
    everlog store copy sqlite:///shop.db postgresql://everlog@db/shop
    everlog store copy postgresql://everlog@db/shop sqlite:///shop-2.db --json
    """,
)
def copy(
    call: Call,
    source: Annotated[str, typer.Argument(metavar="FROM", help="Where the log is.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Where it goes: an empty database, or a new file.")],
    *,
    mode: ProgressOption = Mode.AUTO,
) -> None:
    """Move a whole log to another store: positions, bytes, ids, times and hashes unchanged, and verified.

    The log takes appends until all but the last events are there. Then the source is closed, which says in every
    refused append where the log went, and the target opens as the next incarnation. Stop workers before. Cut off
    anywhere it loses nothing: run it again. Checkpoints, lanes and states of folds go along, snapshots and your own
    tables do not.
    """
    with _told_along(call, mode, "rows copied or compared") as tell:
        copied = copy_log(source, target, tell=tell)
    told = {
        "events": copied.events,
        "streams": copied.streams,
        "root": copied.root,
        "log_id": copied.log_id.hex(),
        "incarnation": copied.incarnation,
        "found": copied.found,
    }
    call.output.record(view_of(told), told)
    if copied.already:
        call.output.note("nothing to do: an earlier run had finished")
    else:
        call.output.note("point everything that appends at the new place; the old one only reads from now on")


@command("reopen", example="everlog store reopen --store sqlite:///shop.db --force")
def reopen(
    call: Call,
    *,
    force: Annotated[bool, typer.Option("-f", "--force", help="The other log is gone, or will never be used.")] = False,
    mode: ProgressOption = Mode.AUTO,
) -> None:
    """Take appends again in a log that a copy closed, where the other one is given up.

    Two logs of one history that both grow can never be brought together again.
    """
    if not force:
        raise usage("a closed log may only grow again where the one it went to is given up: say so with --force")
    with _told_along(call, mode, "leaves read") as tell:
        closed = reopen_log(call.url, tell=tell)
    told = {"store": place_of(call.url), "was_closed": closed}
    call.output.record(view_of(told), told)
    if not closed:
        call.output.note("nothing to do: it takes appends")


@contextmanager
def _told_along(call: Call, mode: Mode, what: str) -> Iterator[Tell]:
    """Progress on stderr; an interrupt says how far it came."""
    began, reached = time.monotonic(), 0
    with progress(call.output, mode, what) as show:

        def tell(now: CopyProgress) -> None:
            nonlocal reached
            reached, rate = now.position, now.done / (time.monotonic() - began)
            show(Step(now.done, now.total, now.done, rate, (now.total - now.done) / rate if rate else None))

        try:
            yield tell
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"interrupted at position {reached}, and nothing is lost: run it again to go on"
            ) from error
