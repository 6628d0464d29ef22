"""A process that runs the real followers and handlers, on simulated threads, clocks and waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from everlog.app.following import ProcessorCalls, subscription_of
from everlog.app.stores import Backend
from everlog.core.errors import StoreUnavailable
from everlog.domain.recorded import Recorded
from everlog.processing.processor import Processor
from everlog.processing.run import ProcessorHandler
from everlog.projection.run import FoldHandler
from everlog.subscription.contract import Claim
from everlog.subscription.follower import Follower, Handler, Subscription
from everlog.subscription.tail import Tail
from tests.simulation.handlers import TYPES, Handlers
from tests.simulation.judge import Judge
from tests.simulation.scheduler import SECOND, Bell, Flag, Process, Side
from tests.simulation.trouble import Trouble


@dataclass(frozen=True, slots=True)
class Parts:
    """What all workers of a world share."""

    backend: Backend
    processors: list[Processor[Any]]
    handlers: Handlers
    judge: Judge
    trouble: Trouble

    def monotonic(self) -> float:
        return self.trouble.scheduler.now / SECOND


class Worker:
    """One process, from its start to its end; the next one of its `slot` is another owner."""

    def __init__(self, parts: Parts, slot: int, version: int, ended: Callable[[Worker], None]) -> None:
        trouble = parts.trouble
        self._parts, self._setup, self._scheduler = parts, trouble.setup, trouble.scheduler
        self.slot, self.version = slot, version
        trouble.seen["workers"] += 1
        self.owner = f"w{slot}.{trouble.seen['workers']}"
        self._process = Process(self.owner)
        self._process.ended = lambda: ended(self)
        self._stopping = Flag(self._scheduler)
        self.tail = Tail(parts.backend, shortest=0.05, longest=0.5, monotonic=parts.monotonic)
        self.tail._changed = Bell(self._scheduler, trouble.deaf)
        self._skew = int(trouble.random.uniform(-self._setup.skew, self._setup.skew) * SECOND)
        self._scheduler.spawn(self._process, "main", self._main)

    def stop(self) -> None:
        self._stopping.set()
        self.tail.hint()

    def _main(self) -> None:
        parts = self._parts
        try:
            calls = ProcessorCalls(parts.backend, lambda event: None)
        except StoreUnavailable:
            return
        for one in parts.processors:
            self._follow(subscription_of(one, TYPES), self._handler(one, calls))
        if self._setup.fold:
            fold = parts.handlers.fold(self.version)
            handler = FoldHandler(fold, TYPES, parts.backend.checkpoints, parts.backend.fold_states)
            self._follow(subscription_of(fold, TYPES), handler)

    def _follow(self, subscription: Subscription, handler: Handler) -> None:
        backend = self._parts.backend
        follower = Follower(
            replace(subscription, page=self._setup.page),
            handler,
            backend,
            backend.checkpoints,
            self.tail,
            owner=self.owner,
            stopping=self._stopping,
            lease_seconds=self._setup.lease,
            monotonic=self._parts.monotonic,
        )
        self._scheduler.spawn(self._process, subscription.name, follower.run)

    def _handler(self, one: Processor[Any], calls: ProcessorCalls) -> ProcessorHandler:
        call, judge, backend = calls.of(one), self._parts.judge, self._parts.backend

        def watched(claim: Claim, event: Recorded[Any]) -> None:
            self._scheduler.point("call")
            well = False
            judge.called(self._process, one.name, claim, event.position)
            try:
                call(claim, event)
                well = True
            finally:
                judge.returned(self._process, one.name, event.position, well=well)

        return ProcessorHandler(
            one,
            watched,
            TYPES,
            backend,
            backend.checkpoints,
            backend.desk,
            clock=lambda: self._scheduler.now + self._skew,
            stopping=self._stopping,
            random=self._scheduler.random,
            lease_seconds=self._setup.lease,
            crash=self._scheduler.point,
            pool=Side(self._scheduler, self._process, one.concurrency, one.name),
            monotonic=self._parts.monotonic,
        )
