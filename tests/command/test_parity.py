"""Two APIs, one promise: the same names, parameters and defaults, so that whoever knows one knows the other."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from everlog import Admin, AsyncAdmin, AsyncLog, AsyncSession, Log, Platform, Session


def public(cls: type) -> dict[str, Callable[..., Any]]:
    return {name: member for name, member in inspect.getmembers(cls, callable) if not name.startswith("_")}


def parameters(function: Callable[..., Any]) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("blocking", "asynchronous"), [(Session, AsyncSession), (Log, AsyncLog), (Admin, AsyncAdmin)])
def test_both_sides_have_the_same_methods_with_the_same_parameters(
    blocking: type[Any], asynchronous: type[Any]
) -> None:
    one, other = public(blocking), public(asynchronous)
    assert one.keys() == other.keys()
    assert {name: parameters(one[name]) for name in other} == {name: parameters(other[name]) for name in other}


def test_both_ways_to_open_have_the_same_parameters() -> None:
    assert parameters(Platform.open) == parameters(Platform.open_async)


@pytest.mark.parametrize("name", ["append", "append_batch", "execute", "answer", "state", "difference"])
def test_what_waits_for_the_store_is_awaited_on_the_async_side(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(AsyncSession, name))
    assert not inspect.iscoroutinefunction(getattr(Session, name))
