"""One process that waits for orders is enough for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.build import shim, skip_reason
from tests.faults.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    if shim() is None:
        pytest.skip(skip_reason())
    with Nursery() as waiting:
        yield waiting
