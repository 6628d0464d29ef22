"""`replayed(welcome, [happened(UserCreated("u-1"), at=noon)])`: a process manager at work, without a store or a clock.

Commands are taken down and not decided, so a test says itself which of them the business rejects. Timers fire at their
time, and time is what the events say it is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, Self, TypeVar
from uuid import UUID

from everlog.core.clock import micros
from everlog.core.envelope import Appended, Place, StoredEvent
from everlog.core.errors import IdempotencyConflict, InvalidInput, Rejected, WrongExpectedVersion
from everlog.core.expect import ANYTHING, Expect
from everlog.core.ids import derived_id
from everlog.core.names import DEFAULT_TENANT
from everlog.domain.codec import Codec
from everlog.domain.decider import Decider
from everlog.domain.event import kind_of
from everlog.domain.recorded import Recorded
from everlog.process.events import Alarm, CommandRejected, ExpectationDue, ExpectationMissed, Reacted, TimerFired
from everlog.process.manager import ProcessManager
from everlog.process.run import Handling

E = TypeVar("E")
S = TypeVar("S")

_LONGEST = 10_000


class Commanded(NamedTuple):
    """One command a process had executed."""

    decider: str
    id: str
    command: Any


@dataclass(frozen=True)
class Replay(Generic[S]):
    """What came of it: the commands, the process' own events and the missed expectations, each in order."""

    commands: tuple[Commanded, ...]
    events: tuple[object, ...]
    missed: tuple[str, ...]
    states: dict[str, S]
    """By key."""


def happened(event: E, at: datetime, *, stream: str = "world", tenant: str = DEFAULT_TENANT) -> Recorded[E]:
    """An event as a process manager is given it. The same arguments make the same event: give it twice, and it came
    twice."""
    data = Codec(type(event)).encode(event)
    return _recorded(event, data, derived_id(tenant, stream, micros(at), data), micros(at), stream, tenant, 0)


def replayed(
    manager: ProcessManager[S, Any],
    events: Iterable[Recorded[Any]],
    *,
    until: datetime | None = None,
    rejects: Callable[[Any], str | None] = lambda command: None,
) -> Replay[S]:
    """Give the manager these events as they come, let its timers fire in between, and those that are due by `until`
    afterwards. `rejects` says why the business says no to a command."""
    events = list(events)
    tenants = {event.tenant for event in events}
    if len(tenants) > 1:
        raise InvalidInput(f"a replay is of one tenant, not of {', '.join(sorted(tenants))}: play each on its own")
    play = _Play(manager, rejects, next(iter(tenants), DEFAULT_TENANT))
    for event in events:
        play.pass_time(micros(event.recorded_at))
        play.give(event)
    if until is not None:
        play.pass_time(micros(until))
    return play.seen()


class _Set(NamedTuple):
    due_at: int
    stream: str
    alarm: Alarm
    set_by: str


@dataclass
class _Play:
    """A log of processes alone, as a process sees it through its session."""

    manager: ProcessManager[Any, Any]
    rejects: Callable[[Any], str | None]
    tenant: str = DEFAULT_TENANT
    now: int = 0
    streams: dict[str, list[Recorded[Any]]] = field(default_factory=dict)
    commanded: dict[str, Commanded] = field(default_factory=dict)
    timers: dict[tuple[str, str], _Set] = field(default_factory=dict)
    to_give: list[Recorded[Any]] = field(default_factory=list)

    def pass_time(self, until: int) -> None:
        """Fire what is due, in order; what follows may set more."""
        for _ in range(_LONGEST):
            due = min(
                (one for one in self.timers.values() if one.due_at <= until), default=None, key=lambda o: o.due_at
            )
            if due is None or due.due_at > until:
                self.now = max(self.now, until)
                return
            self.now = max(self.now, due.due_at)
            cls: Any = ExpectationDue if due.alarm.expected else TimerFired
            self.append(due.stream, cls(due.alarm.name, due.alarm.due_at, due.set_by))
            self._give_waiting()
        raise InvalidInput(f"process manager {self.manager.name!r} sets timers without end: {_LONGEST} fired by then")

    def give(self, event: Recorded[Any]) -> None:
        if event.type in self.manager.rules.events:
            Handling(self.manager.rules)(event, self)
        self._give_waiting()

    def seen(self) -> Replay[Any]:
        every = [event for stream in self.streams.values() for event in stream]
        every.sort(key=lambda event: event.position)
        own = tuple(event.data for event in every if type(event.data) in self.manager.rules.own)
        missed = tuple(event.data.name for event in every if isinstance(event.data, ExpectationMissed))
        prefix = len(self.manager.name) + 1
        states = {name[prefix:]: self.manager.rules.past(events).state for name, events in self.streams.items()}
        return Replay(tuple(self.commanded.values()), own, missed, states)

    def acting(self, **acting: Any) -> Self:
        return self

    def stream(self, name: str) -> Iterator[Recorded[Any]]:
        return iter(list(self.streams.get(name, ())))

    def append(
        self,
        stream: str,
        *events: object,
        expect: Expect = ANYTHING,
        ids: Sequence[UUID] | None = None,
        request_id: str | None = None,
    ) -> Appended:
        if request_id is not None and request_id in self.commanded:
            raise IdempotencyConflict(f"request id {request_id!r} was used for a command")
        lying = self.streams.setdefault(stream, [])
        if not expect.holds(len(lying)):
            raise WrongExpectedVersion(stream, str(expect), len(lying))
        for number, event in enumerate(events):
            position = sum(map(len, self.streams.values())) + 1
            id = derived_id(self.tenant, stream, position) if ids is None else ids[number].bytes
            stored = _recorded(event, b"", id, self.now, stream, self.tenant, position, len(lying) + 1)
            lying.append(stored)
            self._note(stored)
            if isinstance(event, TimerFired | ExpectationDue | ExpectationMissed | CommandRejected):
                self.to_give.append(stored)
        return Appended((Place(0, len(lying)),), self.now)

    def execute(self, decider: Decider[Any, Any, Any], id: str, command: Any, *, request_id: str) -> "_Executed":
        reason = self.rejects(command)
        if reason is not None:
            raise Rejected(reason)
        self.commanded.setdefault(request_id, Commanded(decider.name, id, command))
        return _Executed((command,))

    def answer(self, request_id: str) -> Recorded[Any] | None:
        """Commands are taken down and not decided, so there is none."""
        return None

    def _note(self, event: Recorded[Any]) -> None:
        match event.data:
            case Reacted() as what:
                for name in what.cancelled:
                    self.timers.pop((event.stream, name), None)
                for alarm in what.alarms:
                    self.timers[event.stream, alarm.name] = _Set(
                        micros(alarm.due_at), event.stream, alarm, str(event.id)
                    )
                if what.finished:
                    self.timers = {key: one for key, one in self.timers.items() if one.stream != event.stream}
            case TimerFired(name=name) | ExpectationDue(name=name):
                self.timers.pop((event.stream, name), None)

    def _give_waiting(self) -> None:
        while self.to_give:
            event = self.to_give.pop(0)
            if event.type in self.manager.rules.events:
                Handling(self.manager.rules)(event, self)


@dataclass(frozen=True)
class _Executed:
    events: tuple[object, ...]


def _recorded(
    event: E, data: bytes, id: bytes, at: int, stream: str, tenant: str, position: int, version: int = 1
) -> Recorded[E]:
    kind = kind_of(type(event))
    stored = StoredEvent(
        position, tenant, stream, version, id, kind.name, kind.version, at, at, None, None, None, data, None
    )
    return Recorded.of(stored, event, kind.name, kind.version, 0)
