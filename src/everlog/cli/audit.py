"""`everlog audit`: who did what, when, from where; listed, or written out for those who ask."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from everlog.cli.exporting import export
from everlog.cli.files import Force
from everlog.cli.filters import AllTenants, Backwards, Filters, Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.progress import Mode, ProgressOption
from everlog.cli.views import AUDIT
from everlog.history.audit import csv_lines, json_lines


class TrailFormat(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"


@command(
    "list",
    example="""
    everlog audit list --actor ann --since yesterday
    everlog audit list --ip 192.0.2.7 --all-tenants --json
    """,
)
def list_entries(
    call: Call,
    filters: Filters,
    *,
    all_tenants: AllTenants = False,
    backwards: Backwards = False,
    limit: Limit = None,
) -> None:
    """List the trail: one line for each event, as it was stored."""
    with call.open(as_stored=True) as log:
        where = filters.where(call.now)
        where["backwards"] = backwards
        most = call.output.most(limit)
        where["limit"] = None if most is None else most + 1
        found = call.reader(log, all_tenants).audit(**where)
        call.output.listing(AUDIT.showing_tenant(all_tenants), found, limit=limit)


@command(
    "export",
    example="""
    everlog audit export trail.csv --format csv --tenant acme --since 2026-01-01
    everlog audit export --correlation-id 01932c07-1b1c-7c9e-8f3a-2b6d5e4f3a21
    """,
)
def export_trail(
    call: Call,
    filters: Filters,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="- or nothing for standard output.")] = None,
    *,
    form: Annotated[
        TrailFormat, typer.Option("--format", help="JSON Lines, or CSV for a spreadsheet.")
    ] = TrailFormat.NDJSON,
    all_tenants: AllTenants = False,
    force: Force = False,
    mode: ProgressOption = Mode.AUTO,
) -> None:
    """Write the trail to a file or to standard output.

    In CSV a cell that a spreadsheet would run as a formula starts with a quote mark.
    """
    with call.open(as_stored=True) as log:
        where = filters.where(call.now)
        entries = call.reader(log, all_tenants).audit(**where)
        lines = csv_lines if form is TrailFormat.CSV else json_lines
        export(call, log, file, entries, lines, where, force=force, mode=mode)
