"""The database of the simulation keeps the same contract as the real ones."""

from __future__ import annotations

from pathlib import Path

from everlog.core.clock import Clock
from everlog.testing.conformance.following import following_conformance
from everlog.testing.conformance.following.suite import LeaseClock
from tests.simulation.database import Database
from tests.simulation.memory import MemoryFollowing

_databases: dict[Path, Database] = {}


def _open(folder: Path, clock: Clock, lease: LeaseClock) -> MemoryFollowing:
    """Opening a folder again gives the database that is in it."""
    return MemoryFollowing(_databases.setdefault(folder, Database(clock, lease)))


TestMemory = following_conformance(_open)
