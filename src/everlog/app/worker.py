"""The worker: every projection and processor of a platform, each followed on a thread of its own."""

import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from everlog.app.feeding import Fed, Feeding, fed_elsewhere
from everlog.app.following import (
    Follows,
    ProcessorCalls,
    Projection,
    SessionOf,
    followed,
    processor_handler,
    projection_handler,
    relay_handler,
    subscription_of,
    timekeeper_handler,
)
from everlog.app.shadow import ShadowBuild
from everlog.app.stores import Backend
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.errors import EverlogError, Fenced, InvalidInput, NotFound, OutcomeUnknown, StoreUnavailable
from everlog.domain.types import EventTypes
from everlog.process.timekeeper import Timekeeper, TimekeeperHandler
from everlog.processing.processor import Processor
from everlog.processing.run import ProcessorHandler
from everlog.processing.source import Source
from everlog.projection.fold import Fold
from everlog.projection.sql import SqlProjection
from everlog.relay.contract import Broker
from everlog.relay.routing import Relay
from everlog.relay.run import RelayHandler
from everlog.subscription.contract import Progress
from everlog.subscription.follower import LEASE_SECONDS, Follower, Handler, Subscription
from everlog.subscription.partition import BESIDE, Slice, as_one
from everlog.subscription.share import Share, fair_limit
from everlog.subscription.tail import Tail
from everlog.telemetry.log import projection_left, subscription_failed

_EVER = 2**62
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a subscription is behind the head, in events of the log, and how many of its keys are in lanes.

    `source` names the log that a broker feeds it with, where that is another than this store's: how far it is behind,
    only the worker that reads there knows.
    """

    progress: Progress
    events: int
    lanes: int
    source: str = ""


class Worker:
    """Start it, stop it. Several may run on one log: each partition has one owner, by lease and fence.

    It looks every second which partitions there are, and how many workers share them.
    """

    def __init__(
        self,
        parts: Sequence[Follows],
        types: EventTypes,
        backend: Backend,
        session_of: SessionOf,
        *,
        clock: Clock,
        crash: CrashPoint = nothing,
        lease_seconds: float = LEASE_SECONDS,
        fed: Fed | None = None,
        relays_to: Broker | None = None,
    ) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._parts = {part.name: part for part in parts}
        self._sender = relays_to
        self._relaying: dict[str, RelayHandler] = {}
        self._timekeeper: TimekeeperHandler | None = None
        self._types, self._backend, self._stopping = types, backend, threading.Event()
        self._clock, self._crash, self._lease_seconds = clock, crash, lease_seconds
        self.feeding = None
        if fed is not None:
            self.feeding = Feeding(fed, types, backend, self._stopping, lease_seconds, self._tell, self._owns)
        incarnation_of = None if self.feeding is None else self.feeding.incarnation
        self._calls = ProcessorCalls(backend, session_of, incarnation_of)
        # Also those that isolated handlers need are known before anything runs: what cannot be called is said now.
        self._ways = {part.name: self._calls.of(part) for part in parts if isinstance(part, Processor)}
        self.tail = Tail(backend)
        backend.on_append(self.tail.hint)
        self.moved = threading.Condition()
        self.followers: dict[str, Follower] = {}
        self._handlers: list[ProcessorHandler] = []
        self._shares = {name: Share() for name in self._parts}
        self._begun: set[str] = set()
        self._attended: set[str] = set()
        self._building: set[str] = set()
        self.elsewhere: dict[str, str] = {}  # processors that a broker feeds, and with events of which other log
        self.failures: dict[str, Exception] = {}  # why what is built beside does not serve yet
        self._looking = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._watch = threading.Thread(target=self._look_now_and_then, name="everlog-partitions", daemon=True)

    def start(self) -> None:
        self._look_patiently()
        self._watch.start()
        if self.feeding is not None:
            self._threads += self.feeding.started()

    def of(self, name: str) -> list[Follower]:
        """Those that follow for one projection or processor."""
        return [one for one in [*self.followers.values()] if one.subscription.name == name]

    def reached(self, name: str) -> int:
        """How far this worker has come with it, if all of it is this worker's; else 0."""
        ours = self.of(name)
        return min(one.reached for one in ours) if ours and all(one.owns for one in ours) else 0

    def has_tried(self, name: str) -> bool:
        ours = self.of(name)
        return bool(ours) and all(one.owns is not None for one in ours)

    def _look_now_and_then(self) -> None:
        while not self._stopping.wait(min(_LOOK_SECONDS, self._lease_seconds / 4)):
            self._look_patiently()
        for name in self._attended:
            with suppress(StoreUnavailable, OutcomeUnknown):  # then the others notice when it ends by itself
                self._backend.checkpoints.attend(name, self.owner, 0)

    def _look_patiently(self) -> None:
        """What the database does not answer now it is asked again in a second; who owns something goes on with it."""
        with suppress(StoreUnavailable, OutcomeUnknown), self._looking:
            self._look()

    def _look(self) -> None:
        known = as_one(self._backend.checkpoints.progress())
        for name, part in self._parts.items():
            if name not in self._begun:
                self._begin(part, known)
                self._begun.add(name)
        progress = self._backend.checkpoints.progress()
        known = as_one(progress)
        ours = {followed(part, known): name for name, part in self._parts.items()}
        found: dict[str, list[Progress]] = {name: [] for name in self._parts}
        for one in progress:
            if one.subscription in ours:
                found[ours[one.subscription]].append(one)
        for name, partitions in found.items():
            self._share(name, [] if self._is_fed_elsewhere(name, partitions) else partitions)

    def _is_fed_elsewhere(self, name: str, partitions: Sequence[Progress]) -> bool:
        """Whether its positions are those of another log than we read: it is left to a worker that is fed, too."""
        self.elsewhere.pop(name, None)
        if self.feeding is None and isinstance(self._parts[name], Processor):
            source = fed_elsewhere(self._backend, partitions)
            if source:
                self.elsewhere[name] = source
        return name in self.elsewhere

    def _begin(self, part: Follows, known: Mapping[str, Progress]) -> None:
        """Make it there; a projection of a newer version than serves is built beside that one.

        An older one is left: in a rolling deploy it would take back what the new code has just built.
        """
        if part.name not in known or not isinstance(part, Fold | SqlProjection):
            self._subscription(part).register(self._backend, self._backend.checkpoints)
        elif part.version < known[part.name].version and not followed(part, known):
            projection_left(part.name, part.version, known[part.name].version)
        elif not followed(part, known):
            thread = threading.Thread(
                target=self._build_beside, args=(part,), name=f"everlog-{part.name}-shadow", daemon=True
            )
            self._building.add(part.name)
            self._threads.append(thread)
            thread.start()

    def _build_beside(self, part: Projection) -> None:
        """Until it serves, whoever made it so; one that fails says so, and a start tries again."""
        build = ShadowBuild(
            part, self._types, self._backend, lease_seconds=self._lease_seconds, new_version=True,
            stopping=self._stopping,
        )  # fmt: skip
        try:
            while not self._stopping.is_set() and not self._is_built(part, build):
                pass
            self.failures.pop(part.name, None)
            self._look_patiently()
        except EverlogError as error:  # about the projection or its events: waiting would not help
            self.failures[part.name] = error
            subscription_failed(part.name, getattr(error, "position", 0), "failed")
        finally:
            self._building.discard(part.name)
            self._tell()

    def broken(self) -> dict[str, Exception]:
        """Projections of which a new version cannot be built, and why; what served still serves."""
        return {name: error for name, error in [*self.failures.items()] if name not in self._building}

    def _is_built(self, part: Projection, build: ShadowBuild) -> bool:
        """Whether this version serves, or a newer one that was quicker; else it is built, or there is a pause."""
        try:
            known = as_one(self._backend.checkpoints.progress())
            serving = known.get(part.name)
            if followed(part, known) or (serving is not None and serving.version > part.version):
                return True
            build.run(resume=True)
            build.swap()
        except (Fenced, NotFound, InvalidInput, StoreUnavailable, OutcomeUnknown) as error:
            # Somebody else builds, swaps or divides it at this moment, or the database is away.
            self.failures[build.name] = error
            self._stopping.wait(min(_LOOK_SECONDS, self._lease_seconds / 4))
        return False

    def _share(self, name: str, partitions: Sequence[Progress]) -> None:
        there = {one.name for one in partitions}
        for gone in [one for one in self.of(name) if one.partition not in there]:
            gone.end()
            del self.followers[gone.partition]
        if len(partitions) > 1:
            attendance = self._backend.checkpoints.attend(partitions[0].subscription, self.owner, self._lease_seconds)
            self._attended.add(partitions[0].subscription)
            self._shares[name].limit = fair_limit(len(partitions), attendance)
        else:
            self._shares[name].limit = 1
        made = [self._follow(self._parts[name], one) for one in partitions if one.name not in self.followers]
        # All of them are there before the first owns anything, or it might pass for the whole.
        for follower in made:
            thread = threading.Thread(target=follower.run, name=f"everlog-{follower.partition}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _follow(self, part: Follows, one: Progress) -> Follower:
        fed = self.feeding.pages(part, one.name) if self.feeding and isinstance(part, Processor) else None
        handler = self._handler_of(part, Slice(one.part, one.parts), fed)
        follower = self.followers[one.name] = Follower(
            self._subscription(part),
            handler,
            fed or self._backend,
            self._backend.checkpoints,
            fed or self.tail,
            owner=self.owner,
            stopping=self._stopping,
            lease_seconds=self._lease_seconds,
            partition=one.name,
            share=self._shares[part.name],
            on_progress=self._tell,
            until_due=handler.seconds_left if isinstance(handler, TimekeeperHandler) else lambda: math.inf,
        )
        return follower

    def _subscription(self, part: Follows) -> Subscription:
        if self.feeding is not None and isinstance(part, Processor):
            return self.feeding.subscription(part)
        return subscription_of(part, self._types)

    def _handler_of(self, part: Follows, keys: Slice, source: Source | None) -> Handler:
        if isinstance(part, Relay):
            assert self._sender is not None
            self._relaying[part.name] = relay_handler(
                part, self._types, self._backend, self._sender, self._clock, self._crash, self._stopping,
                self._lease_seconds,
            )  # fmt: skip
            return self._relaying[part.name]
        if isinstance(part, Timekeeper):
            self._timekeeper = timekeeper_handler(part, self._types, self._backend, self._clock, self._crash)
            return self._timekeeper
        if not isinstance(part, Processor):
            return projection_handler(part, self._types, self._backend, keys=keys)
        handler = processor_handler(
            part, self._types, self._backend, self._ways[part.name], self._clock, self._crash, self._stopping,
            self._lease_seconds, keys, source,
        )  # fmt: skip
        self._handlers.append(handler)
        return handler

    def lags(self) -> list[Lag]:
        """Every subscription of the log; of those that are fed by a broker, the messages that wait for this worker."""
        found = lags(self._backend)
        if self.feeding is None:
            return found
        fed = {name: [one for one in self.of(name) if self.feeding.feeds(one)] for name in self._parts}
        waiting = {name: sum(map(self.feeding.pending, ours)) for name, ours in fed.items() if ours}
        return [
            replace(one, events=waiting[one.progress.name], source="") if one.progress.name in waiting else one
            for one in found
        ]

    def drain(self, timeout: float, *, everything: bool = False) -> bool:
        """Wait until what this worker owns has seen all that is in the log now, or that the broker has for it; false
        after `timeout` seconds.

        With `everything` also until no timer is due and no lane is to be tried again, each being empty or waiting for a
        person; and for what another worker owns, which gets on with it or loses its lease to this one.
        """
        head = self._backend.head().position

        def done() -> bool:
            ours = [one for one in [*self.followers.values()] if everything or not self._is_held_up(one)]
            if self.feeding is not None and not self.feeding.inboxes_are_quiet(patiently=everything):
                return False
            if (
                self._begun != set(self._parts)
                or self._building
                or any(self._is_behind(one, head, everything) for one in ours)
            ):
                return False
            if not everything:
                return True
            return not self._is_due() and not any(
                self._to_do(one, head) for one in self._backend.checkpoints.progress()
            )

        with self.moved:
            self.moved.wait_for(lambda: self._stopping.is_set() or done(), timeout)
            return done()

    def stop(self, timeout: float = 30.0) -> bool:
        """Finish what is in hand, leave the leases, and say whether all ended within `timeout` seconds.

        Called again, as when the log is closed, it does not wait again.
        """
        until = time.monotonic() + (0.0 if self._stopping.is_set() else timeout)
        self._stopping.set()
        for thread in (*self._watching(), *self._threads):
            while thread.is_alive() and (left := until - time.monotonic()) > 0:
                self.tail.hint()  # again and again: it may look and find nothing just before one comes
                thread.join(min(left, 0.05))
        for handler in self._handlers:
            handler.close()
        self._calls.close()
        ended = not any(thread.is_alive() for thread in self._threads)
        if ended and self.feeding is not None:
            self.feeding.close()
        if ended and self._sender is not None:
            self._sender.close()
        return ended

    def _watching(self) -> list[threading.Thread]:
        """First, because it may be starting others."""
        return [self._watch] if self._watch.ident is not None else []

    def _to_do(self, known: Progress, head: int) -> bool:
        """Whether it is one of ours, whoever owns it, and neither at rest nor held up."""
        ours = self.followers.get(known.name)
        if ours is None or known.status != "running" or known.version != ours.subscription.version:
            return False
        if ours.owns:  # its own checkpoint may be a second behind over pages that hold nothing for it
            behind = False
        elif self.feeding is not None and self.feeding.feeds(ours):
            behind = self.feeding.theirs_is_behind(known.name)
        else:
            behind = known.position < head
        return behind or bool(self._backend.desk.lanes.due(known.subscription, _EVER, 1))

    def _is_behind(self, follower: Follower, head: int, patiently: bool) -> bool:
        if self.feeding is not None and self.feeding.feeds(follower):
            return self.feeding.is_behind(follower, patiently=patiently)
        relay = self._relaying.get(follower.partition)
        if follower.owns and relay is not None and not relay.compared:
            return True  # what was sent may be there no more
        return follower.owns is None or (follower.owns and follower.reached < head)

    def _is_held_up(self, follower: Follower) -> bool:
        """Nobody's patience makes a broker answer, and what is not sent now is sent next time."""
        relay = self._relaying.get(follower.partition)
        return relay is not None and bool(relay.trouble)

    def _is_due(self) -> bool:
        """Whether the time of a timer or of a schedule has come that did not become an event yet."""
        part = next((part for part in self._parts.values() if isinstance(part, Timekeeper)), None)
        if part is None:
            return False
        if self._timekeeper is not None and self._owns(part.name) and self._timekeeper.is_scheduled():
            return True
        first = self._backend.timers.page(None, 1)
        return bool(first) and first[0].due_at <= max(self._clock(), self._backend.head().recorded_at)

    def _owns(self, partition: str) -> bool:
        follower = self.followers.get(partition)
        return follower is not None and bool(follower.owns)

    def _tell(self) -> None:
        with self.moved:
            self.moved.notify_all()


def lags(backend: Backend) -> list[Lag]:
    """Every subscription of the log, whoever runs it; what does not serve only while somebody does."""
    head = backend.head().position
    running = [
        one for one in backend.checkpoints.progress() if not one.subscription.endswith(tuple(BESIDE)) or one.owner
    ]
    found: list[Lag] = []
    for name, one in as_one(running).items():
        partitions = [each for each in running if each.subscription == name and each.kind == "processor"]
        source, lanes = fed_elsewhere(backend, partitions), backend.desk.lanes.totals(name)[0]
        found.append(Lag(one, 0 if source else max(0, head - one.position), lanes, source))
    return found
