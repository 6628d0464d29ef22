"""Bugs to find: what the code under test would do if somebody had not thought of something.

The first five are those of the mutant gate (T40); the rest are guards that a seed of this simulation showed to be
missing, or that only an odd moment needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from everlog.core.envelope import StoredEvent
from everlog.core.errors import Fenced
from everlog.processing.contract import LaneFilter, LaneStatus
from everlog.processing.pool import Work
from everlog.processing.run import KeyRun, ProcessorHandler
from everlog.projection.run import FoldHandler
from everlog.subscription.contract import Claim, Effects
from everlog.subscription.tail import Tail
from tests.simulation.database import MemoryEffects, Subscribed
from tests.simulation.desk import MemoryInbox, MemoryLanes, MemoryMarks
from tests.simulation.memory import MemoryCheckpoints

Patch = pytest.MonkeyPatch


def no_fencing(patch: Patch) -> None:
    def may_commit(self: MemoryCheckpoints, known: Subscribed, claim: Claim, position: int) -> bool:
        return known.status == "running"

    patch.setattr(MemoryCheckpoints, "may_commit", may_commit)


def park_drops_later_events(patch: Patch) -> None:
    undone = KeyRun.undone
    patch.setattr(KeyRun, "undone", lambda self: undone(self)[:1])


def checkpoint_before_effect(patch: Patch) -> None:
    def handle_page(self: ProcessorHandler, claim: Claim, page: Sequence[StoredEvent], upto: int) -> int:
        runs = self._by_key(page)
        free = [run for run in runs if not run.in_lane and run.error is None]
        for run in free:
            run.done = len(run.events)
        reached = self._settle(claim, runs, upto)
        for run in free:
            run.done = 0
        self._run_all(claim._replace(position=reached), free)
        return self._settle(claim._replace(position=reached), free, upto) if any(run.error for run in free) else reached

    patch.setattr(ProcessorHandler, "_handle_page", handle_page)


def swallowed_handler_error(patch: Patch) -> None:
    attempt = ProcessorHandler._try

    def swallow(self: ProcessorHandler, claim: Claim, stored: StoredEvent) -> Any:
        outcome = attempt(self, claim, stored)
        return None if isinstance(outcome, str) else outcome

    patch.setattr(ProcessorHandler, "_try", swallow)


def stop_passes_undone_events(patch: Patch) -> None:
    run_key = ProcessorHandler._run

    def run_all(self: ProcessorHandler, claim: Claim, run: KeyRun) -> None:
        run_key(self, claim, run)
        if run.error is None:
            run.done = len(run.events)

    patch.setattr(ProcessorHandler, "_run", run_all)


def events_overtake_their_lane(patch: Patch) -> None:
    patch.setattr(MemoryLanes, "open", lambda self, processor, keys: set())


def crashes_are_not_counted(patch: Patch) -> None:
    patch.setattr(MemoryMarks, "attempt", lambda self, effects, processor, position: 1)


def crashes_in_a_lane_are_not_counted(patch: Patch) -> None:
    begin = MemoryLanes.begin

    def uncounted(self: MemoryLanes, effects: MemoryEffects, processor: str, key: str, position: int) -> int:
        before = effects.tables.lanes.get((processor, key))
        attempt = begin(self, effects, processor, key, position)
        if before is not None:
            effects.tables.lanes[processor, key] = before
        return attempt

    patch.setattr(MemoryLanes, "begin", uncounted)


def what_was_begun_is_not_suspected(patch: Patch) -> None:
    patch.setattr(MemoryMarks, "marked", lambda self, processor: 0)


def a_key_runs_on_after_the_lease_is_lost(patch: Patch) -> None:
    def finish(self: ProcessorHandler, claim: Claim, works: Sequence[Work]) -> None:
        pending = set(works)
        while pending:
            pending = self._pool.unfinished(pending, self._lease_seconds / 3)
            if pending and not self._renewed(claim):
                raise Fenced(claim.name, claim.epoch)
        for work in works:
            work.result()

    patch.setattr(ProcessorHandler, "_finish", finish)


def a_new_owner_trusts_its_old_states(patch: Patch) -> None:
    begin = FoldHandler.begin

    def keep(self: FoldHandler[Any], claim: Claim) -> None:
        kept = self._cache
        begin(self, claim)
        self._cache = kept

    patch.setattr(FoldHandler, "begin", keep)


def what_an_earlier_build_left_stays(patch: Patch) -> None:
    begin = FoldHandler.begin
    patch.setattr(FoldHandler, "begin", lambda self, claim: begin(self, claim._replace(anew=False)))


def the_inbox_knows_nothing(patch: Patch) -> None:
    patch.setattr(MemoryInbox, "first", lambda self, effects, consumer, incarnation, position, part: True)


def wake_ups_without_a_poll(patch: Patch) -> None:
    def wait(self: Tail, after: int, seconds: float) -> int:
        with self._changed:
            self._changed.wait(3600.0)
        return self._store.head().position

    patch.setattr(Tail, "wait", wait)


def a_lane_is_tried_whatever_a_person_did(patch: Patch) -> None:
    def begin(self: MemoryLanes, effects: MemoryEffects, processor: str, key: str, position: int) -> int:
        known = effects.tables.lanes.get((processor, key))
        attempts = 1 if known is None else known.attempts + 1
        self.set(effects, processor, key, "retrying", attempts, 0, "")
        return attempts

    patch.setattr(MemoryLanes, "begin", begin)


def a_late_failure_opens_a_lane_again(patch: Patch) -> None:
    def failed(
        self: MemoryLanes,
        effects: Effects,
        processor: str,
        key: str,
        attempt: int,
        *,
        status: LaneStatus,
        attempts: int,
        next_at: int,
        error: str,
    ) -> bool:
        self.set(effects, processor, key, status, attempts, next_at, error)
        return True

    patch.setattr(MemoryLanes, "failed", failed)


def a_canary_is_chosen_before_the_transaction(patch: Patch) -> None:
    def retry(self: MemoryLanes, where: LaneFilter, *, canary: bool) -> int:
        found = [lane.key for lane in self.find(where)]
        with self._database.write("retry") as effects:
            lanes = effects.tables.lanes
            for one in [(where.processor, key) for key in found if (where.processor, key) in lanes]:
                again = lanes[one]._replace(status="retrying", waits_for=None, attempts=0, next_at=0)
                waits = canary and one[1] != found[0]
                lanes[one] = again._replace(status="waiting", waits_for=found[0]) if waits else again
        return len(found)

    patch.setattr(MemoryLanes, "retry", retry)


def those_that_wait_are_forgotten(patch: Patch) -> None:
    patch.setattr(MemoryLanes, "_park_waiting", lambda self, lanes, processor, key: None)


MUTANTS: Sequence[Callable[[Patch], None]] = (
    no_fencing,
    park_drops_later_events,
    checkpoint_before_effect,
    swallowed_handler_error,
    stop_passes_undone_events,
    events_overtake_their_lane,
    crashes_are_not_counted,
    crashes_in_a_lane_are_not_counted,
    what_was_begun_is_not_suspected,
    a_key_runs_on_after_the_lease_is_lost,
    a_new_owner_trusts_its_old_states,
    what_an_earlier_build_left_stays,
    the_inbox_knows_nothing,
    wake_ups_without_a_poll,
    a_lane_is_tried_whatever_a_person_did,
    a_late_failure_opens_a_lane_again,
    a_canary_is_chosen_before_the_transaction,
    those_that_wait_are_forgotten,
)
