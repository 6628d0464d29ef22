"""`everlog schema`: whether what is stored stays readable, asked before a deploy."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode
from everlog.cli.files import DryRun, written
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import TABLE_ROWS, Format, Part, View, fields
from everlog.cli.progress import Mode, Pace, ProgressOption, Show, progress
from everlog.core.envelope import StoredEvent
from everlog.core.errors import NotFound, PayloadReleased, UnreadableEvent
from everlog.domain import schema
from everlog.domain.event import EventKind
from everlog.domain.recorded import Recorded
from everlog.domain.schema import Compatibility, SchemaFinding
from everlog.domain.types import EventTypes
from everlog.domain.upcast import TypeVersion

_EXIT = {
    Compatibility.COMPATIBLE: ExitCode.OK,
    Compatibility.NEEDS_UPCASTER: ExitCode.FOUND,
    Compatibility.BREAKING: ExitCode.CONFLICT,
}
_STEP = 500

SchemaFile = Annotated[Path, typer.Option("--file", metavar="PATH", help="The committed schema file.")]
_DEFAULT = Path(schema.FILE)

FINDINGS: View[SchemaFinding] = View(
    json=lambda one: {name: cell(one) for name, cell in FINDINGS.cells.items()},
    cells={
        "type": lambda one: one.type,
        "verdict": lambda one: _words(one.verdict),
        "change": lambda one: one.change,
        "advice": lambda one: one.advice,
    },
    table=("type", "verdict", "change", "advice"),
)


@command(
    "check",
    example="""
    everlog schema check
    everlog schema check --file schemas/shop.json --json
    """,
)
def check(call: Call, *, file: SchemaFile = _DEFAULT) -> int:
    """Compare today's types with the committed ones.

    Exits with 0 if they are compatible, 1 if a type needs an upcaster, 5 if a change is breaking.
    """
    types = call.application("checking types").types
    findings = _findings(types, file)
    worst = max((one.verdict for one in findings), default=Compatibility.COMPATIBLE)
    told = {"file": str(file), "verdict": _words(worst), "findings": [FINDINGS.json(one) for one in findings]}
    call.output.document(told, Part(FINDINGS, findings))
    call.output.note(f"{_words(worst)}: {counted(len(types.kinds), 'type')} compared with {file}")
    if findings and worst is Compatibility.COMPATIBLE:
        call.output.note("`everlog schema write` records these changes")
    return _EXIT[worst]


@command("write", example="everlog schema write && git add everlog.schema.json")
def write(
    call: Call,
    *,
    file: SchemaFile = _DEFAULT,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Record even what stored events do not fit.")] = False,
) -> int:
    """Write today's types to the schema file, to be committed.

    Refused, unless forced, while a change needs an upcaster or is breaking: the check could not find it any more.
    """
    types = call.application("writing the types down").types
    with suppress(NotFound):
        worst = max((one.verdict for one in _findings(types, file)), default=Compatibility.COMPATIBLE)
        if worst is not Compatibility.COMPATIBLE and not force:
            call.output.fail(
                f"{file} was not written: today's types do not fit it ({_words(worst)})",
                code="incompatible_schema",
                hint="`everlog schema check` says what to do; --force writes nevertheless",
            )
            return _EXIT[worst]
    if not dry_run:
        with written(file, force=True) as put:
            put(schema.write(types))
    call.output.note(f"{'would write' if dry_run else 'wrote'} {counted(len(types.kinds), 'type')} to {file}")
    return ExitCode.OK


class Kind(NamedTuple):
    """One type that the application declares."""

    type: str
    version: int
    declared_by: str
    tags: list[str]
    upcast_from: list[str]


KINDS: View[Kind] = View(
    json=lambda one: one._asdict(),
    cells={
        "type": lambda one: one.type,
        "version": lambda one: one.version,
        "declared_by": lambda one: one.declared_by,
        "tags": lambda one: " ".join(one.tags),
        "upcast_from": lambda one: ", ".join(one.upcast_from),
    },
    table=("type", "version", "declared_by", "tags", "upcast_from"),
)


@command("list", example="everlog schema list")
def list_types(call: Call) -> None:
    """List the event types the application declares, and the older ones it upcasts."""
    types = call.application("listing types").types
    call.output.listing(KINDS, [_kind(kind, types) for _, kind in sorted(types.kinds.items())])


class Unreadable(NamedTuple):
    """One stored event that today's code cannot read."""

    position: int
    tenant: str
    stream: str
    version: int
    type: str
    schema_version: int
    reason: str


UNREADABLE: View[Unreadable] = View(
    json=lambda one: {**one._asdict(), "position": str(one.position)},
    cells=fields(Unreadable._fields),
    table=("position", "tenant", "stream", "type", "schema_version", "reason"),
)


@command(
    "replay",
    example="""
    everlog schema replay
    everlog schema replay --after 1200000 -o ndjson > unreadable.ndjson
    """,
)
def replay(
    call: Call,
    *,
    after: Annotated[int, typer.Option("--after", metavar="POSITION", min=0, help="Behind this position.")] = 0,
    upto: Annotated[
        int | None, typer.Option("--upto", metavar="POSITION", min=0, help="Up to and with this position.")
    ] = None,
    mode: ProgressOption = Mode.AUTO,
) -> int:
    """Read every stored event of every tenant with today's code, and list those that cannot be read.

    Exits with 1 if there is one. Events whose bytes were released are counted, not listed.
    """
    types = call.application("reading with today's code").types
    shown = None if call.output.form is not Format.TABLE else TABLE_ROWS
    with call.open(as_stored=True) as log:
        run = Replay(types, after, log.head().position if upto is None else min(upto, log.head().position))
        found = run.unreadable(log.admin().events(after=after, upto=upto))
        try:
            with progress(call.output, mode, "events", beside_data=shown is None) as run.show:
                call.output.listing(UNREADABLE, found, limit=shown)
                for _ in found:  # a table shows no more, but all is to be read
                    pass
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"interrupted: --after {run.position} goes on from here") from error
    for line in run.told():
        call.output.note(line)
    if shown is not None and run.unread.total() > shown:
        call.output.note(f"the first {shown} are listed: -o ndjson lists all")
    return ExitCode.FOUND if run.unread else ExitCode.OK


class Replay:
    """One run over the log: how far it is, and what it could not read."""

    def __init__(self, types: EventTypes, first: int, last: int) -> None:
        self._types, self._pace = types, Pace(first, last)
        self.show: Show = lambda step: None
        self.position, self.count, self.released = first, 0, 0
        self.unread: Counter[TypeVersion] = Counter()

    def unreadable(self, events: Iterable[Recorded[Any]]) -> Iterator[Unreadable]:
        for event in events:
            stored = event.stored
            reason = self._reason(stored)
            if reason is not None:
                self.unread[TypeVersion(stored.type, stored.schema_version)] += 1
                yield Unreadable(*stored[:4], stored.type, stored.schema_version, reason)
            # Only now is it told, so that whoever goes on behind this position misses none.
            self.position, self.count = stored.position, self.count + 1
            if self.count % _STEP == 0:
                self.show(self._pace.step(self.position, self.count))
        self.show(self._pace.step(self.position, self.count))

    def told(self) -> Iterator[str]:
        yield f"read {counted(self.count, 'event')}: {self.unread.total() or 'none'} cannot be read"
        for kind, count in self.unread.most_common():
            yield f"  {kind}: {count:,}"
        if self.released:
            yield f"the bytes of {counted(self.released, 'event')} were released, which is nothing to mend"

    def _reason(self, stored: StoredEvent) -> str | None:
        try:
            for event in self._types.recorded(stored):
                event.data  # noqa: B018 (it decodes)
        except PayloadReleased:
            self.released += 1
        except UnreadableEvent as error:
            return error.reason
        except Exception as error:  # an upcaster or a class may raise anything, and the next event is to be read too
            return f"{type(error).__name__}: {error}"
        return None


def _findings(types: EventTypes, file: Path) -> list[SchemaFinding]:
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no {file} yet: `everlog schema write` writes it, then commit it") from error
    return sorted(schema.compare(schema.read(content), types), key=lambda one: (-one.verdict, one.type))


def _kind(kind: EventKind, types: EventTypes) -> Kind:
    today = TypeVersion(kind.name, kind.version)
    return Kind(
        type=kind.name,
        version=kind.version,
        declared_by=f"{kind.cls.__module__}.{kind.cls.__qualname__}",
        tags=[f"{text}{{{field}}}" if field else text for text, field in kind.tags],
        upcast_from=[str(source) for source in types.chain.sources_of(today) if source != today],
    )


def _words(verdict: Compatibility) -> str:
    return verdict.name.lower().replace("_", " ")
