"""What a process knows of itself: its own stream folded, by the library and by the user's `evolve`."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from everlog.domain.recorded import Recorded
from everlog.process.events import (
    CommandChangedNothing,
    CommandRejected,
    ExpectationDue,
    ExpectationMissed,
    Ordered,
    Reacted,
    TimerFired,
)

S = TypeVar("S")


class Reaction(NamedTuple):
    """A recorded reaction, and which of its commands are over without a trace in the log but their own."""

    id: UUID
    what: Reacted
    over: set[int]


class Past(Generic[S]):
    """One process after some events of its stream. Filled by `see`, in order."""

    def __init__(self, initial: S, evolve: Callable[[S, Any], S], own: frozenset[str]) -> None:
        self.state, self._evolve, self._own = initial, evolve, own
        self.version = 0
        self.finished = False
        self.reactions: dict[str, Reaction] = {}
        """By the input's key."""
        self.alarms: dict[str, str] = {}
        """Timers and expectations that are set, by name, with the reaction that set them."""
        self._rung: dict[str, str] = {}  # by name: the key of what fired, until it was reacted to or cancelled
        self._by_id: dict[str, Reaction] = {}
        self._undoable: list[tuple[Reaction, int, Ordered]] = []

    @property
    def under_way(self) -> bool:
        return self.version > 0 and not self.finished

    def counts(self, fired: Recorded[Any]) -> bool:
        """Whether something that fired still means anything: it does not once its timer was cancelled or set anew."""
        return self._rung.get(fired.data.name) == fired.key

    def done(self) -> list[tuple[tuple[str, int], Ordered]]:
        """What was done and can be taken back, in order; each with its reaction and its number there."""
        return [
            ((str(reaction.id), number), ordered)
            for reaction, number, ordered in self._undoable
            if number not in reaction.over
        ]

    def see(self, events: Iterable[Recorded[Any]]) -> "Past[S]":
        for event in events:
            self.version = event.version
            if event.type in self._own:
                self.state = self._evolve(self.state, event.data)
            match event.data:
                case Reacted() as what:
                    self._reacted(Reaction(event.id, what, set()))
                case TimerFired() | ExpectationDue() as fired:
                    self._fired(event.key, fired)
                case ExpectationMissed(name=name):
                    self._rung[name] = event.key
                case CommandRejected() | CommandChangedNothing() as told:
                    self._by_id[told.reaction].over.add(told.number)
                case _:
                    pass
        return self

    def _reacted(self, reaction: Reaction) -> None:
        what = reaction.what
        self.reactions[what.input] = self._by_id[str(reaction.id)] = reaction
        self._rung = {name: key for name, key in self._rung.items() if key != what.input}
        for name in (*what.cancelled, *(alarm.name for alarm in what.alarms)):
            self.alarms.pop(name, None)
            self._rung.pop(name, None)
        self.alarms.update({alarm.name: str(reaction.id) for alarm in what.alarms})
        if what.compensates:
            self._undoable.clear()
        self._undoable += [(reaction, number, one) for number, one in enumerate(what.commands) if one.undo is not None]
        if what.finished:
            self.finished = True
            self.alarms.clear()

    def _fired(self, key: str, fired: TimerFired | ExpectationDue) -> None:
        if self.alarms.get(fired.name) == fired.set_by:
            del self.alarms[fired.name]
            self._rung[fired.name] = key
