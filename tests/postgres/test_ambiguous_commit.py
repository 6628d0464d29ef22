"""A connection lost around COMMIT: the append finds out, or says that it cannot, and nothing is there twice (T05).

EVERLOG_SEED repeats the choices; `python -m tests.campaign postgres-commits` goes on for as long as you like.
"""

from __future__ import annotations

from everlog.testing.postgres import Server
from tests.concurrency.workload import SEED
from tests.postgres.cuts import cut_often

CUTS = 400


def test_an_append_cut_off_around_its_commit_is_answered_truly(postgres_server: Server, database: str) -> None:
    report = cut_often(SEED, CUTS, postgres_server, database)
    print(f"EVERLOG_SEED={SEED} {dict(report.cuts)}, {dict(report.answers)}")
    assert report.violations == []
    assert report.cuts.total() == CUTS
    assert min(report.cuts[f"{moment} commit"] for moment in ("before", "sent", "answered")) > 0
    assert min(report.answers[answer] for answer in ("stored", "replayed", "OutcomeUnknown", "joined")) > 0
