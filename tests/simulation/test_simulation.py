"""Whoever crashes, sleeps too long or presses a button: nothing is lost, nothing overtakes, no old owner commits (T11).

2,000 seeds, each a small world in which the real followers and handlers run under a scheduler that owns time.
`python -m tests.simulation SEED --trace` replays one; `python -m tests.campaign simulation` runs as many as you like.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from itertools import takewhile
from pathlib import Path

import pytest

from tests.simulation.hunt import EXERCISED, hunt, told
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import simulate

SEEDS, SHARE = 2000, 250
ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus.txt")


def corpus() -> list[str]:
    """Of each line the seed, without the bug that it found."""
    lines = [line.split() for line in CORPUS.read_text().splitlines()]
    return [words[0] for words in lines if words and words[0] != "#"]


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_whatever_happens_every_event_is_handled_in_order_and_no_old_owner_commits(first: int) -> None:
    hunted = hunt(map(str, range(first, first + SHARE)))
    print(f"seeds {first} to {first + SHARE - 1}: {dict(hunted.seen)}")
    assert hunted.violations == []
    assert [what for what in EXERCISED if not hunted.seen[what]] == []


@pytest.mark.parametrize("seed", corpus())
def test_a_seed_that_once_failed_does_no_more(seed: str) -> None:
    assert told(simulate(seed)) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_bug_is_found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    passed = sum(1 for _ in takewhile(lambda seed: not simulate(str(seed)).failures, range(SEEDS)))
    print(f"found by seed {passed}")
    assert passed < SEEDS


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Whatever order sets and dicts have in it."""
    script = f"from {__name__} import fingerprint; print(fingerprint())"
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{fingerprint()}\n"}


def fingerprint() -> str:
    """Of every step of some seeds."""
    lines: list[str] = []
    for seed in range(20):
        simulate(str(seed), lines.append)
    return sha256("\n".join(lines).encode()).hexdigest()
