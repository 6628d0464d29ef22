"""These tests open hundreds of logs, in memory where fsync is free; what fsync is worth is tested in `tests.faults`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.powercut import memory_directory
from tests.postgres.folders import database_of


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Takes the place of pytest's own, and holds the files of `memory:` logs too."""
    with memory_directory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a log that is not there yet: on SQLite, or where `parts.on_both` says so."""
    kind = getattr(request, "param", "sqlite")
    return database_of(tmp_path) if kind == "postgres" else f"sqlite:///{tmp_path}/log.db"
