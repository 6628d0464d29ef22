"""The power fails at any moment: what was acknowledged is there afterwards, and nothing is there in part.

EVERLOG_FAULT_SEED repeats a run; `python -m tests.campaign faults` goes on for longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.faults.build import shim, skip_reason
from tests.faults.hunt import SEED, History, Run, hunt_cuts, hunt_mixed_cuts, undisturbed
from tests.faults.nursery import MUTANTS, Nursery
from tests.faults.recording import Kind

pytestmark = pytest.mark.skipif(shim() is None, reason=skip_reason())

PARTS, STATES = 20, 1000


@pytest.mark.parametrize("part", range(PARTS))
def test_no_acknowledged_event_is_lost(nursery: Nursery, part: int) -> None:
    report = hunt_mixed_cuts(nursery, seed := f"{SEED}/cut/{part}", STATES)
    print(f"{seed}: {dict(report.exercised)}")
    assert not report.violations, "\n".join(map(str, report.violations[:5]))
    assert report.exercised["states"] == STATES
    assert report.exercised["faults"] > 0


@pytest.mark.parametrize(("synchronous", "corrupts"), [("NORMAL", False), ("OFF", True)])
def test_weaker_syncs_are_seen_to_lose_acknowledged_events(nursery: Nursery, synchronous: str, corrupts: bool) -> None:
    report = hunt_cuts(nursery, History(f"{SEED}/weak", "small", synchronous=synchronous), 300, resume_every=1000)
    lost = sum(told.violation.kind == "lost" for told in report.violations)
    print(f"{SEED}/weak: {lost} of {report.exercised['states']} states lost events")
    assert lost > 300 // 20
    assert ("corrupt" in report.kinds()) is corrupts


# ---- What makes a log durable that was found, and not written, by this process; without it events are lost.


def histories(broken: Nursery, mutant: str) -> Iterator[History]:
    """For each sync of a plan one after which this mutant may acknowledge what no disk holds."""
    history = History(f"{SEED}/mutant", "small")
    kinds = enumerate(undisturbed(broken, history), 1)
    syncs = [(call, kind) for call, kind in kinds if kind in (Kind.SYNC, Kind.SYNC_DIRECTORY)]
    for number, (call, kind) in enumerate(syncs, 1):
        match mutant:
            case "trusts what it finds":
                yield history._replace(runs=(Run(call), Run()))
            case "syncs what it finds and does not write it again":
                yield history._replace(runs=(Run(call + 1, fail=f"fsync:{number}:EIO:1"), Run()))
            case "leaves the folder to SQLite" if kind is Kind.SYNC_DIRECTORY:
                yield history._replace(runs=(Run(fail=f"fsync:{number}:EIO:1"),))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_store_that_acknowledges_what_it_merely_finds_is_found_out(nursery: Nursery, mutant: str) -> None:
    with Nursery(mutant) as broken:
        among = list(histories(broken, mutant))
        for history in Random(SEED).sample(among, len(among)):
            if "lost" in hunt_cuts(broken, history, 150, resume_every=1000).kinds():
                print(history.command())
                assert hunt_cuts(nursery, history, 150, resume_every=1000).violations == []
                return
    pytest.fail(f"none of {len(among)} histories showed that {mutant!r} loses events")
