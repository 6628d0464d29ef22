"""Long runs of what the suite does for a moment: `python -m tests.campaign NAME`, or all of them without a name.

Each prints the seed that repeats it, what it exercised and what it found, and the exit status is 1 if that is anything.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from everlog.testing.postgres import running
from everlog.testing.postgres.databases import EmptyDatabases
from tests.command.snapshot_cases import run_cases
from tests.concurrency.contention import CASES, ON_A_SERVER, contend
from tests.faults.long_hunt import hunt_long
from tests.following.backlog import MOST, fall_behind
from tests.following.kills import kill_often
from tests.history.cost import SMALLEST, cost_of_travel
from tests.model.backends import BothBackends, SqliteBackend
from tests.model.test_store_model import MakeStore, run_model
from tests.postgres.cuts import cut_often
from tests.postgres.kills import crash_often
from tests.postgres.server import SETTINGS
from tests.postgres.tails import follow
from tests.relay.storm import CUTS, KILLS, storm
from tests.simulation.hunt import hunt_on
from tests.simulation.relaying import simulate_relay

SHOWN = 20  # violations; one cause breaks much


class Found(NamedTuple):
    """What a campaign did, by name, and what it has against the code under test."""

    exercised: Mapping[str, int]
    violations: Sequence[str]


class Campaign(NamedTuple):
    """`options` are whole numbers with their defaults: `--seconds 60` arrives as `options["seconds"]`."""

    about: str
    options: Mapping[str, int]
    run: Callable[[str, Mapping[str, int]], Found]


def contention(seed: str, options: Mapping[str, int]) -> Found:
    """Every case in turn, a round of at most a minute each, until the time is up; a fresh seed derived each round.

    SQLite has those of one file, PostgreSQL all of them.
    """
    until = time.monotonic() + options["seconds"]
    share = max(1.0, min(60.0, options["seconds"] / (2 * len(CASES) + len(ON_A_SERVER))))
    exercised: Counter[str] = Counter()
    violations: list[str] = []
    rounds = 0
    with databases() as empty:
        while rounds == 0 or time.monotonic() < until:
            for log, cases in ((files, CASES), (empty.one, CASES + ON_A_SERVER)):
                for case in cases:
                    with log() as url:
                        done, found = contend(case, url, seed=f"{seed}.{rounds}", seconds=share)
                    exercised.update(done)
                    violations += [f"{case}: {violation.kind}: {violation.detail}" for violation in found]
            rounds += 1
    return Found({"rounds": rounds, **exercised}, violations)


@contextmanager
def files() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="everlog-contention-") as folder:
        yield f"sqlite:///{folder}/log.db"


@contextmanager
def databases() -> Iterator[EmptyDatabases]:
    """On a server of the campaign's own."""
    with running(settings=SETTINGS, tcp=True) as server:
        yield EmptyDatabases(server)


def postgres_kills(seed: str, options: Mapping[str, int]) -> Found:
    report = crash_often(seed, options["kills"])
    return Found({**report.faults, **report.done}, report.violations)


def postgres_commits(seed: str, options: Mapping[str, int]) -> Found:
    """In rounds of 1000, each on a log of its own."""
    exercised: Counter[str] = Counter()
    violations: list[str] = []
    with databases() as empty:
        for number, left in enumerate(range(options["cuts"], 0, -1000)):
            with empty.one() as url:
                report = cut_often(f"{seed}.{number}", min(1000, left), empty.server, url)
            exercised.update(report.cuts + report.answers)
            violations += report.violations
    return Found(exercised, violations)


def postgres_tail(seed: str, options: Mapping[str, int]) -> Found:
    """In rounds of a minute, which is how long the unrelated transactions of each stay open."""
    exercised: Counter[str] = Counter()
    violations: list[str] = []
    with databases() as empty:
        for number, left in enumerate(range(options["seconds"], 0, -60)):
            with empty.one() as url, empty.one() as elsewhere:
                report = follow(f"{seed}.{number}", url, elsewhere, min(60, left))
            exercised.update(report.faults + report.done)
            violations += report.violations
            if report.delay >= 1.0:
                violations.append(f"an event was seen {report.delay:.3f} s after it was committed")
    return Found(exercised, violations)


def model(seed: str, options: Mapping[str, int]) -> Found:
    return _modelled(SqliteBackend, seed, options)


def differential(seed: str, options: Mapping[str, int]) -> Found:
    return _modelled(BothBackends, seed, options)


def _modelled(make_store: MakeStore, seed: str, options: Mapping[str, int]) -> Found:
    try:
        return Found(run_model(make_store, options["examples"], seed), [])
    except Exception:  # whatever it is, the store and the model differ; Hypothesis notes the steps in it
        return Found({}, [traceback.format_exc()])


def faults(seed: str, options: Mapping[str, int]) -> Found:
    report = hunt_long(seed, options)
    return Found(report.exercised, [str(told) for told in report.violations])


def following(seed: str, options: Mapping[str, int]) -> Found:
    report = kill_often(seed, options["kills"])
    return Found(report.kills, report.violations)


def backlog(seed: str, options: Mapping[str, int]) -> Found:
    """Nothing is drawn here, so every seed is the same run."""
    violations = []
    for events, size in ((options["events"], 0), (options["large"], 250_000)):
        with tempfile.TemporaryDirectory(prefix="everlog-backlog-") as folder:
            took = fall_behind(f"sqlite:///{folder}/log.db", events, size, slow_seconds=60.0)
        if took.growth >= MOST:
            violations.append(f"{events} events of {size} bytes took {took.growth} bytes: {took}")
    return Found({"events": options["events"], "large events": options["large"]}, violations)


def travel(seed: str, options: Mapping[str, int]) -> Found:
    """Looking back at one aggregate takes as many steps of SQLite in a log of any size."""
    with tempfile.TemporaryDirectory(prefix="everlog-travel-") as folder:
        path = Path(folder, "log.db")
        small, large = cost_of_travel(SMALLEST, path), cost_of_travel(options["events"], path)
    dearer = [f"{look}: {small[look]} steps, then {large[look]}" for look in small if large[look] > small[look] + 50]
    return Found({"events": options["events"], "ways of looking": len(small)}, dearer)


def snapshots(seed: str, options: Mapping[str, int]) -> Found:
    with tempfile.TemporaryDirectory(prefix="everlog-snapshots-") as folder:
        try:
            return Found(run_cases(options["cases"], int(seed), Path(folder, "log.db")), [])
        except AssertionError:  # a state that is not its replay
            return Found({}, [traceback.format_exc()])


def simulation(seed: str, options: Mapping[str, int]) -> Found:
    hunted = hunt_on(os.cpu_count() or 1, seed, options["seeds"])
    return Found(hunted.seen, hunted.violations)


def relays(seed: str, options: Mapping[str, int]) -> Found:
    hunted = hunt_on(os.cpu_count() or 1, seed, options["seeds"], simulate_relay)
    return Found(hunted.seen, hunted.violations)


def broker(seed: str, options: Mapping[str, int]) -> Found:
    """Rounds of all kinds of trouble, in an order drawn anew, each on a cluster and a log of its own."""
    exercised: Counter[str] = Counter()
    violations: list[str] = []
    kinds = [*CUTS, *KILLS]
    for number in range(0, options["rounds"], len(kinds)):
        try:
            with storm(number + int(seed), namespaces=True) as one:
                report = one.run(one.random.sample(kinds, len(kinds)), seconds=options["seconds"])
        except AssertionError as error:
            violations.append(f"round {number}: {error}")
            continue
        exercised.update(report.rounds)
        exercised["events"] += report.appended
    return Found(exercised, violations)


# A further campaign is a function and a line here.
CAMPAIGNS = {
    "contention": Campaign("threads, tasks and processes fight over streams", {"seconds": 900}, contention),
    "postgres-kills": Campaign("a PostgreSQL that dies under its writers", {"kills": 500}, postgres_kills),
    "postgres-commits": Campaign("connections cut around COMMIT", {"cuts": 10_000}, postgres_commits),
    "postgres-tail": Campaign("readers behind writers that hold the head", {"seconds": 3600}, postgres_tail),
    "model": Campaign("a store against a plain list of events", {"examples": 20_000}, model),
    "differential": Campaign(
        "SQLite and PostgreSQL against each other and that list", {"examples": 2_000}, differential
    ),
    "faults": Campaign(
        "kills, power cuts and I/O errors under a store",
        {"kills": 10_000, "states": 1_000_000, "errors": 5_000},
        faults,
    ),
    "travel": Campaign("time travel in a log of a million events", {"events": 1_000_000}, travel),
    "snapshots": Campaign("snapshots deleted, damaged, of other code", {"cases": 50_000}, snapshots),
    "following": Campaign("a worker killed anywhere, again and again", {"kills": 5_000}, following),
    "backlog": Campaign("a consumer far slower than what it follows", {"events": 10_000_000, "large": 5_000}, backlog),
    "relays": Campaign("relays and a lossy broker under a scheduler that owns time", {"seeds": 1_000_000}, relays),
    "broker": Campaign(
        "a three-node broker whose links are cut and whose nodes are killed", {"rounds": 300, "seconds": 4}, broker
    ),
    "simulation": Campaign("leases and lanes under a scheduler that owns time", {"seeds": 1_000_000}, simulation),
}


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    names = [chosen.name] if chosen.name else list(CAMPAIGNS)
    given = {name: value for name, value in vars(chosen).items() if name not in ("name", "seed")}
    return max([_run(name, chosen.seed, {**CAMPAIGNS[name].options, **given}) for name in names])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.set_defaults(seed=os.environ.get("EVERLOG_SEED") or str(int.from_bytes(os.urandom(4), "big")))
    named = parser.add_subparsers(dest="name", metavar="NAME")
    for name, campaign in CAMPAIGNS.items():
        options = named.add_parser(
            name,
            help=campaign.about,
            description=campaign.about,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        options.add_argument(
            "--seed", default=argparse.SUPPRESS, help="repeats a run; else EVERLOG_SEED, else a new one"
        )
        for option, default in campaign.options.items():
            options.add_argument(f"--{option}", type=int, default=default)
    return parser


def _run(name: str, seed: str, options: Mapping[str, int]) -> int:
    asked = " ".join(f"--{option} {value}" for option, value in options.items())
    print(f"{name}: repeat with python -m tests.campaign {name} --seed {seed} {asked}", flush=True)
    began = time.monotonic()
    found = CAMPAIGNS[name].run(seed, options)
    for violation in found.violations[:SHOWN]:
        print(f"{name}: VIOLATION {violation}")
    did = ", ".join(f"{count} {what}" for what, count in found.exercised.items())
    print(f"{name}: {time.monotonic() - began:.0f} s; {did}; {len(found.violations)} violations", flush=True)
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
