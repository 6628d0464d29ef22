"""What a process writes into its own stream: what it reacted to and how, and what came of its timers and commands."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everlog.domain.event import event


@dataclass(frozen=True)
class Command:
    """A command as it is stored: the name of its class, and its fields as plain JSON."""

    type: str
    data: Any


@dataclass(frozen=True)
class Ordered:
    """A command that is to be executed on one aggregate, and the one that takes its effect back.

    `undoes` says which earlier one this takes back: by its reaction, and its number there.
    """

    decider: str
    id: str
    command: Command
    undo: Command | None = None
    undoes: tuple[str, int] | None = None


@dataclass(frozen=True)
class Alarm:
    """A timer that was set, or (`expected`) something that should be met before it is due."""

    name: str
    due_at: datetime
    expected: bool = False


@event("process.reacted")
class Reacted:
    """All that one input led to, recorded before any of it is done. The process' own events lie right behind it.

    `input` is the key of the event that was reacted to. `compensates`: what had been done before is taken back by these
    commands, so it is not taken back again.
    """

    input: str
    commands: tuple[Ordered, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    cancelled: tuple[str, ...] = ()
    compensates: bool = False
    finished: bool = False


@event("process.timer_fired")
class TimerFired:
    """A timer's time has come. It may be long after `due_at`: nobody was there to look."""

    name: str
    due_at: datetime
    set_by: str


@event("process.expectation_due")
class ExpectationDue:
    """What was expected should have been met by now. Whether it was, the process knows: it may not have read so far."""

    name: str
    due_at: datetime
    set_by: str


@event("process.expectation_missed")
class ExpectationMissed:
    """What was expected by `due_at` had not been met."""

    name: str
    due_at: datetime
    set_by: str


@event("process.command_rejected")
class CommandRejected:
    """The business said no to a command of the process; it is not tried again."""

    reaction: str
    number: int
    decider: str
    id: str
    command: Command
    reason: str
    details: Mapping[str, str]


@event("process.command_changed_nothing")
class CommandChangedNothing:
    """A command led to no event, and never will: a repeat could find it leads to something by then."""

    reaction: str
    number: int


PROCESS_EVENTS = (Reacted, TimerFired, ExpectationDue, ExpectationMissed, CommandRejected, CommandChangedNothing)
