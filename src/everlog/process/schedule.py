"""Schedules: the moments of a cron line in a time zone, each of which becomes an event exactly once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from everlog.command.execute import Context, new_event
from everlog.core.clock import micros, moment
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import IdempotencyConflict, InvalidInput, Misconfigured, WrongExpectedVersion
from everlog.core.expect import Exactly
from everlog.core.ids import derived_id
from everlog.core.names import DEFAULT_TENANT, tenant_name
from everlog.domain.event import event, is_event
from everlog.domain.types import EventTypes
from everlog.store.contract import Store
from everlog.subscription.naming import subscription_name
from everlog.telemetry.log import place_of, schedule_waits

NEVER = 2**62
AGAIN = 60 * 1_000_000
"""Microseconds until a schedule whose event could not be made is tried again."""


@event("schedule.begun")
class ScheduleBegun:
    """From here on its moments count: those of a downtime are caught up with, those before are not."""

    schedule: str


@event("schedule.occurred")
class ScheduleOccurred:
    """A moment of a schedule has come. It may be long after `due_at`: nobody was there to look."""

    schedule: str
    due_at: datetime


SCHEDULE_EVENTS = (ScheduleBegun, ScheduleOccurred)


@dataclass(frozen=True)
class Schedule:
    """`Schedule("nightly-report", cron="0 2 * * *", zone="Europe/Berlin")`.

    Each moment becomes an event of `tenant`: what `event` makes of it, or `ScheduleOccurred`. After a downtime every
    missed one does with `catch_up="each"`, in order; with `"latest"` the last one alone. A moment that the clocks skip
    in spring comes at the first one after the gap, one that they repeat in autumn comes the first time only; a line
    whose minute or hour begins with `*`, or that has a sixth field (seconds, in front), follows the true time instead:
    what lies in the gap does not come that day, and what is repeated comes twice.
    """

    name: str
    cron: str
    zone: str = "UTC"
    tenant: str = DEFAULT_TENANT
    catch_up: Literal["each", "latest"] = "latest"
    event: Callable[[datetime], object] | None = None

    def __post_init__(self) -> None:
        subscription_name(self.name)
        tenant_name(self.tenant)
        if self.catch_up not in ("each", "latest"):
            raise Misconfigured(f"schedule {self.name!r}: catch_up={self.catch_up!r} is neither 'each' nor 'latest'")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise Misconfigured(
                f"schedule {self.name!r}: there is no time zone {self.zone!r}: write it as Europe/Berlin, and install "
                "tzdata where the system has no time zones"
            ) from error
        try:
            next(self.moments(datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            raise Misconfigured(
                f"schedule {self.name!r}: {self.cron!r} names no moment ({error}): write '0 2 * * *'"
            ) from error

    @property
    def stream(self) -> str:
        return f"everlog-schedule-{self.name}"

    @property
    def events(self) -> tuple[type, ...]:
        made = (self.event,) if isinstance(self.event, type) and is_event(self.event) else ()
        return (*SCHEDULE_EVENTS, *made)

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Those behind `after`, in UTC."""
        for local in CronSim(self.cron, after.astimezone(ZoneInfo(self.zone))):
            at = local.astimezone(UTC)
            if at > after:  # in an hour that is repeated, the first one's come again
                yield at

    def occurrence(self, at: datetime) -> object:
        return ScheduleOccurred(self.name, at) if self.event is None else self.event(at)


class Calendar:
    """All schedules of a platform, and when the next one is due. How far each is, its stream says."""

    def __init__(self, schedules: Sequence[Schedule], types: EventTypes, store: Store) -> None:
        self._schedules, self._types, self._store = schedules, types, store
        self._version: dict[str, int] = {}
        self._last: dict[str, datetime] = {}
        self._due: dict[str, int] = {}

    @property
    def next_due(self) -> int:
        return min(self._due.values(), default=NEVER)

    def begin(self) -> None:
        """Go on from where each stream ends; one that is not there yet begins now."""
        for one in self._schedules:
            if not self._look(one):
                self._version[one.name] = 0
                self._append(one, [self._new(one, ScheduleBegun(one.name), "begun", None)])

    def fire(self, now: int, limit: int) -> bool:
        """Append what is due, at most `limit` moments of each schedule; true when there was any."""
        due = [one for one in self._schedules if self._due[one.name] <= now]
        fired = [self._fire(one, now, limit) for one in due]
        return any(fired)

    def _fire(self, one: Schedule, now: int, limit: int) -> bool:
        moments = self._missed(one, now, limit)
        try:
            new = [self._new(one, one.occurrence(at), "occurred", micros(at)) for at in moments]
        except Exception as error:  # the application's function; other schedules and all timers go on
            return self._wait(one, now, error)
        while new:
            try:
                self._append(one, new)
                return True
            except InvalidInput as error:  # too much at once, or each by itself
                if len(new) == 1:
                    return self._wait(one, now, error)
                new = new[: len(new) // 2]
        return False

    def _wait(self, one: Schedule, now: int, error: Exception) -> bool:
        schedule_waits(one.name, place_of(error))
        self._due[one.name] = now + AGAIN
        return False

    def _missed(self, one: Schedule, now: int, limit: int) -> list[datetime]:
        until, after, found = moment(now), self._last[one.name], list[datetime]()
        for at in islice(one.moments(after), limit if one.catch_up == "each" else None):
            if at > until:
                break
            found.append(at)
            if one.catch_up == "latest":
                found = found[-1:]
        return found

    def _append(self, one: Schedule, events: Sequence[NewEvent]) -> None:
        """Right behind what was seen; else another owner was quicker, and where it ended is where to go on."""
        with suppress(WrongExpectedVersion, IdempotencyConflict):
            self._store.append(Append(one.tenant, tuple(events), {one.stream: Exactly(self._version[one.name])}))
        self._look(one)

    def _look(self, one: Schedule) -> bool:
        """Where its stream ends; false when there is none."""
        last = next(self._store.read_stream(one.tenant, one.stream, backwards=True), None)
        if last is None:
            return False
        self._version[one.name], self._last[one.name] = last.version, moment(last.occurred_at)
        following = next(one.moments(self._last[one.name]), None)
        self._due[one.name] = NEVER if following is None else micros(following)
        return True

    def _new(self, one: Schedule, event: object, what: str, at: int | None) -> NewEvent:
        id = derived_id(one.tenant, f"schedule {what}", one.name, at or 0)
        return new_event(self._types, one.stream, event, id, Context(actor="everlog"), at)
