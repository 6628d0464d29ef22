"""These tests open hundreds of logs, in memory where fsync is free; what fsync is worth is tested in `tests.faults`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.powercut import memory_directory


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Takes the place of pytest's own, and holds the files of `memory:` logs too."""
    with memory_directory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder
