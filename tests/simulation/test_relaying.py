"""Relays crash and sleep, a broker loses what it likes: at the end it holds the log, each event once (T11).

3,000 seeds; `python -m tests.campaign relays` runs as many as you like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.simulation.hunt import hunt
from tests.simulation.relay_mutants import MUTANTS
from tests.simulation.relaying import EXERCISED, simulate_relay

SEEDS, SHARE = 3000, 500
RARE: dict[str, Iterable[object]] = {"counts_alone": ["3947374742.103552"]}
"""Where to look for a bug that takes more than so many seeds from the first on."""


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_whatever_happens_the_broker_comes_to_hold_the_log_in_order(first: int) -> None:
    hunted = hunt(map(str, range(first, first + SHARE)), simulate_relay)
    print(f"seeds {first} to {first + SHARE - 1}: {dict(hunted.seen)}")
    assert hunted.violations == []
    assert [what for what in EXERCISED if not hunted.seen[what]] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_bug_is_found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    seeds = [str(seed) for seed in RARE.get(mutant.__name__, range(SEEDS))]
    found = next((seed for seed in seeds if simulate_relay(seed).failures), None)
    print(f"found by seed {found}")
    assert found is not None
