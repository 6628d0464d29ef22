"""The fixture of the suite, and the test class that holds every topic for one adapter."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from everlog.core.clock import Clock
from everlog.testing.conformance.events import SettableClock
from everlog.testing.conformance.following.suite import LeaseClock
from everlog.testing.conformance.following.words import SettableLease
from everlog.testing.conformance.verifying import shadows, states, tables
from everlog.testing.conformance.verifying.words import Place

OpenPlace = Callable[[Path, Clock, LeaseClock], Place]
"""Opens the database kept in a folder, and makes it when there is none."""

_TOPICS = (states, tables, shadows)


def verifying_conformance(open: OpenPlace) -> type:
    """A test class for one adapter; give it a name that starts with `Test`."""

    class VerifyingConformance:
        @pytest.fixture
        def place(self, tmp_path: Path) -> Iterator[Place]:
            with closing(open(tmp_path, SettableClock(), SettableLease())) as place:
                yield place

    for name, test in ((name, test) for topic in _TOPICS for name, test in vars(topic).items()):
        if name.startswith("test_"):
            if hasattr(VerifyingConformance, name):
                raise TypeError(f"two tests of the suite are called {name}: rename one")
            setattr(VerifyingConformance, name, staticmethod(test))
    return VerifyingConformance
