"""A PostgreSQL database for each folder, as the suites of conformance want it, which open what a folder keeps."""

from contextlib import ExitStack
from pathlib import Path

from tests.postgres.server import empty_database

_kept: dict[Path, tuple[str, ExitStack]] = {}


def database_of(folder: Path) -> str:
    """The URL of this folder's database, empty at first; another test is given it when the folder is gone."""
    if folder not in _kept:
        for gone in [one for one in _kept if not one.exists()]:
            _kept.pop(gone)[1].close()
        until_gone = ExitStack()
        _kept[folder] = until_gone.enter_context(empty_database()), until_gone
    return _kept[folder][0]
