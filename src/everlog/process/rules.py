"""What a process manager has declared, and what follows from it for one process: pure, without a log."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.domain.decider import Decider
from everlog.domain.event import kind_of
from everlog.domain.recorded import Recorded
from everlog.process.actions import ACTIONS
from everlog.process.events import CommandRejected, ExpectationDue, ExpectationMissed, TimerFired
from everlog.process.past import Past
from everlog.process.reaction import Deciders, Draft

React = Callable[[Any, Recorded[Any]], Iterable[object]]

_TIMER = kind_of(TimerFired).name
ANY = ""
"""The detail of events that are told apart by their type alone."""


@dataclass(frozen=True)
class Rules:
    """`keys` by the type of an event of the world; `reacts` by type and detail; `own` are the process' own events."""

    states: Decider[Any, Any, Any]
    own: tuple[type, ...]
    deciders: Deciders
    keys: dict[str, Callable[[Recorded[Any]], str]] = field(default_factory=dict)
    events: dict[str, type] = field(default_factory=lambda: {kind_of(ExpectationDue).name: ExpectationDue})
    reacts: dict[tuple[str, str], React] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.states.name

    def add(self, event: type, detail: str, react: React) -> None:
        kind = kind_of(event)
        if (kind.name, detail) in self.reacts:
            raise Misconfigured(
                f"process manager {self.name!r} has two functions for {detail or kind.name!r}: keep one"
            )
        self.events[kind.name] = event
        self.reacts[kind.name, detail] = react

    def stream_of(self, event: Recorded[Any]) -> str | None:
        """The stream of the process it belongs to; none when it is of a process of another manager.

        Raises `UnreadableEvent` for one that an upcaster should have made into an event it follows.
        """
        if event.type not in self.events:
            event.data  # noqa: B018 - raises why it is not one of them
        key = self.keys.get(event.type)
        if key is not None:
            return self.states.stream(key(event))
        return event.stream if event.stream.startswith(f"{self.name}-") else None

    def decider(self, name: str) -> Decider[Any, Any, Any]:
        found = self.deciders.get(name)
        if found is None:
            raise Misconfigured(
                f"process {self.name!r} ordered a command of {name!r}: keep it in does=[…] until it is done"
            )
        return found

    def past(self, events: Iterable[Recorded[Any]]) -> Past[Any]:
        """A process after these events of its stream."""
        own = frozenset(kind_of(one).name for one in self.own)
        return Past(self.states.initial, self.states.evolve, own).see(events)

    def react(self, past: Past[Any], event: Recorded[Any]) -> Draft:
        """What the process answers; nothing to what it has no function for."""
        draft = Draft(event.key, event.recorded_at, self.deciders, past.done())
        if isinstance(event.data, ExpectationDue):
            due = event.data
            return draft.add([ExpectationMissed(due.name, due.due_at, due.set_by)])
        draft.add(self.reacts.get((event.type, _detail(event)), _nothing)(past.state, event))
        for alarm in draft.alarms.values():
            if alarm is not None and not alarm.expected and (_TIMER, alarm.name) not in self.reacts:
                raise InvalidInput(
                    f"process {self.name!r} sets timer {alarm.name!r}, which nothing follows: decorate a function with "
                    f".on_timer({alarm.name!r})"
                )
        for own in draft.own:
            if type(own) not in self.own:
                known = ", ".join(one.__name__ for one in (*ACTIONS, *self.own))
                raise InvalidInput(f"process {self.name!r} answered with {own!r}: it may give {known}")
        return draft

    def means_nothing(self, past: Past[Any], event: Recorded[Any]) -> bool:
        """Whether it comes too late: the process is over, or the timer was cancelled or set anew."""
        rings = isinstance(event.data, TimerFired | ExpectationDue | ExpectationMissed)
        return past.finished or (rings and not past.counts(event))


def of_command(decider: str, command: str) -> str:
    """The detail of a rejection."""
    return f"{decider}/{command}"


def _detail(event: Recorded[Any]) -> str:
    match event.data:
        case TimerFired(name=name) | ExpectationMissed(name=name):
            return name
        case CommandRejected(decider=decider, command=command):
            return of_command(decider, command.type)
    return ANY


def _nothing(state: object, event: object) -> Iterator[object]:
    return iter(())
