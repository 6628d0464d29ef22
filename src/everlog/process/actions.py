"""What a process may answer to an event: commands, timers, expectations, taking back, ending. Plain values."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from everlog.core.clock import micros
from everlog.core.errors import InvalidInput
from everlog.core.names import printable
from everlog.domain.decider import Decider

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Do(Generic[C]):
    """Execute a command on one aggregate of the same tenant. `undo` is what `Compensate` executes on it later."""

    decider: Decider[C, Any, Any]
    id: str
    command: C
    undo: C | None = None


@dataclass(frozen=True, slots=True)
class Timer:
    """Come back `at` a moment, or `after` the event that is reacted to was recorded. One of a name takes the place of
    the one before."""

    name: str
    at: datetime | None = None
    after: timedelta | None = None

    def __post_init__(self) -> None:
        _check(self, "Timer", at=self.at, after=self.after)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget a timer, also one that is due and was not reacted to yet. There need not be one."""

    name: str


@dataclass(frozen=True, slots=True)
class Expect:
    """Something must be `Met` by a moment, or `within` a time since the event that is reacted to was recorded; else an
    `ExpectationMissed` is recorded."""

    name: str
    by: datetime | None = None
    within: timedelta | None = None

    def __post_init__(self) -> None:
        _check(self, "Expect", by=self.by, within=self.within)


@dataclass(frozen=True, slots=True)
class Met:
    """What was expected came true. Nothing need have been expected."""

    name: str


@dataclass(frozen=True, slots=True)
class Compensate:
    """Take back what was done: the `undo` of every command that led to something, the latest first, once."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The process is over: its timers are gone, and whatever comes for its key from now on means nothing to it."""


Action = Do[Any] | Timer | Cancel | Expect | Met | Compensate | Finish
ACTIONS = (Do, Timer, Cancel, Expect, Met, Compensate, Finish)


def _check(one: "Timer | Expect", what: str, **when: datetime | timedelta | None) -> None:
    printable(f"the name of a {what}", one.name)
    given = [value for value in when.values() if value is not None]
    if len(given) != 1:
        raise InvalidInput(f"{what}({one.name!r}) needs one of {' and '.join(f'{name}=' for name in when)}")
    if isinstance(given[0], datetime):
        micros(given[0])
