"""The suite for what follows the log: checkpoints, states of folds, lanes, marks, inbox; joined in one line an adapter.

TestSqlite = following_conformance(
    lambda folder, clock, lease: SqliteStore(SqliteSettings(folder / "log.db"), clock=clock, lease_clock=lease)
)
"""

import pytest

# Before the modules that assert are imported, or a failure would show no values.
for _topic in ("brokers", "checkpoints", "fences", "folds", "inbox", "lanes", "marks", "operators"):
    pytest.register_assert_rewrite(f"{__name__}.{_topic}")

from everlog.testing.conformance.following.suite import OpenFollowing, following_conformance  # noqa: E402
from everlog.testing.conformance.following.words import Following, SettableLease  # noqa: E402

__all__ = ["Following", "OpenFollowing", "SettableLease", "following_conformance"]
