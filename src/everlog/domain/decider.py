"""`Decider`: decide and evolve, two pure functions, and everything else derived from their types (design §1)."""

import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from everlog.core.errors import Misconfigured
from everlog.core.names import stream_name
from everlog.domain.event import is_event, members

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:]{0,99}")


@dataclass(frozen=True)  # with slots, `Decider[C, S, E](…)` raises: typing notes the types on the object
class Decider(Generic[C, S, E]):
    """Business rules of one kind of aggregate. `decide(command, state)` gives events, `evolve(state, event)` the state.

    `name` is the category of its streams: the aggregate `o-1` of `order` lives in the stream `order-o-1`.
    `snapshot_every` events a snapshot is written (`None`: never); raise `snapshot_version` to discard old ones by hand.
    """

    name: str
    initial: S
    decide: Callable[[C, S], Iterable[E]]
    evolve: Callable[[S, E], S]
    snapshot_every: int | None = 100
    snapshot_version: int = 1

    if TYPE_CHECKING:
        # mypy would settle S on `initial` alone, where `()` or one of two classes is less than a state may be. What may
        # be a function it looks at last, together with `evolve`.
        def __init__(
            self,
            name: str,
            initial: S | Callable[[NoReturn, S], NoReturn],
            decide: Callable[[C, S], Iterable[E]],
            evolve: Callable[[S, E], S],
            snapshot_every: int | None = 100,
            snapshot_version: int = 1,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(
                f"decider name {self.name!r} must be a letter or digit, then A-Z a-z 0-9 . _ : without '-'"
            )
        if self.snapshot_every is not None and self.snapshot_every < 1:
            raise Misconfigured(
                f"decider {self.name!r}: snapshot_every={self.snapshot_every} must be 1 or more, or None"
            )

    def stream(self, id: str) -> str:
        return stream_name(f"{self.name}-{id}")

    def event_types(self) -> tuple[type, ...]:
        """The event classes of `evolve`'s second parameter."""
        found = members(_parameter(self.evolve, 1, f"evolve of {self.name!r}"))
        for cls in found:
            if not is_event(cls):
                raise Misconfigured(
                    f"evolve of {self.name!r} takes {cls!r}, which is not an event: decorate it with @event"
                )
        return found

    def command_types(self) -> tuple[Any, ...]:
        """The classes of `decide`'s first parameter."""
        return members(_parameter(self.decide, 0, f"decide of {self.name!r}"))

    def state_type(self) -> Any:
        """What `evolve` says it returns."""
        hint = _hints(self.evolve, f"evolve of {self.name!r}").get("return")
        if hint is None:
            raise Misconfigured(f"evolve of {self.name!r} needs a return annotation: the type of the state")
        return hint


def _parameter(function: Callable[..., object], index: int, what: str) -> Any:
    hints = _hints(function, what)
    names = list(signature(function).parameters)
    if index >= len(names) or names[index] not in hints:
        raise Misconfigured(f"{what} needs an annotation on parameter {index + 1}: everlog reads its types from there")
    return hints[names[index]]


def _hints(function: Callable[..., object], what: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise Misconfigured(
            f"{what} has an annotation that cannot be found: {error}; define it in the module"
        ) from error
    except TypeError as error:
        raise Misconfigured(f"{what} is no function whose annotations can be read: {error}") from error
