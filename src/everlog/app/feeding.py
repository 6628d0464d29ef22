"""Processors fed by a broker: which messages are whose, where each begins, and how far behind it is."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from everlog.app.following import subscription_of
from everlog.app.stores import Backend
from everlog.core.clock import micros
from everlog.core.errors import InvalidInput, NotFound
from everlog.domain.types import EventTypes
from everlog.feed.inbox import CommandInbox
from everlog.feed.pages import Beginning, BrokerPages
from everlog.feed.stream import Place
from everlog.feed.taking import Execute, Taking
from everlog.processing.contract import LaneFilter
from everlog.processing.processor import Processor
from everlog.relay.contract import Broker, BrokerUnavailable
from everlog.relay.run import source_of
from everlog.relay.subjects import word
from everlog.subscription.contract import Claim, Progress
from everlog.subscription.follower import Follower, Subscription
from everlog.subscription.start import AfterPosition, FromNow, FromTime, Start

ACK_SECONDS = 30.0
"""While handlers run their messages are held for so long, again and again."""

LOOK_SECONDS = 1.0
"""How long what the broker said of another worker's partition is taken for true."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What feeds a worker: the broker, the first word of the relay's subjects in it, and whose commands come with it.

    `broker_of` gives the broker for an inbox, which may be in another stream.
    """

    broker: Broker
    prefix: str
    inboxes: Sequence[CommandInbox[Any]]
    broker_of: Callable[[CommandInbox[Any]], Broker]
    execute: Execute


class Feeding:
    """The broker in the place of the log, for one worker."""

    def __init__(
        self,
        fed: Fed,
        types: EventTypes,
        backend: Backend,
        stopping: threading.Event,
        lease_seconds: float,
        on_quiet: Callable[[], None],
        owns: Callable[[str], bool],
    ) -> None:
        self.broker, self.prefix = fed.broker, fed.prefix
        self._brokers = [fed.broker_of(one) for one in fed.inboxes]
        log = backend.head().log_id.hex()
        self.takings = [
            Taking(one, broker, fed.execute, stopping, log=log, on_quiet=on_quiet)
            for one, broker in zip(fed.inboxes, self._brokers, strict=True)
        ]
        self._types, self._backend, self._stopping, self._on_quiet = types, backend, stopping, on_quiet
        self._ack_seconds = max(ACK_SECONDS, lease_seconds)
        self._owns = owns
        self._pages: dict[str, BrokerPages] = {}
        self._looked: dict[str, tuple[float, bool]] = {}
        self._away: BrokerUnavailable | None = None  # when it was looked at last for another worker's partition

    def subscription(self, processor: Processor[Any]) -> Subscription:
        """As it follows the log, but that the log cannot be asked where a moment is."""
        start = processor.start if isinstance(processor.start, AfterPosition) else AfterPosition(0)
        return replace(subscription_of(processor, self._types), start=start)

    def pages(self, processor: Processor[Any], partition: str) -> BrokerPages:
        subscription = self.subscription(processor)
        place = Place(
            self.broker,
            self.prefix,
            subjects(self.prefix, processor, self._types),
            page=subscription.page,
            ack_seconds=self._ack_seconds,
        )
        made = self._pages[partition] = BrokerPages(
            processor.name,
            partition,
            place,
            self._backend,
            self._backend.checkpoints,
            self._backend.desk,
            self._stopping,
            _beginning(processor.start),
            self._on_quiet,
        )
        return made

    def started(self) -> list[threading.Thread]:
        """Run the inboxes, each on a thread."""
        threads = [
            threading.Thread(target=one.run, name=f"everlog-{one.inbox.name}", daemon=True) for one in self.takings
        ]
        for thread in threads:
            thread.start()
        return threads

    def inboxes_are_quiet(self, *, patiently: bool) -> bool:
        return all(one.quiet or not (patiently or one.trouble is None) for one in self.takings)

    def incarnation(self, claim: Claim) -> int:
        """Of the events that a partition is fed with."""
        return self._pages[claim.name].head().incarnation

    def feeds(self, follower: Follower) -> bool:
        """Whether it reads the broker, not the log."""
        return follower.partition in self._pages

    def is_behind(self, follower: Follower, *, patiently: bool) -> bool:
        """Whether it has not tried to own its partition yet, or owns it and has something to read.

        A broker that is away may have something; only the patient wait until it is back.
        """
        if not follower.owns:
            return follower.owns is None
        pages = self._pages[follower.partition]
        return not pages.quiet and (patiently or pages.place.trouble is None)

    def theirs_is_behind(self, partition: str) -> bool:
        """Whether there is more for a partition that is another worker's, or was until it died; asked once a second.

        So it is when nobody knows because the broker is away.
        """
        at, behind = self._looked.get(partition, (-math.inf, True))
        if time.monotonic() - at >= LOOK_SECONDS:
            try:
                behind, self._away = self._pages[partition].is_behind(), None
            except BrokerUnavailable as error:
                behind, self._away = True, error
            self._looked[partition] = time.monotonic(), behind
        return behind

    def pending(self, follower: Follower) -> int:
        """Messages that a partition of ours has not settled, as of when it fetched last; 0 where it is another's."""
        return self._pages[follower.partition].pending if follower.owns else 0

    def trouble(self) -> str:
        """Why the broker cannot be read, if it cannot, for a partition, or an inbox."""
        places = [pages.place.trouble if self._owns(name) else self._away for name, pages in [*self._pages.items()]]
        found = [*places, *(one.trouble for one in self.takings)]
        return next((str(one) or type(one).__name__ for one in found if one is not None), "")

    def close(self) -> None:
        """Once no follower reads any more."""
        for pages in self._pages.values():
            pages.close()
        for broker in {id(one): one for one in [self.broker, *self._brokers]}.values():
            broker.close()


def fed_elsewhere(backend: Backend, partitions: Sequence[Progress]) -> str:
    """The log whose events a broker gives to some of these partitions; empty where it is this store's own, or none."""
    feeds = [backend.desk.feeds.get(one.name) for one in partitions]
    sources = {feed.source for feed in feeds if feed is not None and feed.source}
    return min(sources - {source_of(backend.head().log_id)}, default="") if sources else ""


def subjects(prefix: str, processor: Processor[Any], types: EventTypes) -> tuple[str, ...]:
    """Those of every stored type that can become one of its classes, of all tenants."""
    names = dict.fromkeys(name for name, _ in types.matching(processor.events))
    return tuple(f"{prefix}.*.*.{word(name)}" for name in names)


def _beginning(start: Start) -> Beginning:
    match start:
        case FromNow():
            return Beginning(now=True)
        case FromTime(moment):
            return Beginning(since=micros(moment))
        case AfterPosition(position):
            return Beginning(after=position)
        case _:
            return Beginning()


def accept(backend: Backend, processor: str, *, source: str, incarnation: int, after: int) -> None:
    """Let a processor go on with a log that began anew: up to `after` it is what it was, behind that all is new.

    A partition that was not there yet goes on from where it is.

    Raises `NotFound`, and `InvalidInput` while events behind it lie in lanes, which the new log does not have.
    """
    partitions = [one.name for one in backend.checkpoints.progress() if one.subscription == processor]
    if not any(backend.desk.feeds.get(one) for one in partitions):
        raise NotFound(f"no processor {processor!r} was fed by a broker on this store: `everlog processor list`")
    if after < 0 or incarnation < 1:
        raise InvalidInput(f"incarnation {incarnation} and position {after}: the first is 1 or more, the second 0")
    for lane in backend.desk.lanes.find(LaneFilter(processor)):
        if any(position > after for position in backend.desk.lanes.positions(processor, lane.key, lane.depth)):
            raise InvalidInput(
                f"lane {lane.key!r} holds events behind {after}, which are not in the log any more: "
                "retry or skip them first"
            )
    backend.desk.feeds.accept(processor, source, incarnation, after)
