"""T22 at the size of the suite; EVERLOG_SNAPSHOT_SEED repeats a run."""

import os
from pathlib import Path

from tests.command.snapshot_cases import run_cases

SEED = int(os.environ.get("EVERLOG_SNAPSHOT_SEED") or int.from_bytes(os.urandom(4), "big"))


def test_in_five_hundred_random_lives_the_state_is_always_that_of_a_replay(tmp_path: Path) -> None:
    print(f"EVERLOG_SNAPSHOT_SEED={SEED}")
    counted = run_cases(500, SEED, tmp_path / "log.db")
    # The cases are worth something only if snapshots were written, found damaged, and never compared away.
    assert counted["snapshots_saved"] > 1_000
    assert counted["snapshots_unreadable"] > 100
    assert counted["snapshots_compared"] == counted["snapshots_failed"] == 0
