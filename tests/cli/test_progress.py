"""How far long work is: seldom enough to be read, and never in the way of the data."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlog.cli.output import Output
from everlog.cli.progress import Mode, Pace, Step, duration, progress
from tests.cli.conftest import process
from tests.cli.test_output import at_a_terminal


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def steps(total: int) -> Iterator[Step]:
    for done in range(1, total + 1):
        yield Step(done, total, done, 10.0, float(total - done))


def run(mode: Mode, seconds: int, *, quiet: bool = False) -> None:
    """A step a second."""
    clock = Hand()
    with progress(Output(quiet=quiet), mode, "rows", clock=clock) as show:
        for step in steps(seconds):
            clock.now += 1
            show(step)


def test_a_line_comes_every_ten_seconds_and_the_end_of_what_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(Mode.AUTO, 25)
    assert capsys.readouterr().err.splitlines() == [
        "40%, 10 rows, 10/s, 15 s left",
        "80%, 20 rows, 10/s, 5 s left",
        "100%, 25 rows, 10/s, 0 s left",
    ]


def test_short_work_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(Mode.AUTO, 9)
    assert capsys.readouterr().err == ""


def test_machines_are_told_at_once_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    run(Mode.JSON, 3, quiet=True)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["done"] for one in told] == [1, 2, 3]
    assert told[0] == {"done": 1, "total": 3, "count": 1, "rate": 10.0, "seconds_left": 2.0}


@pytest.mark.parametrize(("mode", "quiet"), [(Mode.NONE, False), (Mode.AUTO, True)])
def test_nothing_is_told_to_those_who_want_none(mode: Mode, quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    run(mode, 60, quiet=quiet)
    assert capsys.readouterr().err == ""


def test_the_pace_so_far_tells_the_time_left() -> None:
    clock = Hand()
    pace = Pace(100, 500, clock)
    clock.now = 10
    assert pace.step(200, 50) == Step(100, 400, 50, 5.0, 30.0)
    assert Pace(0, 0, clock).step(0, 0).told("events") == "100%, 0 events, 0/s"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5340, "89 min"), (7500, "2 h 5 min")]
)
def test_durations_are_said_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(shop: Path) -> None:
    (shop / "map.toml").write_text('stream = "s-{n}"\ntype = "t"\n')
    (shop / "rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(6000)))
    told = at_a_terminal("event", "import", "rows.csv", "--map", "map.toml", width=100)
    assert "━" in told
    assert "rows, " in told
    assert "\x1b[2K" in told, "the bar is wiped out"
    assert "imported        6000" in told


def test_a_bar_never_runs_through_data_on_the_same_terminal(shop: Path) -> None:
    assert process("event", "append", "s-1", stdin='{"type":"t","data":{}}\n' * 3000).code == 0
    told = at_a_terminal("event", "export", width=100)
    assert "━" not in told
    assert told.count("specversion") == 3000
