"""From the actions a process answers with to the one event that records them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.domain.codec import Codec
from everlog.domain.decider import Decider
from everlog.process.actions import Cancel, Compensate, Do, Expect, Finish, Met, Timer
from everlog.process.events import Alarm, Command, Ordered, Reacted

Deciders = Mapping[str, Decider[Any, Any, Any]]


@dataclass(slots=True)
class Draft:
    """What a reaction comes to; the last word about a timer counts."""

    input: str
    now: datetime
    deciders: Deciders
    done: list[tuple[tuple[str, int], Ordered]]
    commands: list[Ordered] = field(default_factory=list)
    alarms: dict[str, Alarm | None] = field(default_factory=dict)
    own: list[object] = field(default_factory=list)
    compensates: bool = False
    finished: bool = False

    def add(self, actions: Iterable[object]) -> "Draft":
        for action in actions:
            self._add(action)
        return self

    def _add(self, action: object) -> None:
        match action:
            case Do():
                self.commands.append(self._ordered(action))
            case Timer(name, at, after):
                self._set(Alarm(name, self._moment(at, after)))
            case Expect(name, by, within):
                self._set(Alarm(name, self._moment(by, within), expected=True))
            case Cancel(name) | Met(name):
                self.alarms[name] = None
            case Compensate():
                self._compensate()
            case Finish():
                self.finished = True
            case _:
                self.own.append(action)

    @property
    def empty(self) -> bool:
        return not (self.commands or self.alarms or self.own or self.finished)

    def reacted(self) -> Reacted:
        return Reacted(
            self.input,
            tuple(self.commands),
            tuple(alarm for alarm in self.alarms.values() if alarm is not None),
            tuple(name for name, alarm in self.alarms.items() if alarm is None),
            self.compensates,
            self.finished,
        )

    def _set(self, alarm: Alarm) -> None:
        other = self.alarms.get(alarm.name)
        if other is not None and other.expected != alarm.expected:
            raise InvalidInput(f"an answer sets a timer and an expectation named {alarm.name!r}: rename one")
        self.alarms[alarm.name] = alarm

    def _moment(self, at: datetime | None, after: timedelta | None) -> datetime:
        return at if at is not None else self.now + (after or timedelta())

    def _ordered(self, do: Do[Any]) -> Ordered:
        name = do.decider.name
        if self.deciders.get(name) is not do.decider:
            raise Misconfigured(f"a process commands {name!r} without having said so: add it to its does=[…]")
        do.decider.stream(do.id)  # recorded, an id that names no stream could never be executed
        undo = None if do.undo is None else encoded(do.undo, do.decider)
        return Ordered(name, do.id, encoded(do.command, do.decider), undo)

    def _compensate(self) -> None:
        # What this very reaction orders was not done yet, so only what lies before it is taken back.
        self.commands += [
            Ordered(one.decider, one.id, one.undo, undoes=which)
            for which, one in reversed(self.done)
            if one.undo is not None
        ]
        self.done, self.compensates = [], True


def encoded(command: object, decider: Decider[Any, Any, Any]) -> Command:
    cls = type(command)
    if cls not in decider.command_types():
        raise InvalidInput(f"{decider.name} decides on no {cls.__name__}: its decide names what it takes")
    return Command(cls.__name__, msgspec.json.decode(_codec_of(cls).encode(command)))


def decoded(command: Command, decider: Decider[Any, Any, Any]) -> Any:
    cls = next((one for one in decider.command_types() if one.__name__ == command.type), None)
    if cls is None:
        raise Misconfigured(
            f"a process ordered {command.type} of {decider.name!r}, which no longer decides on it: keep a class of "
            "that name until what was ordered is done"
        )
    return _codec_of(cls).convert(command.data)


_CODECS: dict[type, Codec[Any]] = {}


def _codec_of(cls: type) -> Codec[Any]:
    return _CODECS.get(cls) or _CODECS.setdefault(cls, Codec(cls))
