"""The timekeeper: one subscription that keeps the table of timers, and makes what is due an event, once.

Its lease says who looks at the clock, and its fence guards the table. That something fires once is neither's doing: the
event's id is derived from what set the timer, so whoever fires it again finds that it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from everlog.command.execute import Context, new_event
from everlog.core.clock import Clock, moment
from everlog.core.crash import CrashPoint, nothing
from everlog.core.envelope import Append, StoredEvent
from everlog.core.errors import EverlogError, PayloadReleased, SubscriptionFailed
from everlog.core.ids import derived_id
from everlog.domain.types import EventTypes
from everlog.process import timers
from everlog.process.events import ExpectationDue, Reacted, TimerFired
from everlog.process.schedule import Calendar, Schedule
from everlog.process.timers import SetTimer, Timers
from everlog.store.contract import Store
from everlog.subscription.contract import Checkpoints, Claim
from everlog.subscription.follower import Taken
from everlog.subscription.start import BEGINNING, Start

NAME = "everlog-timers"
FIRE_PAGE = 100
NEVER = 2**62


@dataclass(frozen=True)
class Timekeeper:
    """Part of every platform with process managers or schedules; a worker runs it."""

    schedules: Sequence[Schedule] = ()
    name: str = NAME
    version: int = 1
    partitions: int = 1
    start: Start = BEGINNING
    events: tuple[type, ...] = (Reacted, TimerFired, ExpectationDue)


class TimekeeperHandler:
    """Called by one thread. Knows in memory when the next thing is due, so an idle look costs the head and no more."""

    def __init__(
        self,
        part: Timekeeper,
        types: EventTypes,
        store: Store,
        checkpoints: Checkpoints,
        kept: Timers,
        *,
        clock: Clock,
        crash: CrashPoint = nothing,
    ) -> None:
        self._types, self._store, self._checkpoints, self._timers = types, store, checkpoints, kept
        self._clock, self._crash = clock, crash
        self._calendar = Calendar(part.schedules, types, store)
        self._next_timer = 0

    def begin(self, claim: Claim) -> None:
        if claim.anew:
            with self._checkpoints.transaction(claim, claim.position) as effects:
                timers.clear(effects)
        self._calendar.begin()
        self._next_timer = 0

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        with self._checkpoints.transaction(claim, upto) as effects:
            for stored in page:
                try:
                    [event] = self._types.recorded(stored)
                    due = timers.note(effects, stored, event.data)
                except PayloadReleased:
                    continue  # whatever it had set was let go with it
                except EverlogError as error:
                    if error.retryable:
                        raise
                    raise SubscriptionFailed(claim.name, stored.position, str(error)) from error
                self._next_timer = min([self._next_timer, *due])
        return Taken(upto, upto)

    def save(self, claim: Claim, at: int) -> None:
        with self._checkpoints.transaction(claim, at):
            pass

    def idle(self, claim: Claim) -> bool:
        """Fire what is due, a page at a time; the table follows by the events this makes."""
        now = self._now()
        busy = self._calendar.fire(now, FIRE_PAGE)
        if self._next_timer <= now:
            found = self._timers.page(None, FIRE_PAGE)
            due = [one for one in found if one.due_at <= now]
            self._fire(claim, due)
            # What was fired is still in the table, until its event is noted; then there is another look.
            self._next_timer = 0 if due else found[0].due_at if found else NEVER
            busy = busy or bool(due)
        return busy

    def seconds_left(self) -> float:
        """Until something is due."""
        return max(0.0, (min(self._next_timer, self._calendar.next_due) - self._clock()) / 1_000_000)

    def is_scheduled(self) -> bool:
        """Whether the moment of a schedule has come."""
        return self._calendar.next_due <= self._now()

    def _now(self) -> int:
        """Never before what was recorded: a clock that was put back makes nothing that happened not have happened."""
        return max(self._clock(), self._store.head().recorded_at)

    def _fire(self, claim: Claim, due: Sequence[SetTimer]) -> None:
        passed: list[SetTimer] = []
        for one, verdict in zip(due, self._store.append_each([self._fired(one) for one in due]), strict=True):
            if isinstance(verdict, EverlogError):
                raise verdict
            if verdict.places[0].position <= claim.position:
                passed.append(one)
        self._crash("timers.fired")
        if passed:  # it fired long ago, and what that said was let go of
            with self._checkpoints.transaction(claim, claim.position) as effects:
                timers.remove(effects, passed)

    def _fired(self, one: SetTimer) -> Append:
        cls: Any = ExpectationDue if one.expected else TimerFired
        event = cls(one.name, moment(one.due_at), str(UUID(bytes=one.set_by)))
        id = derived_id(one.tenant, "process timer", one.stream, one.name, one.set_by)
        context = Context(actor="everlog", correlation_id=one.correlation_id, causation_id=one.set_by)
        return Append(one.tenant, (new_event(self._types, one.stream, event, id, context),))
