"""Memory does not grow with the backlog, nor with the size of its events (T20)."""

from __future__ import annotations

import pytest

from tests.following.backlog import MOST, fall_behind
from tests.following.parts import on_both


@on_both
@pytest.mark.parametrize(("events", "size"), [(100_000, 0), (1_000, 250_000)], ids=["long", "large"])
def test_however_far_a_consumer_falls_behind_memory_stays_flat(url: str, events: int, size: int) -> None:
    took = fall_behind(url, events, size, slow_seconds=1.0)
    print(took)
    assert took.growth < MOST, took
