"""`everlog projection verify`: read models compared with the log, and mended."""

import math
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from everlog.app.comparing import Everything, Outcome, Which
from everlog.app.log import Log
from everlog.app.verify import MOST_POSITIONS, Verification
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode, usage
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Format, View, as_text
from everlog.cli.progress import Mode, Pace, ProgressOption, Show, progress
from everlog.cli.projections import ProjectionName, named_projection
from everlog.cli.times import seconds
from everlog.cli.worker import told_to_stop
from everlog.core.envelope import FoldKey
from everlog.core.errors import EverlogError
from everlog.domain.fields import MISSING
from everlog.projection.sample import CONFIDENCE, Draw, share_differing
from everlog.projection.verify import FieldDifference, RowDifference


@dataclass(frozen=True)
class Rows:
    """Which rows, and what is told of them."""

    full: Annotated[bool, typer.Option("--full", help="Compare every row; so it is when nothing else is said.")] = False
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Compare N rows drawn at random.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, max=2**64 - 1, help="Draw the same rows again.")
    ] = None
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", "--keys", metavar="KEY", help="Compare this key of the tenant; repeat it."),
    ] = None
    events: Annotated[
        int, typer.Option("--events", metavar="N", min=0, help="Name the last N events behind each row.")
    ] = MOST_POSITIONS

    def check(self) -> None:
        if (self.sample is not None) + bool(self.keys) + self.full > 1:
            raise usage("--full, --sample and --key exclude each other: say which rows by one of them")
        if self.seed is not None and self.sample is None:
            raise usage("--seed says which rows are drawn: add --sample N")

    def tenant(self, call: Call) -> str | None:
        return call.tenant if self.keys or call.settings.tenant.source == "--tenant" else None

    def which(self, call: Call) -> Which:
        if self.keys:
            return [FoldKey(call.tenant, key) for key in self.keys]
        if self.sample is None:
            return Everything()
        return Draw(self.sample, random.SystemRandom().randrange(2**64) if self.seed is None else self.seed)


@command(
    "verify",
    example="""
    everlog projection verify revenue
    everlog projection verify revenue --sample 1000 --every 1h
    everlog projection verify revenue --key acme --key globex --repair
    """,
)
def verify(
    call: Call,
    name: ProjectionName,
    rows: Rows,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make the rows that differ what the log makes of them.")
    ] = False,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="Again and again, 30s, 15m, 12h or 1d after the last.")
    ] = None,
    show: ProgressOption = Mode.AUTO,
) -> int:
    """Recompute a projection from the log and list every row that differs, while it runs or not.

    Of all tenants, unless --tenant or --key is said. Exits with 1 when rows differ and were not mended.
    """
    rows.check()
    pause = None if every is None else seconds(every)
    if pause is not None and call.output.form is Format.TABLE:
        call.output.form = Format.PLAIN  # a table has an end, and this has none
    with call.open() as log, progress(call.output, show, "positions", beside_data=True) as tell:
        rounds = _Rounds(call, log, name, rows, repair, pause, tell)
        found = rounds.run()
        call.output.listing(DIFFERENCES, found)
        for _ in found:  # what a table does not show is looked at, and mended, all the same
            pass
    return ExitCode.FOUND if rounds.left else ExitCode.OK


class _Rounds:
    """One verification, or one after another until it is told to stop. `left` counts rows that differ still."""

    def __init__(
        self, call: Call, log: Log, name: str, rows: Rows, repair: bool, pause: float | None, tell: Show
    ) -> None:
        self._call, self._log, self._name, self._rows = call, log, name, rows
        self._repair, self._pause, self._tell = repair, pause, tell
        self._pace = Pace(0, log.head().position)
        self._work = Verification(
            named_projection(call, name),
            call.platform.types,
            log.store,
            tenant=rows.tenant(call),
            most_positions=rows.events,
            on_progress=lambda position: self._tell(self._pace.step(position, position)),
        )
        self.left = 0

    def run(self) -> Iterator[RowDifference]:
        if self._pause is None:
            yield from self._round()
            return
        stopping = _until_told()
        while True:
            try:
                yield from self._round()
            except EverlogError as error:
                if not error.retryable:
                    raise
                self._call.output.warn(f"{self._name} was not verified: {error}")
            if told_to_stop(stopping, self._pause):
                return

    def _round(self) -> Iterator[RowDifference]:
        which = self._rows.which(self._call)
        self._pace = Pace(0, self._log.head().position)
        yield from self._work.run(which, repair=self._repair)
        outcome = self._work.outcome
        self.left += outcome.differing - outcome.repaired
        self._call.output.note(_summary(self._name, which, outcome))


def _until_told() -> threading.Event:
    """Set by Ctrl-C or SIGTERM, which let what is in hand end; a second one ends it at once."""
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping


def _summary(name: str, which: Which, outcome: Outcome) -> str:
    mended = f", {outcome.repaired} of them mended" if outcome.repaired else ""
    told = (
        f"{name}: {counted(outcome.rows, 'row')} compared up to position {outcome.position}, "
        f"{outcome.differing} found to differ{mended}"
    )
    return f"{told}; {_confidence(which, outcome)}" if isinstance(which, Draw) else told


def _confidence(draw: Draw, outcome: Outcome) -> str:
    if outcome.complete:
        return "these are all there are"
    lower, upper = share_differing(outcome.rows, outcome.differing)
    most = _percent(upper, math.ceil)
    share = f"{_percent(lower, math.floor)} to {most}" if outcome.differing else f"at most {most}"
    return f"with {CONFIDENCE:.0%} confidence {share} of all rows differ (drawn with --seed {draw.seed})"


def _percent(share: float, outwards: Callable[[float], int]) -> str:
    """Two digits that count, rounded to the outside: it is a bound."""
    digits = max(0, 1 - math.floor(math.log10(100 * share))) if share else 0
    return f"{outwards(round(100 * share * 10**digits, 6)) / 10**digits:g} %"


# How a difference looks.


def _field(one: FieldDifference) -> dict[str, object]:
    told = {"path": one.path, "stored": one.stored, "expected": one.expected}
    return {name: _plain(value) for name, value in told.items() if value is not MISSING}


def _fields(fields: Sequence[FieldDifference]) -> str:
    return "; ".join(
        [f"{one.path}: {as_text(_plain(one.stored))}, not {as_text(_plain(one.expected))}" for one in fields]
    )


def _events(row: RowDifference) -> str:
    """How many, and which; a dot where some are not named."""
    if row.events is None or row.positions is None:
        return ""
    return f"{row.events}: {'… ' if row.cut else ''}{' '.join(map(str, row.positions))}" if row.events else "0"


def _plain(value: object) -> object:
    """A column may be anything a driver knows."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)


DIFFERENCES: View[RowDifference] = View(
    json=lambda row: {
        "of": row.place,
        "fault": row.fault,
        "key": {name: _plain(value) for name, value in row.key.items()},
        "fields": [_field(one) for one in row.fields],
        "position": str(row.position),
        "events": row.events,
        "positions": None if row.positions is None else [str(position) for position in row.positions],
        "positions_cut": row.cut,
        "repaired": row.repaired,
    },
    cells={
        "of": lambda row: row.place,
        "key": lambda row: "/".join([as_text(_plain(value)) for value in row.key.values()]),
        "fault": lambda row: row.fault,
        "repaired": lambda row: "yes" if row.repaired else "no",
        "position": lambda row: row.position,
        "events": _events,
        "fields": lambda row: _fields(row.fields),
    },
    table=("of", "key", "fault", "repaired", "events", "fields"),
)
