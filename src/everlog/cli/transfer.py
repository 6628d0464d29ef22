"""`everlog event import` and `export`: many events in, many out, with progress, and safe to interrupt."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from everlog.adoption import ImportReport, Progress, import_file, read_map
from everlog.app.intake import Intake
from everlog.cli.appending import Appending, counted, opened, read_lines, warning_of_types
from everlog.cli.exporting import export
from everlog.cli.failures import ExitCode, usage
from everlog.cli.files import Force
from everlog.cli.filters import AllTenants, Filters
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import encode, view_of
from everlog.cli.progress import Mode, ProgressOption, Step, progress
from everlog.cli.views import event_json
from everlog.core.envelope import NewEvent
from everlog.domain.recorded import Recorded


@command(
    "import",
    example="""
    everlog event import orders.csv --map orders.toml --rejects rejects.ndjson
    everlog event import backup.ndjson
    """,
)
def import_events(
    call: Call,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="With --map CSV or NDJSON, also packed by gzip or zstd; else what `event export` wrote.",
        ),
    ],
    *,
    map: Annotated[Path | None, typer.Option("--map", metavar="MAP.toml", help="What of a row becomes what.")] = None,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="PATH", help="Where rejects go; else beside FILE.")
    ] = None,
    mode: ProgressOption = Mode.AUTO,
) -> int:
    """Import rows of a file as events, by a map; or, without one, the lines that `event export` wrote.

    Run it as often as you like: what is stored is not stored again. A row that becomes no event goes to the file of
    rejects, and the exit code is 7.
    """
    if map is None:
        if rejects is not None:
            raise usage("--rejects goes with --map: lines of an export are all taken, or the first bad one ends it")
        return _import_exported(call, file)
    event_map = read_map(map)
    so_far = 0
    with call.open_to_write() as log, progress(call.output, mode, "rows") as show:

        def tell(now: Progress) -> None:
            nonlocal so_far
            so_far = now.imported
            show(Step(now.done, now.total, now.read, now.rate, now.seconds_left))

        try:
            report = import_file(
                log.store, file, event_map, tenant=call.tenant, rejects=rejects, progress=tell, admit=_admitting(call)
            )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"interrupted: {counted(so_far, 'event')} of this run are stored; run it again to go on"
            ) from error
    return _told(call, report)


def _admitting(call: Call) -> Callable[[str, NewEvent], NewEvent]:
    """Declared types are checked and get their tags, in whichever tenant the row lies."""
    intakes: dict[str, Intake] = {}

    def admit(tenant: str, new: NewEvent) -> NewEvent:
        if tenant not in intakes:
            intakes[tenant] = Intake(call.platform.types, tenant)
        return intakes[tenant].admit(new)

    return admit


def _told(call: Call, report: ImportReport) -> int:
    told = {
        "read": report.read,
        "imported": report.imported,
        "known": report.known,
        "rejected": report.rejected,
        "first_position": None if report.first_position is None else str(report.first_position),
        "last_position": None if report.last_position is None else str(report.last_position),
        "seconds": round(report.seconds, 3),
        "rejects": None if report.rejects is None else str(report.rejects),
    }
    call.output.record(view_of(told), told)
    if report.notice:
        call.output.note(report.notice)
    if not report.rejected:
        return ExitCode.OK
    call.output.warn(f"{counted(report.rejected, 'row')} became no event: {report.rejects} says which and why")
    return ExitCode.PARTIAL


def _import_exported(call: Call, file: Path) -> int:
    intake = Intake(call.platform.types, call.tenant)
    with opened(call, file) as source:
        lines = warning_of_types(call, intake, read_lines(source, intake, call.tenant))
        return Appending(call, "run it again to go on", once=True).run(lines)


@command(
    "export",
    example="""
    everlog event export backup.ndjson --all-tenants
    everlog event export --category order --since 2026-01-01 | zstd > orders.ndjson.zst
    """,
)
def export_events(
    call: Call,
    filters: Filters,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="- or nothing for standard output.")] = None,
    *,
    all_tenants: AllTenants = False,
    force: Force = False,
    mode: ProgressOption = Mode.AUTO,
) -> None:
    """Write events as CloudEvents 1.0, one JSON object a line, as they are stored; `event import` reads them."""
    with call.open(as_stored=True) as log:
        where = filters.where(call.now)
        events: Iterator[Recorded[Any]] = call.reader(log, all_tenants).events(**where)
        export(call, log, file, events, _lines, where, force=force, mode=mode)


def _lines(events: Iterable[Recorded[Any]]) -> Iterator[str]:
    for event in events:
        yield encode(event_json(event)).decode() + "\n"
