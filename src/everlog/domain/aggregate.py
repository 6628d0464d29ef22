"""`Aggregate`: a decider written as a class, one typed method for each command and each event."""

import functools
import operator
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, dataclass_transform

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.domain.decider import Decider
from everlog.domain.event import members

C = TypeVar("C")
E = TypeVar("E")
S = TypeVar("S")

_DECIDES, _APPLIES = "__everlog_decides__", "__everlog_applies__"


def decides(command: type[C]) -> Callable[[Callable[[S, C], Iterable[E]]], Callable[[S, C], Iterable[E]]]:
    """Marks the method that decides on one command."""
    return lambda method: _marked(method, _DECIDES, command)


def applies(event: type[E]) -> Callable[[Callable[[S, E], S]], Callable[[S, E], S]]:
    """Marks the method that gives the state after one event."""
    return lambda method: _marked(method, _APPLIES, event)


@dataclass_transform(frozen_default=True)
class Aggregate(Generic[C, E]):
    """The state is the class: a frozen dataclass whose fields all have defaults.

    `class Order(Aggregate[Place | Ship, Placed | Shipped])` declares the commands and events; `Order.decider("order")`
    checks that each has its method, and gives the `Decider` it is sugar for.
    """

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)

    @classmethod
    def decider(cls, name: str, *, snapshot_every: int | None = 100, snapshot_version: int = 1) -> Decider[C, Self, E]:
        """Raises `Misconfigured` for a command or event without its method, or a field without a default."""
        commands, events = _declared(cls)
        deciding = _methods(cls, _DECIDES, commands, "@decides")
        applying = _methods(cls, _APPLIES, events, "@applies")
        try:
            initial = cls()
        except TypeError as error:
            raise Misconfigured(
                f"{cls.__name__} starts without events: give every field a default ({error})"
            ) from error

        def decide(command: C, state: Self) -> Iterable[E]:
            method = deciding.get(type(command))
            if method is None:
                known = ", ".join(one.__name__ for one in deciding)
                raise InvalidInput(f"{cls.__name__} decides on {known}, not on {type(command).__name__}")
            return method(state, command)  # type: ignore[no-any-return]

        def evolve(state: Self, event: E) -> Self:
            return applying[type(event)](state, event)  # type: ignore[no-any-return]

        decide.__annotations__ = {"command": functools.reduce(operator.or_, commands), "state": cls, "return": Iterable}
        evolve.__module__ = cls.__module__  # a snapshot's fingerprint follows calls inside this module's package
        evolve.__annotations__ = {"state": cls, "event": functools.reduce(operator.or_, events), "return": cls}
        return Decider(
            name, initial=initial, decide=decide, evolve=evolve,
            snapshot_every=snapshot_every, snapshot_version=snapshot_version,
        )  # fmt: skip


def _marked(method: Callable[..., Any], mark: str, cls: type) -> Any:
    setattr(method, mark, cls)
    return method


def _declared(cls: type) -> tuple[list[type], list[type]]:
    for base in getattr(cls, "__orig_bases__", ()):
        if typing.get_origin(base) is Aggregate:
            commands, events = typing.get_args(base)
            return list(members(commands)), list(members(events))
    raise Misconfigured(f"{cls.__name__} does not say what it handles: write Aggregate[Commands, Events]")


def _methods(cls: type, mark: str, wanted: list[type], decorator: str) -> dict[type, Callable[..., Any]]:
    found: dict[type, Callable[..., Any]] = {}
    for name in dir(cls):
        method = getattr(cls, name)
        handled = getattr(method, mark, None)
        if handled is None:
            continue
        if handled in found:
            raise Misconfigured(f"{cls.__name__} has two {decorator}({handled.__name__}) methods: keep one")
        found[handled] = method
    for missing in [c for c in wanted if c not in found]:
        raise Misconfigured(f"{cls.__name__} has no {decorator}({missing.__name__}) method")
    for extra in [c for c in found if c not in wanted]:
        raise Misconfigured(f"{cls.__name__} handles {extra.__name__}, which Aggregate[…] does not name")
    return found
