"""The benchmarks cover the design's §7, run without any peer, and decide by the median of per-round ratios."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import row_of
from benchmarks.rounds import missing
from benchmarks.targets import TARGETS, Pair, Target, chosen

ROOT = Path(__file__).parents[2]
TARGET = Target("append", "sqlite", "raw", 0.65, Pair("cases:ours", "raw:theirs"))

# The second copy of the design's table: target, store, against, goal, and whether this release measures it.
DESIGN = {
    ("append-64-tasks", "sqlite", "eventsourcing", 8, True),
    ("append-64-threads", "sqlite", "eventsourcing", 5, True),
    ("append-1-writer", "sqlite", "raw", 0.65, True),
    ("load-1000", "sqlite", "eventsourcing", 8, True),
    ("whole-log", "sqlite", "eventsourcing", 2.5, True),
    ("import", "sqlite", "raw", 0.25, True),
    ("rebuild", "sqlite", "our batch size 1", 50, True),
    ("append-64-tasks", "postgres", "eventsourcing", 25, True),
    ("append-64-tasks", "postgres", "umadb", 3, True),
    ("append-1-writer", "postgres", "eventsourcing", 2, True),
    ("load-1000", "postgres", "eventsourcing", 10, True),
    ("whole-log", "postgres", "eventsourcing", 4, True),
    ("import", "postgres", "raw", 0.25, True),
    ("rebuild", "postgres", "our batch size 1", 50, True),
    ("live", "postgres", "eventsourcing", 1.5, True),
    ("group-by", "postgres", "SQL over JSON", 30, False),
}


def test_every_target_of_the_design_has_its_row() -> None:
    assert {(t.target, t.store, t.against, t.goal, t.pair is not None) for t in TARGETS} == DESIGN


def test_latency_alone_has_a_goal_that_must_not_be_passed() -> None:
    assert [target.target for target in TARGETS if target.at_most] == ["live"]


def test_a_target_of_a_later_issue_is_listed_without_a_verdict() -> None:
    (group_by,) = bench("--only", "group-by")
    assert (group_by["ratio"], group_by["goal"], group_by["holds"]) == (None, 30, None)


def test_what_is_held_against_raw_sql_needs_no_peer() -> None:
    rows = bench("--quick", "--only", "import")
    assert {row["store"] for row in rows} == {"sqlite", "postgres"}
    for row in rows:
        assert {"target", "store", "ratio", "goal", "holds"} <= row.keys()
        assert row["ratio"] > 0
        assert row["holds"] is (row["ratio"] >= row["goal"])
        assert row["rounds"] == 3


def test_of_a_latency_the_ratio_is_how_much_longer_ours_takes() -> None:
    live = TARGET._replace(at_most=True, goal=1.5)
    row = row_of(live, [{"cases:ours": 500.0, "raw:theirs": 1000.0}])
    assert (row["ratio"], row["holds"], row["ours"], row["theirs"]) == (2.0, False, 2.0, 1.0)


def test_the_median_of_the_ratios_of_each_round_decides() -> None:
    rounds = [{"cases:ours": ours, "raw:theirs": 100.0} for ours in (10.0, 64.0, 66.0, 70.0, 900.0)]
    row = row_of(TARGET, rounds)
    assert (row["ratio"], row["holds"], row["spread"]) == (0.66, True, [0.1, 9.0])


def test_a_round_in_which_a_case_failed_counts_for_nothing() -> None:
    row = row_of(TARGET, [{"cases:ours": 9.0}, {"cases:ours": 10.0, "raw:theirs": 100.0}])
    assert (row["ratio"], row["holds"], row["rounds"]) == (0.1, False, 1)


def test_a_case_that_never_ran_leaves_the_verdict_open() -> None:
    assert row_of(TARGET, [{"cases:ours": 9.0}])["holds"] is None


@pytest.mark.skipif(missing("peer_eventsourcing:load") is None, reason="eventsourcing is installed here")
def test_a_missing_peer_is_named() -> None:
    (row,) = [row for row in bench("--quick", "--only", "load-1000") if row["store"] == "sqlite"]
    assert (row["holds"], row["why"]) == (None, "no eventsourcing")


def test_targets_are_chosen_by_store_and_by_name() -> None:
    assert {target.store for target in chosen("sqlite")} == {"sqlite"}
    assert {target.target for target in chosen("load-1000,import")} == {"load-1000", "import"}
    with pytest.raises(SystemExit, match="nothing is called oracle: choose from"):
        chosen("oracle")


def bench(*options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks", "--json", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    rows: list[dict[str, Any]] = json.loads(ran.stdout)
    return rows
