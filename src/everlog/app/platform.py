"""`Platform`: the parts of an application put together; no I/O until `open()`."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

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
from everlog.processing.processor import Processor
from everlog.projection.fold import Fold
from everlog.projection.inline import InlineFolds
from everlog.projection.sql import SqlProjection
from everlog.subscription.follower import LEASE_SECONDS
from everlog.telemetry import Counters

Part = Decider[Any, Any, Any] | Fold[Any] | SqlProjection | Processor[Any] | Upcaster | type


class Platform:
    """`Platform("sqlite:///shop.db", orders, …)`: deciders, upcasters and event classes, checked as a whole.

    Raises `Misconfigured` for two types or deciders of one name, a gap in the upcasters, a state no snapshot can hold,
    or a part that is none. `compare_snapshots_every` loads one from a snapshot is compared with a full replay.
    """

    def __init__(self, url: str, *parts: Part, compare_snapshots_every: int = COMPARE_EVERY) -> None:
        self.url = url
        self.deciders: Mapping[str, Decider[Any, Any, Any]] = MappingProxyType(_deciders(parts))
        self.projections: Sequence[Projection] = [p for p in parts if isinstance(p, Fold | SqlProjection)]
        self.processors: Sequence[Processor[Any]] = [p for p in parts if isinstance(p, Processor)]
        _check_names([*self.projections, *self.processors])
        self.types = EventTypes(self._events(parts), [p for p in parts if isinstance(p, Upcaster)])
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
        clock: Clock = system_clock,
        crash: CrashPoint = nothing,
    ) -> Log:
        """Open the log, here or at another `url`; use it as a context manager or close it.

        With `worker` this process also runs the projections and processors, each under a lease of `lease_seconds`.
        """
        counters = Counters()
        scope = self._scope(counters)
        inline = InlineFolds([one for one in self.projections if isinstance(one, Fold) and one.inline], self.types)
        store = open_store(url or self.url, clock=clock, crash=crash, counters=counters, inline=inline)
        try:
            for fold in inline.each():
                store.put_in_force(fold)
            running = None
            if worker:
                running = Worker(
                    self.follows(), self.types, store, lambda event: log.caused_by(event),
                    clock=clock, crash=crash, lease_seconds=lease_seconds,
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
        clock: Clock = system_clock,
        crash: CrashPoint = nothing,
    ) -> AsyncLog:
        """As `open`, for asyncio: `async with platform.open_async() as log`."""
        return AsyncLog(self.open(url, worker=worker, lease_seconds=lease_seconds, clock=clock, crash=crash))

    def follows(self) -> list[Follows]:
        """What a worker runs: every projection that is not inline, and every processor."""
        return [
            *(one for one in self.projections if not (isinstance(one, Fold) and one.inline)),
            *self.processors,
        ]

    def _events(self, parts: Iterable[Part]) -> list[type]:
        classes = [part for part in parts if isinstance(part, type)]
        for decider in self.deciders.values():
            classes += decider.event_types()
        for follows in [*self.projections, *self.processors]:
            classes += follows.events
        return list(dict.fromkeys(classes))

    def _scope(self, counters: Counters) -> Scope:
        loaders = {
            name: Loader(decider, self.types, counters, compare_every=self._compare_every)
            for name, decider in self.deciders.items()
        }
        return Scope(self.types, loaders, counters, None, Context())


def _deciders(parts: Iterable[Part]) -> dict[str, Decider[Any, Any, Any]]:
    found: dict[str, Decider[Any, Any, Any]] = {}
    for part in parts:
        if isinstance(part, Decider):
            if found.setdefault(part.name, part) is not part:
                raise Misconfigured(f"two deciders are named {part.name!r}: rename one, their streams would mix")
        elif not isinstance(part, Upcaster | Fold | SqlProjection | Processor) and not is_event(part):
            raise Misconfigured(
                f"{part!r} is no part of a platform: give deciders, projections, processors, upcasters, event classes"
            )
    return found


def _check_names(follows: Sequence[Follows]) -> None:
    seen: set[str] = set()
    for part in follows:
        if part.name in seen:
            raise Misconfigured(
                f"two projections or processors are named {part.name!r}: rename one, they would share a checkpoint"
            )
        seen.add(part.name)
        if not part.events:
            raise Misconfigured(f"projection {part.name!r} handles no event: decorate a function with .on(…)")
