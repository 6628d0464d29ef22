"""A processor as the handler of a subscription: keys side by side, events of a key in order, failures into lanes.

A page is handled whole before its checkpoint. An event that fails opens a lane for its key; it and the later events of
that key lie there as positions, and other keys go on. Lanes are tried between pages, so one mechanism serves retries,
dead letters and their replay.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, runtime_checkable

from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.envelope import StoredEvent
from everlog.core.errors import Fenced, OutcomeUnknown, StoreUnavailable, SubscriptionStopped
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.processing.contract import Desk, Lane, LaneStatus
from everlog.processing.pool import Pool, Threads, Work
from everlog.processing.processor import Processor
from everlog.processing.source import LATE, FromLog, Source
from everlog.store.contract import Store
from everlog.subscription.contract import Checkpoints, Claim, Effects
from everlog.subscription.follower import LEASE_SECONDS, Taken
from everlog.subscription.partition import ALL_KEYS, Slice
from everlog.telemetry.log import handler_failed, handler_waits, lane_parked, place_of

_LANES_AT_ONCE = 8
_LANE_PAGE = 100
_TOGETHER = 2
_TOGETHER_SECONDS = 0.01  # others wait for the database meanwhile


class Call(Protocol):
    """Runs the handler for one event and returns when its effect is there; raises what it raised."""

    def __call__(self, claim: Claim, event: Recorded[Any]) -> None: ...


@runtime_checkable
class CallWithin(Call, Protocol):
    """A handler whose whole effect is in the store's own transaction: many may share one."""

    def within(self, effects: Effects, claim: Claim, event: Recorded[Any]) -> None:
        """As a call, but nothing of it stays unless the transaction commits."""
        ...


@dataclass(slots=True)
class KeyRun:
    """The events of one key in a page. After the run, `done` of them are handled; `error` says why not all are."""

    key: str
    events: list[StoredEvent]
    in_lane: bool = False
    done: int = 0
    error: str | None = None

    def undone(self) -> list[int]:
        return [event.position for event in self.events[self.done :]]


class ProcessorHandler:
    """One thread calls it; handlers run on a pool, by default of `concurrency` threads, the events of a key on one at a
    time."""

    def __init__(
        self,
        processor: Processor[Any],
        call: Call,
        types: EventTypes,
        store: Store,
        checkpoints: Checkpoints,
        desk: Desk,
        *,
        clock: Clock,
        stopping: threading.Event,
        random: Random | None = None,
        lease_seconds: float = LEASE_SECONDS,
        crash: CrashPoint = nothing,
        pool: Pool | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        keys: Slice = ALL_KEYS,
        source: Source | None = None,
    ) -> None:
        self._processor, self._call, self._types, self._keys = processor, call, types, keys
        self._source: Source = source or FromLog(store)
        self._checkpoints, self._desk = checkpoints, desk
        self._clock, self._stopping, self._random = clock, stopping, random or Random()
        self._lease_seconds, self._crash, self._monotonic = lease_seconds, crash, monotonic
        self._pool = pool or Threads(processor.concurrency, f"everlog-{processor.name}")
        self._suspect_upto, self._epoch = 0, -1
        self._waits: dict[str, int] = {}  # by lane: how often in a row the world was down
        self._lost = threading.Event()

    def begin(self, claim: Claim) -> None:
        """What an earlier owner had begun and not checkpointed may have killed it: go through that one by one."""
        self._lost.clear()
        if claim.epoch != self._epoch + 1:  # else nobody had it since but this process, which lives
            self._suspect_upto = self._desk.marks.marked(claim.name)
        self._epoch = claim.epoch
        self._source.begin(claim)

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        self._hold_late(claim)
        self._try_lanes(claim)
        suspects = [event for event in page if event.position <= self._suspect_upto]
        for event in suspects:
            if self._stopping.is_set():
                return Taken(claim.position, claim.position)
            claim = claim._replace(position=self._handle_suspect(claim, event))
            if claim.position < event.position:  # stopped before it was handled
                return Taken(claim.position, claim.position)
        reached = self._handle_page(claim, page[len(suspects) :], upto)
        return Taken(reached, reached)

    def save(self, claim: Claim, at: int) -> None:
        with self._checkpoints.transaction(claim, at):
            pass

    def idle(self, claim: Claim) -> bool:
        held = self._hold_late(claim)
        return self._try_lanes(claim) or held

    def close(self) -> None:
        self._pool.close()

    def _hold_late(self, claim: Claim) -> bool:
        """Events that came behind later ones wait for a person, and those of their keys that come wait behind them."""
        late = self._source.late()
        if not late:
            return False
        runs = self._by_key(late)
        with self._checkpoints.transaction(claim, claim.position) as effects:
            for run in runs:
                self._desk.lanes.set(effects, self._processor.name, run.key, "parked", 0, 0, LATE)
                self._desk.lanes.park(effects, self._processor.name, run.key, run.undone())
            parked = [position for run in runs for position in run.undone()]
            self._source.settle(effects, handled=[], parked=parked, upto=claim.position)
        for run in runs:
            lane_parked(self._processor.name, run.key)
        self._check_limits(claim.position)
        return True

    def _handle_page(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> int:
        runs = self._by_key(page)
        if runs:
            with self._checkpoints.transaction(claim, claim.position, upto=upto) as effects:
                self._desk.marks.mark(effects, claim.name, upto)
            self._crash("processor.marked")
        self._take_together(claim, [run for run in runs if not run.in_lane and run.error is None])
        self._run_all(claim, [run for run in runs if not run.in_lane and run.undone()])
        self._crash("processor.effects")
        return self._settle(claim, runs, upto)

    def _handle_suspect(self, claim: Claim, event: StoredEvent) -> int:
        """One event alone, its attempt committed before it runs: one that kills the process is parked in the end."""
        [run] = self._by_key([event]) or [KeyRun("", [])]
        if run.events and not run.in_lane:
            with self._checkpoints.transaction(claim, claim.position, upto=event.position) as effects:
                attempt = self._desk.marks.attempt(effects, claim.name, event.position)
            if attempt > self._processor.retry.attempts:
                run.error = f"the process ended while handling it, {attempt - 1} times"
                return self._settle(claim, [run], event.position, attempts=attempt)
            self._run_all(claim, [run])
            if run.undone() and run.error is None:
                return self._stopped_before(claim, event, attempt)
        return self._settle(claim, [run], event.position)

    def _stopped_before(self, claim: Claim, event: StoredEvent, attempt: int) -> int:
        """We were told to stop, which is no fault of the event's: of the attempts on it only ours is taken back."""
        name, marks = claim.name, self._desk.marks
        with self._checkpoints.transaction(claim, claim.position) as effects:
            marks.clear(effects, name, event.position)
            for _ in range(attempt - 1):
                marks.attempt(effects, name, event.position)
        return claim.position

    def _by_key(self, page: Sequence[StoredEvent]) -> list[KeyRun]:
        runs: dict[str, KeyRun] = {}
        for stored in page:
            key, error = self._key(stored)
            if key is None or not self._keys.holds(key):
                continue
            run = runs.setdefault(key, KeyRun(key, []))
            run.events.append(stored)
            run.error = run.error or error
        open_lanes = self._desk.lanes.open(self._processor.name, runs)
        for run in runs.values():
            run.in_lane = run.key in open_lanes
        return list(runs.values())

    def _key(self, stored: StoredEvent) -> tuple[str | None, str | None]:
        """The lane of a stored event, all parts of which travel together; none when it means nothing to the handler."""
        events = self._events(stored)
        if not events:
            return None, None
        try:
            return self._processor.key_of(events[0]), None
        except Exception as error:
            return f"{stored.tenant}/{stored.stream}", f"its key raised {_told(error)}"

    def _events(self, stored: StoredEvent) -> list[Recorded[Any]]:
        return list(self._types.each([stored], self._processor.events))

    def _take_together(self, claim: Claim, runs: Sequence[KeyRun]) -> None:
        """Effects in our own store share transactions while that goes well and quickly; what is left is for the pool.

        Of one that goes wrong nothing happened, so each of its events is then tried by itself, and counted.
        """
        until = self._monotonic() + self._lease_seconds / 3
        while isinstance(self._call, CallWithin) and not self._halted() and self._monotonic() < until:
            if not self._took_together(claim, self._call, [run for run in runs if run.undone()]):
                return

    def _took_together(self, claim: Claim, call: CallWithin, runs: Sequence[KeyRun]) -> bool:
        """Whether one more transaction took several events, and there may be more of that kind."""
        began, taken = self._monotonic(), list[KeyRun]()
        if sum(len(run.events) - run.done for run in runs) < _TOGETHER:
            return False
        try:
            with self._checkpoints.transaction(claim, claim.position) as effects:
                for run in runs:
                    for stored in run.events[run.done :]:
                        if self._halted() or self._monotonic() - began > _TOGETHER_SECONDS:
                            break
                        for event in self._events(stored):
                            call.within(effects, claim, event)
                        taken.append(run)
        except Fenced:
            raise
        except BaseException:  # which one it was, and what of it, shows when each is alone
            return False
        for run in taken:
            run.done += 1
        return len(taken) >= _TOGETHER

    def _run_all(self, claim: Claim, runs: Sequence[KeyRun]) -> None:
        """Returns when all are done; the lease is kept meanwhile. Raises `Fenced` when it was lost."""
        self._finish(claim, [self._pool.start(self._run, claim, run) for run in runs if run.error is None])

    def _finish(self, claim: Claim, works: Sequence[Work]) -> None:
        """Keep the lease until all are done. Even when it is lost they end first, or a key might run twice at once."""
        pending = set(works)
        while pending:
            pending = self._pool.unfinished(pending, self._lease_seconds / 3)
            self._source.extend()
            if pending and not self._lost.is_set() and not self._renewed(claim):
                self._lost.set()
        if self._lost.is_set():
            raise Fenced(claim.name, claim.epoch)
        for work in works:
            work.result()

    def _renewed(self, claim: Claim) -> bool:
        try:
            return self._checkpoints.renew(claim, self._lease_seconds) is not None
        except (StoreUnavailable, OutcomeUnknown):  # then the fence says at the next commit whether it still holds
            return True

    def _halted(self) -> bool:
        return self._stopping.is_set() or self._lost.is_set()

    def _pause(self, seconds: float) -> None:
        until = self._monotonic() + seconds
        while not self._halted() and (left := until - self._monotonic()) > 0:
            self._stopping.wait(min(left, self._lease_seconds / 3))

    def _run(self, claim: Claim, run: KeyRun) -> None:
        for stored in run.events[run.done :]:
            if self._halted():
                return
            failures = 0
            while (outcome := self._try(claim, stored)) is _Later:
                # The world is down, not the event: everything of this processor waits with it.
                self._pause(self._processor.retry.backoff.pause(failures, self._random))
                failures += 1
                if self._halted():
                    return
            if isinstance(outcome, str):
                run.error = outcome
                return
            run.done += 1

    def _try(self, claim: Claim, stored: StoredEvent) -> "str | type[_Later] | None":
        """Nothing when it is handled, what went wrong, or that it should be tried later without counting."""
        try:
            for event in self._events(stored):
                self._call(claim, event)
        except Fenced:
            raise
        except BaseException as error:  # on a thread of the pool nobody else would see it
            later = (*self._processor.retry.transient, StoreUnavailable, OutcomeUnknown)
            if isinstance(error, later):
                handler_waits(self._processor.name, stored.position, place_of(error))
                return _Later
            handler_failed(self._processor.name, stored.position, place_of(error))
            return _told(error)
        return None

    def _settle(self, claim: Claim, runs: Sequence[KeyRun], upto: int, *, attempts: int = 1) -> int:
        """Commit what the page came to: lanes for what failed, and the checkpoint before the first that is undone."""
        behind = [run for run in runs if run.in_lane or run.error is not None]
        unfinished = [run.undone()[0] for run in runs if run.error is None and not run.in_lane and run.undone()]
        reached = min([upto, *(position - 1 for position in unfinished)])
        name, parked, lying = self._processor.name, list[str](), list[int]()
        handled = [event.position for run in runs for event in run.events[: run.done] if event.position <= reached]
        with self._checkpoints.transaction(claim, reached) as effects:
            for run in behind:
                positions = [position for position in run.undone() if position <= reached]
                if run.error is not None and positions and not run.in_lane:
                    status, next_at = self._after_failure(attempts)
                    self._desk.lanes.set(effects, name, run.key, status, attempts, next_at, run.error)
                    if status == "parked":
                        parked.append(run.key)
                self._desk.lanes.park(effects, name, run.key, positions)
                lying += positions
            self._source.settle(effects, handled=handled, parked=lying, upto=reached)
            self._desk.marks.clear(effects, claim.name, upto)
            self._desk.marks.mark(effects, claim.name, max(reached, self._suspect_upto))
        for key in parked:
            lane_parked(name, key)
        if behind:
            self._check_limits(reached)
        return reached

    def _after_failure(self, attempts: int) -> tuple[LaneStatus, int]:
        retry = self._processor.retry
        if attempts >= retry.attempts:
            return "parked", 0
        return "retrying", self._next(attempts - 1)

    def _next(self, failures: int) -> int:
        return self._clock() + int(self._processor.retry.backoff.pause(failures, self._random) * 1_000_000)

    def _check_limits(self, position: int) -> None:
        lanes, events = self._desk.lanes.totals(self._processor.name)
        if lanes > self._processor.max_lanes or events > self._processor.max_parked:
            name = self._processor.name
            reason = (
                f"{lanes} lanes hold {events} events, more than it may park: mend the cause, retry the lanes, "
                f"then `everlog processor resume {name}`"
            )
            raise SubscriptionStopped(name, position, reason)

    def _try_lanes(self, claim: Claim) -> bool:
        """Try the lanes that are due, some at a time; true when there were any."""
        due = self._desk.lanes.due(self._processor.name, self._clock(), _LANES_AT_ONCE, self._keys)
        self._finish(claim, [self._pool.start(self._try_lane, claim, lane) for lane in due])
        return bool(due) and not self._stopping.is_set()

    def _try_lane(self, claim: Claim, lane: Lane) -> None:
        name, lanes = self._processor.name, self._desk.lanes
        for position in lanes.positions(name, lane.key, _LANE_PAGE):
            if self._stopping.is_set():
                return
            with self._checkpoints.transaction(claim, claim.position) as effects:
                attempt = lanes.begin(effects, name, lane.key, position)
            if not attempt:
                return
            outcome = self._try_one(claim, position, attempt)
            with self._checkpoints.transaction(claim, claim.position) as effects:
                if outcome is None:
                    lanes.done(effects, name, lane.key, position)
                    self._waits.pop(lane.key, None)
                    continue
                if isinstance(outcome, str):
                    attempts, error = attempt, outcome
                    status, next_at = self._after_failure(attempts)
                    self._waits.pop(lane.key, None)
                else:
                    attempts, error = attempt - 1, lane.error
                    waits = self._waits[lane.key] = self._waits.get(lane.key, -1) + 1
                    status, next_at = "retrying", self._next(waits)
                stands = lanes.failed(
                    effects, name, lane.key, attempt, status=status, attempts=attempts, next_at=next_at, error=error
                )
            if stands and status == "parked":
                lane_parked(name, lane.key)
            return

    def _try_one(self, claim: Claim, position: int, attempt: int) -> "str | type[_Later] | None":
        if attempt > self._processor.retry.attempts:  # counted before, but never settled
            return f"its {attempt - 1} attempts are used up, and the last one ended the process"
        stored = self._source.stored(position)
        _, error = self._key(stored)
        return error or self._try(claim, stored)


class _Later:
    """The outcome of a try that a transient error ended."""


def _told(error: BaseException) -> str:
    """For the lane: what was raised, and where."""
    _, _, place = place_of(error).partition(" at ")
    return f"{type(error).__name__}: {error}"[:2000] + (f" ({place})" if place else "")
