"""A worker that is killed anywhere, again and again: every event counts once, and a rebuild makes the same bytes (T16).

A hundred kills here, in four parts, and a few on PostgreSQL; thousands with `python -m tests.campaign following`.
"""

from __future__ import annotations

import os

import pytest

from tests.following.kills import ANY_MOMENT, IN_A_REBUILD, POINTS, kill_often

SEED = os.environ.get("EVERLOG_SEED", "following")


@pytest.mark.parametrize("part", range(4))
def test_however_often_it_is_killed_every_event_counts_once(part: int) -> None:
    seed = f"{SEED}-{part}"
    kills, violations = kill_often(seed, 25)
    assert list(violations) == [], f"EVERLOG_SEED={SEED} repeats it"
    assert kills.total() >= 25
    # It has been killed in many places, or nothing was shown.
    assert len(kills) >= 8, kills
    assert set(kills) <= {*POINTS, ANY_MOMENT, *(f"in a rebuild: {point}" for point in (*IN_A_REBUILD, ANY_MOMENT))}
    assert any(where.startswith("in a rebuild") for where in kills), kills


def test_on_postgresql_too_every_event_counts_once() -> None:
    kills, violations = kill_often(f"{SEED}-postgres", 15, on="postgres")
    assert list(violations) == [], f"EVERLOG_SEED={SEED} repeats it"
    assert kills.total() >= 15
    assert len(kills) >= 5, kills
