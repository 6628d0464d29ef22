"""From the parts of a platform to what follows the log: subscriptions, their handlers, and how handlers are called."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from everlog.app.stores import Backend
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint
from everlog.core.errors import InvalidInput
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.process.timekeeper import Timekeeper, TimekeeperHandler
from everlog.processing.isolated import IsolatedCalls
from everlog.processing.processor import Processor
from everlog.processing.run import Call, ProcessorHandler
from everlog.processing.source import Source
from everlog.projection.fold import Fold
from everlog.projection.run import FoldHandler, SqlHandler
from everlog.projection.sql import SqlProjection
from everlog.relay.contract import Sender
from everlog.relay.routing import Relay, relayed
from everlog.relay.run import RelayHandler
from everlog.store.query import Filter
from everlog.subscription.contract import Claim, Effects, Progress
from everlog.subscription.follower import LEASE_SECONDS, Handler, Subscription
from everlog.subscription.partition import ALL_KEYS, KEPT, Slice

Projection = Fold[Any] | SqlProjection
Follows = Projection | Processor[Any] | Timekeeper | Relay

PROCESSOR_PAGE = 100

SessionOf = Callable[[Recorded[Any]], Any]
"""The session a handler with a second argument is given: of the event's tenant, caused by the event."""


def subscription_of(part: Follows, types: EventTypes) -> Subscription:
    """What a part follows: events that can become one of its classes, and versions newer than this code knows, which
    it must not pass as if they were nothing to it."""
    if isinstance(part, Relay):
        return Subscription(part.name, "relay", relayed(part, types), start=part.start)
    where = Filter(None, types=types.matching(part.events))
    if isinstance(part, Processor):
        return Subscription(part.name, "processor", where, start=part.start, page=PROCESSOR_PAGE, parts=part.partitions)
    return Subscription(part.name, "projection", where, part.version, part.start, parts=part.partitions)


def followed(part: Follows, known: Mapping[str, Progress]) -> str:
    """The name under which this version of it is there: as what serves, or as what did until another version came.

    Empty when it is not. The tables of a SQL projection that do not serve lie elsewhere.
    """
    if not isinstance(part, Fold | SqlProjection):
        return part.name
    names = [part.name, part.name + KEPT] if isinstance(part, Fold) else [part.name]
    return next((name for name in names if name in known and known[name].version == part.version), "")


def projection_handler(
    part: Projection, types: EventTypes, backend: Backend, *, save_every: int = 1, keys: Slice = ALL_KEYS
) -> Handler:
    if isinstance(part, Fold):
        return FoldHandler(part, types, backend.checkpoints, backend.fold_states, save_every=save_every, keys=keys)
    return SqlHandler(part, types, backend.checkpoints, keys)


def timekeeper_handler(
    part: Timekeeper, types: EventTypes, backend: Backend, clock: Clock, crash: CrashPoint
) -> TimekeeperHandler:
    return TimekeeperHandler(part, types, backend, backend.checkpoints, backend.timers, clock=clock, crash=crash)


def relay_handler(
    part: Relay,
    types: EventTypes,
    backend: Backend,
    sender: Sender,
    clock: Clock,
    crash: CrashPoint,
    stopping: threading.Event,
    lease_seconds: float = LEASE_SECONDS,
) -> RelayHandler:
    return RelayHandler(
        part,
        types,
        sender,
        backend,
        backend.checkpoints,
        backend.relays,
        clock=clock,
        crash=crash,
        stopping=stopping,
        lease_seconds=lease_seconds,
    )


class ProcessorCalls:
    """How the handlers of one worker are called: plain, awaited, with the inbox's transaction, in a child process."""

    def __init__(
        self, backend: Backend, session_of: SessionOf, incarnation_of: Callable[[Claim], int] | None = None
    ) -> None:
        self._backend, self._session_of = backend, session_of
        incarnation = backend.head().incarnation
        self._incarnation_of = incarnation_of or (lambda claim: incarnation)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._isolated: list[IsolatedCalls] = []

    def of(self, processor: Processor[Any]) -> Call:
        if processor.is_async and (processor.inbox or processor.isolation):
            raise InvalidInput(f"processor {processor.name!r}: an async handler has neither inbox nor isolation")
        if processor.isolation is not None:
            isolated = IsolatedCalls(processor, processor.isolation)
            self._isolated.append(isolated)
            return lambda claim, event: isolated(event)
        if processor.inbox:
            return _TakesIn(processor, self._backend, self._incarnation_of)
        if processor.is_async:
            loop = self._loop = self._loop or _running_loop()
            return lambda claim, event: self._await(loop, processor, event)
        return lambda claim, event: processor(*self._arguments(processor, event))

    def close(self) -> None:
        for isolated in self._isolated:
            isolated.close()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _arguments(self, processor: Processor[Any], event: Recorded[Any]) -> tuple[Any, ...]:
        return (event, self._session_of(event)) if processor.wants_more else (event,)

    def _await(self, loop: asyncio.AbstractEventLoop, processor: Processor[Any], event: Recorded[Any]) -> None:
        asyncio.run_coroutine_threadsafe(processor(*self._arguments(processor, event)), loop).result()


@dataclass(frozen=True, slots=True)
class _TakesIn:
    """A handler with an inbox: effect and inbox row in one fenced transaction, once and for all."""

    processor: Processor[Any]
    backend: Backend
    incarnation_of: Callable[[Claim], int]

    def __call__(self, claim: Claim, event: Recorded[Any]) -> None:
        with self.backend.checkpoints.transaction(claim, claim.position) as effects:
            self.within(effects, claim, event)

    def within(self, effects: Effects, claim: Claim, event: Recorded[Any]) -> None:
        name, incarnation = self.processor.name, self.incarnation_of(claim)
        if self.backend.desk.inbox.first(effects, name, incarnation, event.position, event.part):
            self.processor(event, effects)


def processor_handler(
    part: Processor[Any],
    types: EventTypes,
    backend: Backend,
    call: Call,
    clock: Clock,
    crash: CrashPoint,
    stopping: threading.Event,
    lease_seconds: float = LEASE_SECONDS,
    keys: Slice = ALL_KEYS,
    source: Source | None = None,
) -> ProcessorHandler:
    return ProcessorHandler(
        part,
        call,
        types,
        backend,
        backend.checkpoints,
        backend.desk,
        clock=clock,
        crash=crash,
        stopping=stopping,
        lease_seconds=lease_seconds,
        keys=keys,
        source=source,
    )


def _running_loop() -> asyncio.AbstractEventLoop:
    """One event loop on a thread of its own, for all async handlers of the worker; closed there once it is stopped."""
    started: Future[asyncio.AbstractEventLoop] = Future()

    def serve() -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            started.set_result(loop)
            loop.run_forever()

    threading.Thread(target=serve, name="everlog-async-handlers", daemon=True).start()
    return started.result()
