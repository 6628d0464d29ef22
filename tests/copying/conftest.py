"""Places for logs: a file, another file, a database, another database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.postgres.server import empty_database

Place = Callable[[str], str]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Gives the URL of a place by its name; those that begin with `pg` are databases."""
    with ExitStack() as until_the_end:
        known: dict[str, str] = {}

        def url(name: str) -> str:
            if name not in known:
                database = name.startswith("pg")
                known[name] = (
                    until_the_end.enter_context(empty_database()) if database else f"sqlite:///{tmp_path}/{name}.db"
                )
            return known[name]

        yield url
