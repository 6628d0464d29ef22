"""The broker's copy of the log, as a follower reads it: pages of events, each once, in the order of their positions.

Of what the broker hands out, only events that are new and in order reach the processor. One that is settled, or lies in
a lane, is dropped: a duplicate. One that belongs before others which are done is `late`: it waits for a person.
"""

import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from everlog.core.envelope import Head, StoredEvent
from everlog.core.errors import InvalidInput, NotFound, SubscriptionFailed
from everlog.feed.stream import NOTHING_READ, Place
from everlog.processing.contract import Desk, Feed
from everlog.processing.source import FromLog
from everlog.relay.cloudevents import Received, read, received
from everlog.relay.contract import Delivered
from everlog.relay.run import source_of
from everlog.store.contract import Store
from everlog.store.query import Filter
from everlog.subscription.contract import Checkpoints, Claim, Effects

Fate = Literal["new", "late", "settled"]


@dataclass(slots=True)
class InHand:
    """One message that was fetched; `settled` once what becomes of it is in the store, or was before."""

    delivered: Delivered
    event: StoredEvent | None
    fate: Fate


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a subscription begins that has no place in the stream yet: at its end, with what was recorded since, or
    with what lies behind a position."""

    now: bool = False
    since: int = 0
    after: int = 0


class BrokerPages:
    """What a follower and its processor need of the log, from a broker; the store keeps what has to last.

    One partition's, and called by its thread alone. A page is fetched when the one before is settled, so there is
    never more in memory than one.
    """

    def __init__(
        self,
        processor: str,
        partition: str,
        place: Place,
        store: Store,
        checkpoints: Checkpoints,
        desk: Desk,
        stopping: threading.Event,
        beginning: Beginning,
        on_quiet: Callable[[], None] = lambda: None,
    ) -> None:
        self.place, self._on_quiet = place, on_quiet
        self._partition = partition
        self._processor, self._log, self._checkpoints, self._desk = processor, FromLog(store), checkpoints, desk
        self._stopping, self._beginning = stopping, beginning
        log_id = store.head().log_id
        self._owner, self._own = log_id.hex()[:8], source_of(log_id)
        self._in_hand: deque[InHand] = deque()
        self._done: list[Delivered] = []
        self._claim: Claim | None = None
        self._feed: Feed | None = None
        self._kept: Feed | None = None  # as it is in the store
        self._last = 0
        self._refusal: str | None = None
        self.quiet = False
        """Nothing was behind what was fetched last."""

    # ---- For the processor.

    def begin(self, claim: Claim) -> None:
        self._claim, feed = claim, self._desk.feeds.get(claim.name)
        self._kept = feed
        if feed is not None and feed.position != claim.position:
            # Somebody moved it without us, a person or a worker that reads the log: what they passed is done.
            feed = feed._replace(floor=max(feed.floor, claim.position), position=claim.position)
        self._feed, self._refusal = feed, None
        self._forget(claim.position)
        self.place.begin(f"{_plain(claim.name)}-{self._owner}-{claim.epoch}")

    def stored(self, position: int) -> StoredEvent:
        event = self._desk.received.get(self._processor, position)
        try:
            return event or self._log.stored(position)
        except StopIteration:
            raise NotFound(
                f"the event at {position} lies in a lane, and neither this store nor its log holds it: "
                "run the worker on the store where the lane was opened"
            ) from None

    def late(self) -> Sequence[StoredEvent]:
        return [one.event for one in self._in_hand if one.fate == "late" and one.event is not None]

    def settle(self, effects: Effects, *, handled: Sequence[int], parked: Sequence[int], upto: int) -> None:
        assert self._claim is not None
        assert self._feed is not None
        lying, incarnation = frozenset(parked), self._feed.incarnation
        kept = [one.event for one in self._in_hand if one.event is not None and one.event.position in lying]
        if kept:
            self._desk.received.keep(effects, self._processor, incarnation, kept)
        if handled:
            self._desk.inbox.remember(effects, self._processor, incarnation, handled)
        for one in self._in_hand:
            if one.event is not None and (one.fate == "late" or one.event.position <= upto):
                one.fate = "settled"
        self._feed = self._passed(self._feed)._replace(position=upto)
        self._desk.feeds.put(effects, self._claim.name, self._feed)
        self._kept = self._feed

    def extend(self) -> None:
        self.place.extend([one.delivered for one in self._in_hand])

    # ---- For the follower.

    def head(self) -> Head:
        """As far as what is in hand goes."""
        return Head(self._last, 0, b"", 0 if self._feed is None else self._feed.incarnation)

    def read(
        self, where: Filter, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Iterator[StoredEvent]:
        new = [one.event for one in self._in_hand if one.fate == "new" and one.event is not None]
        upto = self._last if upto is None else upto
        yield from [event for event in sorted(new) if after < event.position <= upto][:limit]

    def wait(self, after: int, seconds: float) -> int:
        """Fetch what comes next, for so long, once all in hand is settled and the broker has heard of it."""
        if not self._in_hand:
            self.place.ack(self._done)
            self._done.clear()
            if self._refusal is not None:
                raise SubscriptionFailed(self._name, self._last, self._refusal)
            if self.place.is_open or self._open(seconds):
                fetched = self.place.fetch(seconds)
                self._take(fetched)
                self.quiet = self.place.is_open and not self._in_hand and not (fetched and self.place.pending)
                if self.quiet:
                    self._move_on()
                    self._keep_place()
                    self._on_quiet()
        return self._last

    def is_behind(self) -> bool:
        """Whether the broker has more than the store knows of; asked by those who do not own the partition.

        Raises `BrokerUnavailable`.
        """
        name = f"{_plain(self._partition)}-look-{uuid.uuid4().hex[:12]}"
        return self.place.holds_more(name, self._desk.feeds.get(self._partition))

    @property
    def pending(self) -> int:
        """Messages that are in hand, or were behind them when they were fetched."""
        return len(self._in_hand) + self.place.pending

    def close(self) -> None:
        """Tell the broker what is settled, and that nobody reads here any more."""
        self.place.ack(self._done)
        self.place.close()

    # ---- Between the two.

    @property
    def _name(self) -> str:
        return self._processor if self._claim is None else self._claim.name

    def _forget(self, last: int) -> None:
        self._in_hand.clear()
        self._done.clear()
        self._last, self.quiet = last, False

    def _open(self, seconds: float) -> bool:
        """Find the place again; false while the broker is out of reach."""
        if (pause := self.place.pause()) > seconds:
            self._stopping.wait(seconds)
            return False
        self._stopping.wait(pause)
        assert self._claim is not None
        feed, at_end = self._feed, self._beginning.now and self._claim.position == 0
        after = self.place.opened(self._name, feed, from_now=at_end)
        if after is None:
            return False
        stream, created = self.place.life
        if feed is None:
            # A refill, or another life of the stream, must not make all that was before new.
            floor = max(self._last, self.place.newest) if at_end else self._last
            feed = Feed("", 0, stream, created, after, NOTHING_READ, self._last, floor)
            # At once: "from now on" means the same after a crash.
            self._put(feed)
        elif (stream, created, after) != (feed.stream, feed.created, feed.sequence):
            feed = feed._replace(stream=stream, created=created, sequence=after, read=NOTHING_READ)
        self._feed = feed
        return True

    def _put(self, feed: Feed) -> None:
        assert self._claim is not None
        with self._checkpoints.transaction(self._claim, self._last) as effects:
            self._desk.feeds.put(effects, self._name, feed)
        self._kept = feed

    def _move_on(self) -> None:
        """Behind what the broker has of others, too."""
        passed = self.place.passed()
        if passed is not None and self._feed is not None:
            self._feed = self._feed._replace(sequence=passed[0], read=passed[1])

    def _keep_place(self) -> None:
        """Also behind messages that held nothing new: others who wait for us look there."""
        if self._feed is not None and self._kept is not None and _place_of(self._feed) != _place_of(self._kept):
            self._feed = self._feed._replace(position=self._last)
            self._put(self._feed)

    def _take(self, fetched: Sequence[Delivered]) -> None:
        arrived: list[tuple[Delivered, Received | None]] = []
        for delivered in fetched:
            event = self._event(delivered)
            # What came before it is handled first; where a dead letter was not kept all is read again from there.
            if self._refuses(event) if event is not None else not self.place.is_open:
                break
            arrived.append((delivered, event))
        known = self._known([event.stored.position for _, event in arrived if event is not None])
        for delivered, event in arrived:
            fate = "settled" if event is None else self._fate(event, known)
            self._in_hand.append(InHand(delivered, None if event is None else event.stored, fate))
            if fate == "new" and event is not None:
                known.add(event.stored.position)  # the same again, a little later, is no other event
        self._last = max([self._last, *(e.position for one in self._in_hand if one.fate == "new" and (e := one.event))])
        if self._feed is not None:
            self._feed = self._passed(self._feed)

    def _event(self, delivered: Delivered) -> Received | None:
        try:
            return received(read(delivered.message))
        except InvalidInput as error:
            self.place.dead_letter(delivered, f"no event of a relay: {error}")
            return None

    def _refuses(self, event: Received) -> bool:
        """Whether nothing may go on from here before a person has looked."""
        assert self._feed is not None
        feed, position = self._feed, event.stored.position
        if not feed.source and feed.position > self._beginning.after and event.source != self._own:
            self._refusal = (
                f"it followed the log of this store up to {feed.position}, and the event at {position} is of another, "
                f"{event.source}: `everlog processor accept {self._processor} --source {event.source} "
                f"--incarnation {event.incarnation} --after {self._beginning.after}` lets it begin with that one"
            )
        elif not feed.source:
            self._feed = feed._replace(source=event.source, incarnation=event.incarnation)
        elif event.source != feed.source or event.incarnation > feed.incarnation:
            self._refusal = (
                f"the event at {position} is of incarnation {event.incarnation} of {event.source}, so far it was "
                f"{feed.incarnation} of {feed.source}, followed up to {feed.position}: the log was copied or restored. "
                f"Find the last position that both have in common, then `everlog processor accept {self._processor} "
                f"--source {event.source} --incarnation {event.incarnation} --after POSITION`"
            )
        elif event.part:
            self._refusal = (
                f"the event at {position} was sent in parts, by a relay with a transform; processors need whole "
                "events: give them a relay without one"
            )
        return self._refusal is not None

    def _known(self, positions: Sequence[int]) -> set[int]:
        if self._feed is None or not positions:
            return set()
        name, incarnation = self._processor, self._feed.incarnation
        known = self._desk.inbox.known(name, incarnation, positions)
        return known | self._desk.received.find(name, incarnation, positions)

    def _fate(self, event: Received, known: set[int]) -> Fate:
        assert self._feed is not None
        position = event.stored.position
        if position in known or position <= self._feed.floor or event.stored.recorded_at < self._beginning.since:
            return "settled"
        if event.incarnation < self._feed.incarnation and position > self._feed.shared:
            return "settled"  # the log of today has something else there
        return "late" if position <= self._last else "new"

    def _passed(self, feed: Feed) -> Feed:
        """The place behind all that is settled, which is out of hand by that."""
        while self._in_hand and self._in_hand[0].fate == "settled":
            one = self._in_hand.popleft()
            self._done.append(one.delivered)
            read_ = NOTHING_READ if one.event is None else one.event.position
            feed = feed._replace(sequence=one.delivered.sequence, read=read_)
        return feed


def _place_of(feed: Feed) -> tuple[str, int, int]:
    return feed.stream, feed.created, feed.sequence


def _plain(name: str) -> str:
    """As it may stand in a consumer's name."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f"={ord(found.group()):x}", name)
