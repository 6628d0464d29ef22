from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from everlog import Platform
from tests.command import sides
from tests.command.sides import Opened, Side

Open = Callable[..., Opened]


@pytest.fixture(params=sides.SIDES)
def side(request: pytest.FixtureRequest) -> Side:
    found: Side = request.param
    return found


@pytest.fixture
def open_log(side: Side) -> Iterator[Open]:
    """Opens logs on the side of the test, and closes them after it."""
    with ExitStack() as stack:

        def open_one(platform: Platform, *args: Any, **options: Any) -> Opened:
            return stack.enter_context(sides.opened(side, platform, *args, **options))

        yield open_one
