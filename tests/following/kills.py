"""Kill -9 between any two steps of following, again and again; at the end everything counts once (T16).

The models count by statements that count twice what they are given twice. A round is one log: its worker is killed a
dozen times while it appends, follows or rebuilds, then one is let through, and what is there is compared with the log.
"""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from typing import NamedTuple

from everlog import Log
from everlog.app.rebuild import Rebuild
from tests.faults.powercut import memory_directory
from tests.following import program
from tests.following.nursery import Nursery
from tests.following.parts import Counted, counted, rows, sums
from tests.following.program import NAMES, Orders, Trap
from tests.postgres.server import empty_database

POINTS = (
    "append.before_commit",
    "append.after_commit",
    "checkpoint.before_commit",
    "checkpoint.after_commit",
    "fold.apply",
    "sql.apply",
    "keep.effect",
    "send.begin",
    "processor.marked",
    "processor.effects",
)
IN_A_REBUILD = ("rebuild.page", "fold.apply", "sql.apply", "checkpoint.before_commit", "checkpoint.after_commit")
ANY_MOMENT = "any moment"
A_ROUND = 12
LEASE = 0.05  # of who is dead: the next one waits that long


class Report(NamedTuple):
    """How often a process was killed, by where; and what is wrong afterwards."""

    kills: Counter[str]
    violations: list[str]


def kill_often(seed: str, kills: int, *, on: str = "sqlite") -> Report:
    """At least so many kills, in rounds; the same seed gives the same orders."""
    report = Report(Counter(), [])
    with Nursery() as nursery:
        number = 0
        while report.kills.total() < kills and not report.violations:
            with memory_directory() as folder, _new_log(on, folder) as url:
                report.violations.extend(_round(nursery, f"{seed}.{number}", folder, url, report.kills))
            number += 1
    return report


def _new_log(on: str, folder: Path) -> AbstractContextManager[str]:
    return empty_database() if on == "postgres" else nullcontext(f"sqlite:///{folder}/log.db")


def _round(nursery: Nursery, seed: str, folder: Path, url: str, kills: Counter[str]) -> list[str]:
    random, told = Random(seed), str(folder / "told")
    rebuilt = False
    for _ in range(A_ROUND):
        rebuild = random.random() < 0.3
        where = random.choice([*(IN_A_REBUILD if rebuild else POINTS), ANY_MOMENT])
        orders = Orders(
            url, lease=LEASE, append=random.randint(2, 20), until_quiet=True,
            traps=() if where == ANY_MOMENT else (Trap(where, random.randint(1, 12)),),
            rebuild=rebuild, resume=rebuilt and random.random() < 0.7,
        )  # fmt: skip
        rebuilt = rebuilt or rebuild
        code = nursery.run(orders, told, random.uniform(0, 0.2) if where == ANY_MOMENT else None)
        if code == -signal.SIGKILL:
            kills[f"in a rebuild: {where}" if rebuild else where] += 1
        elif code:
            return [f"round {seed}: a process ended with {code}: {Path(told).read_text()[-2000:]}"]
    code = nursery.run(Orders(url, lease=LEASE, until_quiet=True), told)
    if code:
        return [f"round {seed}: the last process ended with {code}: {Path(told).read_text()[-2000:]}"]
    with program.platform.open(url) as log:
        return [f"round {seed}: {violation}" for violation in violations(log)]


def violations(log: Log) -> list[str]:
    """What does not count every event of the log exactly once, and what a rebuild makes differently."""
    acme = log.tenant("acme")
    events = list(acme.events(Counted))
    per_key = Counter(e.data.key for e in events)
    live = dump(log)
    for projection in (program.totals, program.table):
        Rebuild(projection, program.platform.types, log.store).run(lambda progress: None)
    found = {
        "positions": ([e.position for e in events], list(range(1, log.head().position + 1))),
        "fold": (dict(acme.all(program.totals)), dict(sorted(sums(events).items()))),
        "inline": (dict(acme.all(program.inline)), dict(sorted(sums(events).items()))),
        "table": ({key: n for (_, key), n in counted(log).items()}, sums(events)),
        "effects": (dict(rows(log, "SELECT key, n FROM kept")), dict(per_key)),
        "inbox": (rows(log, "SELECT count(*) FROM everlog_inbox"), [(len(events),)]),
        "lanes": (rows(log, "SELECT key FROM everlog_lane"), []),
        "checkpoints": (
            [(known.name, known.status, known.position) for known in log.store.checkpoints.progress()],
            [(name, "running", log.head().position) for name in sorted(NAMES)],
        ),
        "rebuilt": (dump(log), live),
    }
    return [
        f"{what}: {is_there!r}, not {expected!r}"
        for what, (is_there, expected) in found.items()
        if is_there != expected
    ]


def dump(log: Log) -> list[object]:
    """Every byte of the read models."""
    folds = "SELECT * FROM everlog_fold ORDER BY projection, version, tenant, key"
    return [*rows(log, folds), *rows(log, "SELECT * FROM counted ORDER BY tenant, key")]
