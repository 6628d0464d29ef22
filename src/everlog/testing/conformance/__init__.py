"""The conformance suite: what every store promises, as tests that an adapter joins in one line.

    TestSqlite = store_conformance(lambda folder, clock: SqliteStore(SqliteSettings(folder / "log.db"), clock=clock))

It needs pytest. After each test the log must be sound: positions 1..n without holes, and nothing that
`examine(deep=True)` calls a problem.
"""

import pytest

# Before the modules that assert are imported, or a failure would show no values.
pytest.register_assert_rewrite(f"{__name__}.events", f"{__name__}.timing", f"{__name__}.topics")

from everlog.testing.conformance.events import SettableClock, append, everything, new_event, request  # noqa: E402
from everlog.testing.conformance.suite import Connect, OpenStore, store_conformance  # noqa: E402

__all__ = ["Connect", "OpenStore", "SettableClock", "append", "everything", "new_event", "request", "store_conformance"]
