"""As of when: positions, versions and times of recording grow together, so a moment among them is found by halving."""

from collections.abc import Callable
from typing import Literal

Column = Literal["position", "recorded_at"]


def position_before(moment: int, head: int, recorded_at: Callable[[int], int]) -> int:
    """The last position up to `head` that was recorded before `moment`; 0 when none was."""
    return _last_until(head, lambda position: recorded_at(position) >= moment)


def version_at(last: int, position: int | None, recorded_at: int | None, of: Callable[[Column, int], int]) -> int:
    """The last of versions 1 to `last` at or before a position and a time; `of` says where and when a version lies."""
    if position is not None:
        last = _last_until(last, lambda version: of("position", version) > position)
    if recorded_at is not None:
        last = _last_until(last, lambda version: of("recorded_at", version) > recorded_at)
    return last


def _last_until(last: int, beyond: Callable[[int], bool]) -> int:
    """The greatest number in 1 to `last` that is not beyond; 0 when all are."""
    first = 1
    while first <= last:
        middle = (first + last) // 2
        if beyond(middle):
            last = middle - 1
        else:
            first = middle + 1
    return last
