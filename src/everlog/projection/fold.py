"""`Fold`: a keyed projection without SQL; key → state, a pure function for each event class (design D9)."""

import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.domain.codec import Codec
from everlog.domain.event import kind_of
from everlog.domain.recorded import Recorded
from everlog.subscription.naming import subscription_name, subscription_partitions, subscription_version
from everlog.subscription.start import BEGINNING, Start

S = TypeVar("S")
E = TypeVar("E")

Keys = str | Iterable[str] | None
"""Of the states that one event changes: one, several (each counts once), or none."""


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """How one event class changes the state of one key."""

    event: type
    key: Callable[[Recorded[Any]], Keys]
    apply: Callable[[S, Recorded[Any]], S]

    def keys(self, event: Recorded[Any]) -> Sequence[str]:
        """Which states an event changes, each once; raises `InvalidInput` for a key that is no text."""
        given = self.key(event)
        if isinstance(given, str):
            return (given,)
        return () if given is None else _several(given)


class Fold(Generic[S]):
    """A read model of states by key, inside each tenant.

    `initial` is the state of a key no event has touched. Raise `version` when the functions change: the model is then
    built anew. Divided into `partitions` by its keys, several workers share it. `inline=True` folds in the append's
    own transaction, so a request sees its own effect.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: S,
        version: int = 1,
        inline: bool = False,
        start: Start = BEGINNING,
        partitions: int = 1,
    ) -> None:
        self.partitions = subscription_partitions(name, partitions)
        self.name, self.version = subscription_name(name), subscription_version(name, version)
        self.initial, self.inline, self.start = initial, inline, start
        if inline and start != BEGINNING:
            raise Misconfigured(f"projection {name!r} is inline, so it holds every event: leave out its start")
        self.steps: dict[str, Step[S]] = {}
        self._state_type: Any = type(initial)

    def on(
        self, event: type[E], *, key: Callable[[Recorded[E]], Keys]
    ) -> Callable[[Callable[[S, Recorded[E]], S]], Callable[[S, Recorded[E]], S]]:
        """Decorates the function that gives the state of a key after an event.

        `key(event)` gives one key, or several, each of whose states the event changes; `None`, or none, skips it.
        """
        kind = kind_of(event)

        def declare(apply: Callable[[S, Recorded[E]], S]) -> Callable[[S, Recorded[E]], S]:
            if kind.name in self.steps:
                raise Misconfigured(f"projection {self.name!r} handles {kind.name!r} twice: keep one function")
            self.steps[kind.name] = Step(event, key, apply)
            self._state_type = _returned(apply) or self._state_type
            return apply

        return declare

    @property
    def events(self) -> tuple[type, ...]:
        return tuple(step.event for step in self.steps.values())

    def codec(self) -> Codec[S]:
        """Between states and their stored JSON; the type is what the functions say they return."""
        return Codec(self._state_type)


def _several(given: Iterable[str]) -> Sequence[str]:
    keys = tuple(dict.fromkeys(given))
    for key in keys:
        if not isinstance(key, str):
            raise InvalidInput(f"the key {key!r} is no text: give texts, or None for no key")
    return keys


def _returned(apply: Callable[..., Any]) -> Any:
    """What it says it returns; the names of its arguments' types may be known to the type checker alone."""

    def only_that() -> None: ...

    only_that.__annotations__ = {name: hint for name, hint in apply.__annotations__.items() if name == "return"}
    return typing.get_type_hints(only_that, apply.__globals__).get("return")
