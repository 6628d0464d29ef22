"""Named points where a test may kill, stop or look; no-ops in production."""

from collections.abc import Callable

CrashPoint = Callable[[str], None]
"""Called with the point's name, such as `append.before_commit`."""


def nothing(point: str) -> None:
    """The production crash point."""
