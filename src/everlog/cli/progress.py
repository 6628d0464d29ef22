"""How far long work is, on standard error: a bar at a terminal, else a line every ten seconds, or JSON for machines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn

from everlog.cli.output import Output, encode

LINE_SECONDS, JSON_SECONDS, BAR_SECONDS = 10.0, 1.0, 0.1

Clock = Callable[[], float]


class Mode(StrEnum):
    AUTO = "auto"
    JSON = "json"
    NONE = "none"


ProgressOption = Annotated[
    Mode, typer.Option("--progress", help="Tell how far it is: as fits standard error, as JSON lines, or not at all.")
]


class Step(msgspec.Struct, frozen=True):
    """`done` of `total` in whatever is measured; `count` of what is counted, `rate` a second."""

    done: int
    total: int
    count: int
    rate: float
    seconds_left: float | None

    def told(self, unit: str) -> str:
        part = self.done / self.total if self.total else 1.0
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return f"{part:.0%}, {self.count:,} {unit}, {self.rate:,.0f}/s{left}"


Show = Callable[[Step], None]


@contextmanager
def progress(
    output: Output, mode: Mode, unit: str, *, beside_data: bool = False, clock: Clock = time.monotonic
) -> Iterator[Show]:
    """Gives what is to be called after every step, however often: it shows only what a reader can follow.

    `beside_data` when data goes to standard output at the same time: a bar would run through it on one terminal.
    """
    if mode is Mode.JSON:
        with _seldom(lambda step: _write_json(output, step), 0.0, JSON_SECONDS, clock) as show:
            yield show
    elif mode is Mode.NONE or output.quiet:
        yield lambda step: None
    elif output.words.is_terminal and not (beside_data and output.to_terminal):
        with _bar(output, unit, clock) as show:
            yield show
    else:
        with _seldom(lambda step: output.words.print(step.told(unit)), LINE_SECONDS, LINE_SECONDS, clock) as show:
            yield show


@contextmanager
def _seldom(show: Show, first: float, seconds: float, clock: Clock) -> Iterator[Show]:
    """After `first` seconds, then every `seconds`; and the end of what was shown before, so that it does not hang."""
    due, shown, left_out = clock() + first, False, None

    def tell(step: Step) -> None:
        nonlocal due, shown, left_out
        if clock() < due:
            left_out = step
            return
        show(step)
        due, shown, left_out = clock() + seconds, True, None

    yield tell
    if shown and left_out is not None:
        show(left_out)


@contextmanager
def _bar(output: Output, unit: str, clock: Clock) -> Iterator[Show]:
    columns = BarColumn(), TextColumn("{task.description}")
    bar = Progress(*columns, console=output.words, transient=True, redirect_stdout=False, redirect_stderr=False)
    task, began = bar.add_task("", total=None), clock()

    def tell(step: Step) -> None:
        if clock() - began >= BAR_SECONDS:
            bar.start()
        bar.update(task, completed=step.done, total=step.total, description=step.told(unit))

    try:
        yield tell
    finally:
        if bar.live.is_started:
            bar.stop()


def _write_json(output: Output, step: Step) -> None:
    output.words.file.write(encode(step).decode() + "\n")
    output.words.file.flush()


class Pace:
    """Makes steps of positions: how many a second so far, and how long for the rest at that pace."""

    def __init__(self, first: int, last: int, clock: Clock = time.monotonic) -> None:
        self._first, self._last, self._clock, self._began = first, last, clock, clock()

    def step(self, position: int, count: int) -> Step:
        done, total = position - self._first, self._last - self._first
        seconds = self._clock() - self._began
        left = seconds * (total - done) / done if done else None
        return Step(done, total, count, count / seconds if seconds else 0.0, left)


def duration(seconds: float) -> str:
    """`7 s`, `3 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
