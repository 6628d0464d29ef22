"""A real NATS for a test, or a loud word that there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from everlog.testing.nats import Cluster, NatsNotFound, running


@contextmanager
def told_without_nats() -> Iterator[None]:
    """What needs a server that is not there is skipped, and says so."""
    try:
        yield
    except NatsNotFound as reason:
        pytest.skip(f"NOT TESTED ON NATS: {reason}")


@contextmanager
def nats_server(**how: Any) -> Iterator[Cluster]:
    with told_without_nats(), running(**how) as cluster:
        yield cluster
