"""Two stores that are asked the same and must answer the same: values, their order, errors and their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, cast

from everlog.core.errors import EverlogError
from everlog.store.contract import Finding, Store

_NOTHING = object()
# Which of several events that match a boundary is named, each store chooses.
_MATCHING = re.compile(r"an event at position \d+ matches the boundary")


class _Twin:
    def __init__(self, one: Any, other: Any) -> None:
        self._one, self._other = one, other

    def __getattr__(self, name: str) -> Any:
        one, other = getattr(self._one, name), getattr(self._other, name)
        return lambda *values, **named: _same(
            _outcome(lambda: one(*values, **named)), _outcome(lambda: other(*values, **named)), name
        )


class _TwinStore(_Twin):
    @property
    def snapshots(self) -> _Twin:
        return _Twin(self._one.snapshots, self._other.snapshots)

    def examine(self, *, deep: bool = False) -> Iterator[Finding]:
        """Each tells of its own database; of the log itself they say the same."""
        assert list(self._one.leaves()) == list(self._other.leaves())
        yield from self._one.examine(deep=deep)
        yield from self._other.examine(deep=deep)


def twins(one: Store, other: Store) -> Store:
    return cast(Store, _TwinStore(one, other))


def _outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except EverlogError as error:
        return error


def _same(one: Any, other: Any, of: str) -> Any:
    if isinstance(one, Iterator):
        return _together(one, other, of)
    assert _told(one) == _told(other), f"{of}: {_told(one)} and {_told(other)}"
    if isinstance(one, EverlogError):
        raise one
    return one


def _together(one: Iterator[Any], other: Iterator[Any], of: str) -> Iterator[Any]:
    for ours, theirs in zip_longest(one, other, fillvalue=_NOTHING):
        assert ours == theirs, f"{of}: {ours} and {theirs}"
        yield ours


def _told(answer: Any) -> Any:
    """Errors, also those among verdicts, by their class and words."""
    if isinstance(answer, list):
        return [_told(each) for each in answer]
    return (type(answer), _MATCHING.sub("…", str(answer))) if isinstance(answer, EverlogError) else answer
