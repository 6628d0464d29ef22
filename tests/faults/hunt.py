"""Looks for a history that breaks the store's promises; the suite hunts for a moment, the campaign for hours.

A history is a plan and the processes that work it one after another on one disk, each until it is through or killed.
Every violation is told with the command that plays its history again.

Usage: python -m tests.faults.hunt SEED DECK SYNCHRONOUS RUN... [--cut SEED:MODE:UPTO]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple, get_args

from tests.faults import workload
from tests.faults.checker import Violation, examined, violations
from tests.faults.disk import Mode
from tests.faults.nursery import Nursery
from tests.faults.plan import Plan, done_steps, make_plan
from tests.faults.powercut import Cut, Recording, load, memory_directory, states, write_files
from tests.faults.recording import Kind, records
from tests.faults.run import Outcome, When

KILLED = -9
SEED = os.environ.get("EVERLOG_FAULT_SEED") or str(int.from_bytes(os.urandom(4), "big"))


class Run(NamedTuple):
    """One process, and what befalls it."""

    kill_at: int | None = None
    when: When = "before"
    fail: str | None = None

    def __str__(self) -> str:
        return f"{self.kill_at or 'never'}/{self.when}/{self.fail or 'nothing'}"


class History(NamedTuple):
    seed: str
    deck: str
    runs: tuple[Run, ...] = (Run(),)
    synchronous: str = "FULL"

    def command(self, cut: Cut | None = None) -> str:
        words = [self.seed, self.deck, self.synchronous, *map(str, self.runs)]
        if cut is not None:
            words += ["--cut", f"{cut.seed}:{cut.mode}:{cut.upto}"]
        return f"python -m tests.faults.hunt {shlex.join(words)}"


class Told(NamedTuple):
    """A violation, and how to see it again."""

    violation: Violation
    command: str

    def __str__(self) -> str:
        return f"{self.violation.kind}: {self.violation.detail[:1000]}\n    {self.command}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, by name, and what is wrong."""

    exercised: Counter[str] = field(default_factory=Counter)
    violations: list[Told] = field(default_factory=list)

    def add(self, history: History, found: Iterable[Violation], cut: Cut | None = None) -> None:
        self.violations.extend(Told(violation, history.command(cut)) for violation in found)

    def include(self, more: Report) -> None:
        self.exercised.update(more.exercised)
        self.violations.extend(more.violations)

    def kinds(self) -> set[str]:
        return {told.violation.kind for told in self.violations}


# ---- Playing one history.


@dataclass(frozen=True, slots=True)
class Disk:
    """What a history leaves behind."""

    plan: Plan
    directory: Path
    log: Path
    outcomes: list[Outcome]

    @property
    def acks(self) -> list[bytes]:
        return [ack for outcome in self.outcomes for ack in outcome.acks]

    @property
    def injected(self) -> int:
        return sum(outcome.injected for outcome in self.outcomes)

    def violations(self) -> list[Violation]:
        """Looks at a copy: whoever opens a store and closes it tidies it up."""
        broken = [outcome.stderr[-900:] for outcome in self.outcomes if outcome.returncode not in (0, KILLED)]
        with memory_directory() as copy:
            shutil.copytree(self.directory, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*-shm"))
            return [*(Violation("broken", text) for text in broken), *violations(copy, self.plan, self.acks)]

    def finished(self) -> list[Violation]:
        """As `violations`, for a history whose last process must have come through."""
        done, steps = done_steps(self.acks), len(self.plan.steps)
        stuck = [] if done == steps else [Violation("stuck", f"{done} of {steps} steps are done")]
        return [*stuck, *self.violations(), *examined(self.directory)]

    def recording(self) -> Recording:
        recording = load(self.log)
        assert recording.acks == self.acks, "the recording and the pipe tell different stories"
        return recording


@contextlib.contextmanager
def played(nursery: Nursery, history: History) -> Iterator[Disk]:
    with memory_directory() as directory, tempfile.TemporaryDirectory(prefix="everlog-hunt-") as scratch:
        disk = Disk(make_plan(history.seed, history.deck), directory, Path(scratch, "recording"), [])
        for run in history.runs:
            disk.outcomes.append(_run(nursery, history, disk, run))
        yield disk


def _run(nursery: Nursery, history: History, disk: Disk, run: Run) -> Outcome:
    arguments = [str(disk.directory), history.seed, history.deck, str(done_steps(disk.acks)), history.synchronous]
    return nursery.run(
        arguments, directory=disk.directory, log=disk.log, kill_at=run.kill_at, when=run.when, fail=run.fail
    )


def undisturbed(nursery: Nursery, history: History) -> list[Kind]:
    """The kind of each changing call of a run nothing befalls: its index is one below what `kill_at` means."""
    with played(nursery, history._replace(runs=(Run(),))) as disk:
        assert disk.finished() == []
        by_call = {record.call: record.kind for record in records(disk.log) if record.kind is not Kind.ACK}
    return [by_call[call] for call in range(1, max(by_call) + 1)]


# ---- Kills.


def hunt_kills(nursery: Nursery, history: History, kills: Iterable[tuple[int, When]], resume_every: int) -> Report:
    """Kill once and look; every so often start again, too, and expect the planned content with nothing doubled."""
    report = Report()
    for number, (kill_at, when) in enumerate(kills):
        runs = (Run(kill_at, when), Run()) if number % resume_every == 0 else (Run(kill_at, when),)
        killed = history._replace(runs=runs)
        with played(nursery, killed) as disk:
            report.exercised["kills"] += disk.outcomes[0].returncode == KILLED and disk.injected == 1
            report.exercised["restarts"] += len(runs) - 1
            report.exercised["events acknowledged"] += sum(not ack.startswith(b"step") for ack in disk.acks)
            report.add(killed, disk.violations() if len(runs) == 1 else disk.finished())
    return report


# ---- Power cuts.


def eventful(nursery: Nursery, history: History) -> History:
    """The history with something happening in it: kills around a sync or anywhere, and syncs that fail before one."""
    calls = undisturbed(nursery, history)
    syncs = [call for call, kind in enumerate(calls, 1) if kind in (Kind.SYNC, Kind.SYNC_DIRECTORY)]
    random = Random(f"{history.seed}/eventful")
    runs = [_eventful_run(random, len(calls), syncs) for _ in range(random.randint(1, 3))]
    return history._replace(runs=(*runs, Run()))


def _eventful_run(random: Random, calls: int, syncs: Sequence[int]) -> Run:
    when = random.choice(get_args(When))
    number, error = random.randrange(len(syncs)), random.choice(("EIO", "ENOSPC"))
    fail = f"fsync:{number + 1}:{error}:{random.choice((1, 1, 2, 5))}"
    match random.choice(("at sync", "anywhere", "failed sync", "failed sync, kill")):
        case "at sync":
            return Run(random.choice(syncs), "before")
        case "anywhere":
            return Run(random.randint(1, calls), when)
        case "failed sync":
            return Run(fail=fail)
        case _:
            return Run(syncs[number] + random.randint(1, 15), when, fail)


def hunt_cuts(nursery: Nursery, history: History, count: int, resume_every: int) -> Report:
    """Cut the power at `count` moments; every so often let the workload go on from what is left, too."""
    report = Report()
    with played(nursery, history) as disk:
        report.add(history, disk.finished())
        report.exercised.update(recordings=1, faults=disk.injected)
        for number, crash in enumerate(states(disk.recording(), count, Random(history.seed).getrandbits(32))):
            found = violations(crash.directory, disk.plan, crash.acks)
            if number % resume_every == 0 and not found:
                found = _resumed(history, disk.plan, crash.directory, done_steps(crash.acks))
                report.exercised["resumed"] += 1
            report.exercised["states"] += 1
            report.add(history, found, crash.cut)
    return report


def hunt_mixed_cuts(nursery: Nursery, seed: str, count: int) -> Report:
    """Three recordings: an undisturbed run, and two on which processes were killed or syncs failed before the cut."""
    report = Report()
    for deck, disturbed, share in (("small", False, 0.3), ("small", True, 0.4), ("all", True, 0.3)):
        history = History(f"{seed}/{deck}", deck)
        if disturbed:
            history = eventful(nursery, history)
        report.include(hunt_cuts(nursery, history, round(count * share), resume_every=50))
    return report


def _resumed(history: History, plan: Plan, directory: Path, done: int) -> list[Violation]:
    """Do the rest of the plan here, without faults."""
    try:
        for _ in workload.work(directory, plan, history.seed, done, history.synchronous):
            pass
    except Exception:
        return [Violation("broken", traceback.format_exc())]
    acks = [ack for number in range(len(plan.steps)) for ack in plan.acks(number)]
    return [*violations(directory, plan, acks), *examined(directory)]


def look_at(disk: Disk, cut: Cut) -> list[Violation]:
    """What is wrong after one power cut."""
    state = disk.recording().state(cut.seed, cut.mode, cut.upto)
    with memory_directory() as directory:
        write_files(state.files, directory)
        return violations(directory, disk.plan, state.acks)


# ---- I/O errors.


# What each kind of call is made to say; `SHORT` writes half of it and says so, which SQLite has to finish.
ERRORS: Mapping[str, tuple[tuple[Kind, ...], tuple[str, ...]]] = {
    "fsync": ((Kind.SYNC, Kind.SYNC_DIRECTORY), ("EIO", "ENOSPC")),
    "write": ((Kind.WRITE,), ("EIO", "ENOSPC", "SHORT")),
    "truncate": ((Kind.TRUNCATE,), ("EIO",)),
    "create": ((Kind.CREATE,), ("EMFILE", "ENOSPC")),
    "unlink": ((Kind.UNLINK,), ("EIO",)),
}
ONCE, FOR_A_WHILE = 1, 7


def every_error(calls: Sequence[Kind], name: str) -> list[str]:
    """Each call of this kind, each error, once and for a while, as rules of the shim."""
    kinds, errors = ERRORS[name]
    numbers = range(1, sum(kind in kinds for kind in calls) + 1)
    lengths = (ONCE, FOR_A_WHILE)
    return [f"{name}:{number}:{error}:{length}" for number in numbers for error in errors for length in lengths]


def hunt_errors(nursery: Nursery, history: History, rules: Iterable[str], cuts: int = 10) -> Report:
    """Let calls fail: the workload must come through by asking again, and what it was told must survive a power cut."""
    report = Report()
    for rule in rules:
        failing = history._replace(runs=(Run(fail=rule),))
        with played(nursery, failing) as disk:
            report.exercised["runs hit"] += disk.injected > 0
            report.exercised["faults"] += disk.injected
            report.exercised.update(re.findall("^(store_unavailable|outcome_unknown):", disk.outcomes[0].stderr, re.M))
            report.add(failing, disk.finished())
            recording = disk.recording()
            end = Cut(0, "drop", len(recording.steps))
            report.add(failing, look_at(disk, end), end)
            for crash in states(recording, cuts, Random(rule).getrandbits(32)):
                report.add(failing, violations(crash.directory, disk.plan, crash.acks), crash.cut)
    return report


# ---- Playing again.


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plays one history again and says what is wrong with it.")
    parser.add_argument("seed")
    parser.add_argument("deck")
    parser.add_argument("synchronous")
    parser.add_argument("runs", nargs="+", type=_read_run, metavar="KILL_AT/WHEN/FAIL")
    parser.add_argument("--cut", type=_read_cut, metavar="SEED:MODE:UPTO")
    told = parser.parse_args(arguments)
    history = History(told.seed, told.deck, tuple(told.runs), told.synchronous)
    with Nursery() as nursery, played(nursery, history) as disk:
        for number, outcome in enumerate(disk.outcomes):
            print(f"process {number}: exit {outcome.returncode}, {outcome.calls} calls, {outcome.injected} faults")
            print(outcome.stderr, end="")
        found = disk.violations() if told.cut is None else look_at(disk, told.cut)
    for violation in found:
        print(f"{violation.kind}: {violation.detail}")
    return 1 if found else 0


def _read_run(text: str) -> Run:
    kill_at, when, fail = text.split("/", 2)
    known = {known: known for known in get_args(When)}
    return Run(None if kill_at == "never" else int(kill_at), known[when], None if fail == "nothing" else fail)


def _read_cut(text: str) -> Cut:
    seed, mode, upto = text.split(":")
    known = {known: known for known in get_args(Mode)}
    return Cut(int(seed), known[mode], int(upto))


if __name__ == "__main__":
    sys.exit(main())
