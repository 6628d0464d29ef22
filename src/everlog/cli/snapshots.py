"""`everlog snapshot`: folded states beside the log; deleting them changes no answer, only how long it takes."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from everlog.app.log import Log
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode, usage
from everlog.cli.files import DryRun
from everlog.cli.filters import AllTenants, Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, View, view_of
from everlog.core.clock import rfc3339
from everlog.core.envelope import StoredSnapshot

SNAPSHOTS: View[StoredSnapshot] = View(
    json=lambda one: {name: cell(one) for name, cell in SNAPSHOTS.cells.items()} | {"position": str(one.position)},
    cells={
        "tenant": lambda one: one.tenant,
        "stream": lambda one: one.stream,
        "version": lambda one: one.version,
        "position": lambda one: one.position,
        "occurred_at": lambda one: rfc3339(one.occurred_at),
        "fingerprint": lambda one: one.fingerprint.hex(),
        "bytes": lambda one: len(one.state),
    },
    table=("stream", "version", "position", "occurred_at", "bytes"),
)

OneStream = Annotated[str | None, typer.Option("--stream", metavar="STREAM", help="Of this stream.")]


@command("list", example="everlog snapshot list --stream order-o-1")
def list_snapshots(
    call: Call, *, stream: OneStream = None, all_tenants: AllTenants = False, limit: Limit = None
) -> None:
    """List snapshots by stream and version."""
    with call.open(as_stored=True) as log:
        found = log.store.snapshots.all(call.named_tenant(all_tenants), stream)
        call.output.listing(SNAPSHOTS.showing_tenant(all_tenants), found, limit=limit)


@command(
    "delete",
    example="""
    everlog snapshot delete --stream order-o-1 --older-than-version 500 --dry-run
    everlog snapshot delete --all-tenants --force
    """,
)
def delete(
    call: Call,
    *,
    stream: OneStream = None,
    older_than_version: Annotated[
        int | None, typer.Option("--older-than-version", metavar="N", min=0, help="Only those below this version.")
    ] = None,
    all_tenants: AllTenants = False,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
) -> int:
    """Delete snapshots. The next load of each aggregate replays its events; no answer changes."""
    tenant = call.named_tenant(all_tenants)
    whose = "of all tenants" if tenant is None else f"of tenant {tenant!r}"
    with call.open(as_stored=True) as log:
        count = sum(1 for _ in _meant(log, tenant, stream, older_than_version))
        if not dry_run and count and not force and not _agreed(call, f"Delete {counted(count, 'snapshot')} {whose}?"):
            call.output.note("nothing was deleted")
            return ExitCode.OK
        if not dry_run:
            count = log.store.snapshots.delete(tenant, stream, older_than_version=older_than_version)
    told = {"snapshots": count, "deleted": not dry_run}
    call.output.document(told, Part(view_of(told), [told]))
    call.output.note(f"{'would delete' if dry_run else 'deleted'} {counted(count, 'snapshot')} {whose}")
    return ExitCode.OK


def _meant(
    log: Log, tenant: str | None, stream: str | None, older_than_version: int | None
) -> Iterator[StoredSnapshot]:
    for snapshot in log.store.snapshots.all(tenant, stream):
        if older_than_version is None or snapshot.version < older_than_version:
            yield snapshot


def _agreed(call: Call, question: str) -> bool:
    if not sys.stdin.isatty():
        raise usage(f"{question} There is nobody to ask: add --force, or --dry-run to see what it would do")
    call.output.words.print(f"{question} [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
