"""`given(orders, Placed("o-1", 4200)).when(Ship("o-1")).then(Shipped("o-1"))`: rules as sentences, without a store."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Generic, Self, TypeVar

from everlog.core.errors import Misconfigured, Rejected
from everlog.domain.decider import Decider
from everlog.domain.event import field_names, is_record

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")


def given(decider: Decider[C, S, E], *events: E) -> "Given[C, S, E]":
    """An aggregate of this decider to which exactly these events happened."""
    if not isinstance(decider, Decider):
        raise Misconfigured(
            f"given takes a decider, not {type(decider).__name__}: call the functions of a projection or a processor, "
            "or open its platform at memory:"
        )
    return Given(decider, events)


@dataclasses.dataclass(frozen=True, slots=True)
class Given(Generic[C, S, E]):
    """What happened before."""

    decider: Decider[C, S, E]
    events: tuple[E, ...]

    def when(self, command: C) -> "Decided[S, E]":
        """Decide on a command. What it raises besides `Rejected` is the test's failure."""
        state = _fold(self.decider, self.decider.initial, self.events)
        try:
            decided = tuple(self.decider.decide(command, state))
        except Rejected as rejection:
            return Decided(f"{command!r} on {state!r}", state, (), rejection)
        after = _fold(self.decider, state, decided)
        return Decided(f"{command!r} on {state!r}", after, decided, None)

    def then_state(self, state: S) -> Self:
        """The events alone lead to this state."""
        __tracebackhide__ = True
        actual = _fold(self.decider, self.decider.initial, self.events)
        _check(f"the state after {len(self.events)} events", [state], [actual])
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class Decided(Generic[S, E]):
    """What a command led to; every `then…` raises `AssertionError` that shows both sides and what differs."""

    what: str
    state: S
    events: tuple[E, ...]
    rejection: Rejected | None

    def then(self, *events: E) -> Self:
        """The command led to exactly these events, in this order."""
        __tracebackhide__ = True
        self._check_accepted(f"to lead to {_listed(events)}")
        _check(f"the events of {self.what}", events, self.events)
        return self

    def then_nothing(self) -> Self:
        """The command is fine and changes nothing."""
        __tracebackhide__ = True
        return self.then()

    def then_state(self, state: S) -> Self:
        """The command's events lead to this state."""
        __tracebackhide__ = True
        self._check_accepted(f"to lead to the state {state!r}")
        _check(f"the state after {self.what}", [state], [self.state])
        return self

    def then_rejected(self, code: str, **details: object) -> None:
        """The command is rejected for this reason, with at least these details."""
        __tracebackhide__ = True
        if self.rejection is None:
            raise AssertionError(
                f"{self.what} was expected to be rejected as {code!r}, but led to {_listed(self.events)}"
            )
        told = self.rejection.details
        _check(
            f"the rejection of {self.what}",
            [("rejected", code), *details.items()],
            [("rejected", self.rejection.reason), *((name, told[name]) for name in details if name in told)],
        )

    def _check_accepted(self, expected: str) -> None:
        __tracebackhide__ = True
        if self.rejection is not None:
            raise AssertionError(f"{self.what} was expected {expected}, but was rejected: {self.rejection}")


def _fold(decider: Decider[C, S, E], state: S, events: Sequence[E]) -> S:
    for event in events:
        state = decider.evolve(state, event)
    return state


def _listed(events: Sequence[object]) -> str:
    return ", ".join(map(repr, events)) or "nothing"


def _check(what: str, expected: Sequence[object], actual: Sequence[object]) -> None:
    __tracebackhide__ = True
    if list(expected) != list(actual):
        raise AssertionError(f"{what} differ from what was expected\n{_side_by_side(expected, actual)}")


def _side_by_side(expected: Sequence[object], actual: Sequence[object]) -> str:
    """Two columns, with a mark between them where a line differs."""
    nothing = object()
    rows = [("expected", " ", "actual")]
    for one, other in zip_longest(expected, actual, fillvalue=nothing):
        left, right = ([] if side is nothing else list(_lines(side)) for side in (one, other))
        # A difference that no field shows, such as 1 and 1.0 of a class with its own __eq__, marks the first line.
        unseen = one != other and left == right
        for number, (this, that) in enumerate(zip_longest(left, right, fillvalue="")):
            rows.append((this, "≠" if this != that or (unseen and number == 0) else " ", that))
    width = max(len(left) for left, _, _ in rows)
    return "\n".join(f"  {left:<{width}} {mark} {right}".rstrip() for left, mark, right in rows)


def _lines(value: object) -> Iterator[str]:
    cls = type(value)
    if not is_record(cls):
        yield repr(value)
        return
    yield cls.__name__
    for name in field_names(cls):
        yield f"    {name} = {getattr(value, name)!r}"
