"""`Platform`: the parts of an application put together; no I/O until `open()`."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from everlog.app.brokers import in_stream, open_broker
from everlog.app.feeding import Fed
from everlog.app.following import Follows, Projection
from everlog.app.log import AsyncLog, Log
from everlog.app.read_models import ReadModels
from everlog.app.scope import Scope
from everlog.app.stores import open_store
from everlog.app.waiting import Waiting
from everlog.app.worker import Worker
from everlog.command.execute import Context
from everlog.command.load import COMPARE_EVERY, Loader, check_snapshots
from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import InvalidInput, Misconfigured
from everlog.domain.decider import Decider
from everlog.domain.event import is_event
from everlog.domain.types import EventTypes
from everlog.domain.upcast import Upcaster
from everlog.feed.inbox import CommandInbox, Order
from everlog.feed.outcome import OUTCOMES, execute_once
from everlog.feed.taking import Execute
from everlog.process.events import PROCESS_EVENTS
from everlog.process.manager import ProcessManager
from everlog.process.schedule import Schedule
from everlog.process.timekeeper import Timekeeper
from everlog.process.whole import check_occurrences, check_processes
from everlog.processing.processor import Processor
from everlog.projection.fold import Fold
from everlog.projection.inline import InlineFolds
from everlog.projection.sql import SqlProjection
from everlog.relay.contract import Broker
from everlog.relay.routing import Relay
from everlog.relay.subjects import word
from everlog.subscription.follower import LEASE_SECONDS
from everlog.telemetry import Counters

Part = (
    Decider[Any, Any, Any]
    | Fold[Any]
    | SqlProjection
    | Processor[Any]
    | ProcessManager[Any, Any]
    | CommandInbox[Any]
    | Relay
    | Schedule
    | Upcaster
    | type
)


class Platform:
    """`Platform("sqlite:///shop.db", orders, …)`: deciders, upcasters and event classes, checked as a whole.

    Raises `Misconfigured` for two types or deciders of one name, a gap in the upcasters, a state no snapshot can hold,
    or a part that is none. `compare_snapshots_every` loads one from a snapshot is compared with a full replay.
    """

    def __init__(self, url: str, *parts: Part, compare_snapshots_every: int = COMPARE_EVERY) -> None:
        self.url = url
        self.processes: Sequence[ProcessManager[Any, Any]] = [p for p in parts if isinstance(p, ProcessManager)]
        self.inboxes: Sequence[CommandInbox[Any]] = [p for p in parts if isinstance(p, CommandInbox)]
        self.relays: Sequence[Relay] = [p for p in parts if isinstance(p, Relay)]
        self.schedules: Sequence[Schedule] = [p for p in parts if isinstance(p, Schedule)]
        self.deciders: Mapping[str, Decider[Any, Any, Any]] = MappingProxyType(_deciders(parts))
        self.projections: Sequence[Projection] = [p for p in parts if isinstance(p, Fold | SqlProjection)]
        self.processors: Sequence[Processor[Any]] = [
            *(p for p in parts if isinstance(p, Processor)),
            *(process.processor for process in self.processes),
        ]
        self.timekeepers = [Timekeeper(self.schedules)] if self.processes or self.schedules else []
        _check_names([*self.projections, *self.processors, *self.timekeepers, *self.relays])
        _check_prefixes(self.relays)
        _check_inboxes(self.inboxes, self.deciders)
        check_processes(self.processes, self.schedules, self.deciders)
        self.types = EventTypes(self._events(parts), [p for p in parts if isinstance(p, Upcaster)])
        check_occurrences(self.schedules, self.types)
        if compare_snapshots_every < 1:
            raise Misconfigured(f"compare_snapshots_every={compare_snapshots_every} must be 1 or more")
        self._compare_every = compare_snapshots_every
        for decider in self.deciders.values():
            try:
                check_snapshots(decider)
            except InvalidInput as error:
                raise Misconfigured(
                    f"the state of decider {decider.name!r} does not survive a snapshot ({error}): "
                    "use plain values, or snapshot_every=None"
                ) from error

    def open(
        self,
        url: str | None = None,
        *,
        worker: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        fed_from: str | None = None,
        relay: str | None = None,
        relays_to: str | None = None,
        only: Sequence[str] = (),
        clock: Clock = system_clock,
        crash: CrashPoint = nothing,
    ) -> Log:
        """Open the log, here or at another `url`; use it as a context manager or close it.

        With `worker` this process also runs the projections and processors, each under a lease of `lease_seconds`.
        `fed_from` names a broker that the processors read instead, `nats://host:4222/STREAM`, and `relay` whose
        messages of there, if the platform has not one relay; then nothing else runs, and the log need not be in sight.
        `relays_to` names the broker that the relays send to; without it they are for another worker. With `only` just
        the parts of these names run.
        """
        if fed_from is not None and not worker:
            raise Misconfigured("fed_from says what a worker reads: open it with worker=True")
        counters = Counters()
        scope = self._scope(counters)
        inline = InlineFolds([one for one in self.projections if isinstance(one, Fold) and one.inline], self.types)
        store = open_store(url or self.url, clock=clock, crash=crash, counters=counters, inline=inline)
        try:
            for fold in inline.each():
                store.put_in_force(fold)
            running = None

            def take_in(inbox: CommandInbox[Any], order: Order) -> None:
                session = log.tenant(order.tenant, actor=inbox.name, correlation_id=order.correlation_id)
                execute_once(session, inbox, order)

            if worker:
                running = Worker(
                    self._run(only, fed_from, relays_to), self.types, store,
                    lambda event: log.caused_by(event), clock=clock, crash=crash, lease_seconds=lease_seconds,
                    fed=None if fed_from is None else self._fed_by(fed_from, relay, only, take_in),
                    relays_to=None if relays_to is None else open_broker(relays_to),
                )  # fmt: skip
            models = ReadModels(
                [*self.projections, *self.processors], self.types, store, Waiting(store, self.types, running)
            )
            log = Log(store, scope, models, running)
            if running is not None:
                running.start()
        except BaseException:
            store.close()
            raise
        return log

    def open_async(
        self,
        url: str | None = None,
        *,
        worker: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        fed_from: str | None = None,
        relay: str | None = None,
        relays_to: str | None = None,
        only: Sequence[str] = (),
        clock: Clock = system_clock,
        crash: CrashPoint = nothing,
    ) -> AsyncLog:
        """As `open`, for asyncio: `async with platform.open_async() as log`."""
        return AsyncLog(
            self.open(
                url,
                worker=worker,
                lease_seconds=lease_seconds,
                fed_from=fed_from,
                relay=relay,
                relays_to=relays_to,
                only=only,
                clock=clock,
                crash=crash,
            )
        )

    def follows(self) -> list[Follows]:
        """What a worker runs: every projection that is not inline, and every processor."""
        return [
            *(one for one in self.projections if not (isinstance(one, Fold) and one.inline)),
            *self.processors,
            *self.timekeepers,
        ]

    def _run(self, only: Sequence[str], fed_from: str | None, relays_to: str | None) -> list[Follows]:
        parts = self.fed() if fed_from is not None else self.follows()
        parts += self.relays if relays_to is not None else []
        for name in only:
            inboxes = self.inboxes if fed_from is not None else []
            if all(part.name != name for part in [*parts, *inboxes]):
                known = ", ".join(part.name for part in [*parts, *inboxes]) or "nothing"
                raise Misconfigured(f"there is no {name!r} to run: this worker has {known}")
        return [part for part in parts if not only or part.name in only]

    def fed(self) -> list[Follows]:
        """What a worker runs that is fed by a broker. Process managers are not: they live in the log."""
        theirs = {process.processor.name for process in self.processes}
        return [one for one in self.processors if one.name not in theirs]

    def _fed_by(self, url: str, relay: str | None, only: Sequence[str], take_in: Execute) -> Fed:
        broker = open_broker(url)
        inboxes = [one for one in self.inboxes if not only or one.name in only]

        def broker_of(inbox: CommandInbox[Any]) -> Broker:
            return broker if inbox.stream is None else open_broker(in_stream(url, inbox.stream))

        return Fed(broker, self._prefix(relay) if self.fed() else "", inboxes, broker_of, take_in)

    def _prefix(self, relay: str | None) -> str:
        """The first word of the subjects that are read."""
        named = [one for one in self.relays if relay in (None, one.name)]
        if relay is not None:
            return named[0].word if named else word(relay)
        if len(named) != 1:
            raise Misconfigured(
                f"this platform has {len(named)} relays: say whose messages the processors are fed with, relay=NAME"
            )
        return named[0].word

    def _events(self, parts: Iterable[Part]) -> list[type]:
        classes = [part for part in parts if isinstance(part, type)]
        for decider in self.deciders.values():
            classes += decider.event_types()
        for follows in [*self.projections, *self.processors, *self.relays]:
            classes += follows.events
        if self.timekeepers:
            classes += PROCESS_EVENTS
        if self.inboxes:
            classes += OUTCOMES
        for schedule in self.schedules:
            classes += schedule.events
        return list(dict.fromkeys(classes))

    def _scope(self, counters: Counters) -> Scope:
        loaders = {
            name: Loader(decider, self.types, counters, compare_every=self._compare_every)
            for name, decider in self.deciders.items()
        }
        return Scope(self.types, loaders, counters, None, Context())


_OTHERS = (Upcaster, Fold, SqlProjection, Processor, CommandInbox, Relay, Schedule)


def _deciders(parts: Iterable[Part]) -> dict[str, Decider[Any, Any, Any]]:
    found: dict[str, Decider[Any, Any, Any]] = {}
    # The state of a process is folded as any other, so it can be looked at now and then.
    for part in [part.states if isinstance(part, ProcessManager) else part for part in parts]:
        if isinstance(part, Decider):
            if found.setdefault(part.name, part) is not part:
                raise Misconfigured(f"two deciders are named {part.name!r}: rename one, their streams would mix")
        elif not isinstance(part, _OTHERS) and not is_event(part):
            raise Misconfigured(
                f"{part!r} is no part of a platform: give deciders, projections, processors, process managers, "
                "schedules, relays, command inboxes, upcasters, event classes"
            )
    return found


def _check_names(follows: Sequence[Follows]) -> None:
    seen: set[str] = set()
    for part in follows:
        if part.name in seen:
            raise Misconfigured(
                f"two projections, processors or relays are named {part.name!r}: rename one, or they share a checkpoint"
            )
        seen.add(part.name)
        if not part.events and not isinstance(part, Relay):
            raise Misconfigured(f"projection {part.name!r} handles no event: decorate a function with .on(…)")


def _check_prefixes(relays: Sequence[Relay]) -> None:
    """Each sends behind its own last message, so the subjects of two never mix."""
    seen: dict[str, str] = {}
    for relay in relays:
        other = seen.setdefault(relay.word, relay.name)
        if other != relay.name:
            raise Misconfigured(f"relays {other!r} and {relay.name!r} send under one prefix: give one of them another")


def _check_inboxes(inboxes: Sequence[CommandInbox[Any]], deciders: Mapping[str, Decider[Any, Any, Any]]) -> None:
    """One name is one place at the broker."""
    seen: set[str] = set()
    for inbox in inboxes:
        if inbox.name in seen:
            raise Misconfigured(f"two command inboxes are named {inbox.name!r}: rename one, they would share a place")
        seen.add(inbox.name)
        if deciders.get(inbox.to.name) is not inbox.to:
            raise Misconfigured(
                f"command inbox {inbox.name!r} is for decider {inbox.to.name!r}: give that to Platform(…) too"
            )
