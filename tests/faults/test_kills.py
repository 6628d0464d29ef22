"""Processes killed around every call that changes a file: promise P1 without power cuts.

EVERLOG_FAULT_SEED repeats a run; `python -m tests.campaign faults` goes on for longer.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from tests.faults import hunt, workload
from tests.faults.build import shim, skip_reason
from tests.faults.hunt import SEED, History, Run, hunt_kills, played, undisturbed
from tests.faults.nursery import Nursery
from tests.faults.powercut import Cut, memory_directory
from tests.faults.run import When, run_under_shim

pytestmark = pytest.mark.skipif(shim() is None, reason=skip_reason())

PLANS, KILLS = 6, 50
WHENS: tuple[When, ...] = get_args(When)


@pytest.mark.parametrize("plan", range(PLANS))
def test_a_kill_at_any_call_loses_nothing_and_the_next_process_finishes_the_plan(nursery: Nursery, plan: int) -> None:
    history = History(f"{SEED}/kill/{plan}", "all")
    calls = len(undisturbed(nursery, history))
    first = Random(history.seed).randrange(calls)
    kills = [(1 + (first + number * calls // KILLS) % calls, WHENS[number % 3]) for number in range(KILLS)]
    report = hunt_kills(nursery, history, kills, resume_every=3)
    print(f"{history.seed}: {calls} calls, {dict(report.exercised)}")
    assert not report.violations, "\n".join(map(str, report.violations))
    assert report.exercised["kills"] == KILLS
    assert report.exercised["restarts"] > KILLS // 4


def test_a_process_that_is_killed_again_and_again_gets_through_in_the_end(nursery: Nursery) -> None:
    runs = [Run(60 + 10 * number, WHENS[number % 3]) for number in range(9)]
    history = History(f"{SEED}/kills", "all", (*runs, Run()))
    with played(nursery, history) as disk:
        print(history.command())
        assert disk.injected > 2
        assert disk.finished() == []


def test_a_fork_of_the_nursery_does_what_a_fresh_process_does(nursery: Nursery) -> None:
    history = History(f"{SEED}/fresh", "all")
    calls = len(undisturbed(nursery, history))
    for kill_at in (None, calls // 3, calls // 2):
        with played(nursery, history._replace(runs=(Run(kill_at),))) as disk, memory_directory() as directory:
            argv: list[str | Path] = [
                sys.executable,
                "-m",
                workload.__name__,
                directory,
                history.seed,
                history.deck,
                "0",
                "FULL",
            ]
            fresh = run_under_shim(argv, directory=directory, kill_at=kill_at)
            (forked,) = disk.outcomes
            assert (fresh.returncode, fresh.acks, fresh.calls) == (forked.returncode, forked.acks, forked.calls)


def test_the_workload_acknowledges_each_event_of_a_step_and_then_the_step(nursery: Nursery, tmp_path: Path) -> None:
    history = History(f"{SEED}/acks", "all")
    with played(nursery, history) as disk:
        assert disk.acks == [ack for number in range(len(disk.plan.steps)) for ack in disk.plan.acks(number)]
        assert sum(len(ack) == 32 for ack in disk.acks) == len(disk.plan.events) > 100


@pytest.mark.parametrize("cut", [None, Cut(7, "random", 200)])
def test_the_command_told_with_a_violation_plays_its_history_again(
    nursery: Nursery, capsys: pytest.CaptureFixture[str], cut: Cut | None
) -> None:
    history = History(f"{SEED}/again", "small", (Run(90, "torn"), Run(fail="fsync:3:EIO:2"), Run()))
    program, *arguments = shlex.split(history.command(cut))[2:]
    assert program == hunt.__name__
    assert hunt.main(arguments) == 0
    told = capsys.readouterr().out
    with played(nursery, history) as disk:
        for number, outcome in enumerate(disk.outcomes):
            assert f"process {number}: exit {outcome.returncode}, {outcome.calls} calls" in told
