"""A read of the log written to a file or to standard output: streamed, with progress, whole or not at all."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from everlog.app.log import Log
from everlog.app.scope import Where
from everlog.cli.appending import counted
from everlog.cli.failures import usage
from everlog.cli.files import is_standard, written
from everlog.cli.opening import Call
from everlog.cli.output import Format, Part, view_of
from everlog.cli.progress import Mode, Pace, progress

_STEP = 500


class Placed(Protocol):
    """Whatever knows its position in the log."""

    @property
    def position(self) -> int | str: ...


T = TypeVar("T", bound=Placed)


class Reading:
    """How far an export is."""

    def __init__(self, first: int) -> None:
        self.position, self.count = first, 0

    def noting(self, records: Iterable[T]) -> Iterator[T]:
        for record in records:
            yield record
            # Only now is it written, so that whoever goes on behind this position misses none.
            self.position, self.count = int(record.position), self.count + 1


def export(
    call: Call,
    log: Log,
    file: Path | None,
    records: Iterable[T],
    lines: Callable[[Iterable[T]], Iterable[str]],
    where: Where,
    *,
    force: bool,
    mode: Mode,
) -> None:
    """Write what `lines` makes of the records."""
    to_file = not is_standard(file)
    if not to_file and call.output.form is Format.JSON:
        raise usage("an export is lines, not one JSON document: name a FILE, or leave --json out")
    head, upto = log.head().position, where.get("upto")
    first, last = where.get("after", 0), head if upto is None else min(upto, head)
    pace, reading = Pace(first, last), Reading(first)
    try:
        with (
            written(file, force=force) as write,
            progress(call.output, mode, "events", beside_data=not to_file) as show,
        ):
            for line in lines(reading.noting(records)):
                write(line.encode())
                if reading.count and reading.count % _STEP == 0:
                    show(pace.step(reading.position, reading.count))
            show(pace.step(last, reading.count))
    except KeyboardInterrupt as error:
        again = f"{file} was not written: run it again" if to_file else f"--after {reading.position} goes on from here"
        raise KeyboardInterrupt(f"interrupted after {counted(reading.count, 'event')}: {again}") from error
    if to_file and call.output.form is not Format.TABLE:
        told = {"file": str(file), "events": reading.count, "last_position": str(reading.position)}
        call.output.document(told, Part(view_of(told), [told]))
    call.output.note(f"exported {counted(reading.count, 'event')}")
