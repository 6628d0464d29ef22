"""Calls that fail, at every kind of call and every place of the workload, once and for a while.

The workload asks again as long as the store says that it is unavailable or does not know, on the same store object;
any other error ends it, and an answer that is not the planned one too. So a run that comes through has heard the truth.

EVERLOG_FAULT_SEED repeats a run; `python -m tests.campaign faults` goes on for longer.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.faults.build import shim, skip_reason
from tests.faults.hunt import ERRORS, SEED, History, every_error, hunt_errors, undisturbed
from tests.faults.nursery import Nursery

pytestmark = pytest.mark.skipif(shim() is None, reason=skip_reason())

WRITES = 40  # of each part: there are over a thousand rules for them, and the campaign tries all


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - {"write"}))
def test_whatever_call_fails_no_acknowledged_event_is_lost_or_doubled(nursery: Nursery, name: str) -> None:
    hunt(nursery, History(f"{SEED}/error", "small"), name)


@pytest.mark.parametrize("part", range(4))
def test_whatever_write_fails_no_acknowledged_event_is_lost_or_doubled(nursery: Nursery, part: int) -> None:
    hunt(nursery, History(f"{SEED}/error/{part}", "small"), "write")


def hunt(nursery: Nursery, history: History, name: str) -> None:
    rules = every_error(undisturbed(nursery, history), name)
    chosen = Random(history.seed).sample(rules, min(len(rules), WRITES)) if name == "write" else rules
    report = hunt_errors(nursery, history, chosen)
    print(f"{history.seed}: {name} of {len(rules)} rules: {dict(report.exercised)}")
    assert not report.violations, "\n".join(map(str, report.violations[:5]))
    assert report.exercised["runs hit"] == len(chosen) > 0
    if name in ("write", "fsync"):
        assert min(report.exercised["store_unavailable"], report.exercised["outcome_unknown"]) > 0
