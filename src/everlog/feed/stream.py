"""One partition's place in the broker's stream: read in order, from where the store says that it is.

The broker keeps no place for us: what was settled is committed with the effects, in our own store, and each ownership
has a consumer of its own that begins right behind it. So no owner is handed what another one holds, and a message that
is lost on its way, or comes again, shows in the numbers and is read anew before anything behind it.
"""

import time
from collections.abc import Callable, Sequence
from random import Random

from everlog.core.errors import EverlogError, InvalidInput, Misconfigured, SubscriptionFailed
from everlog.core.limits import PAGE_BYTES
from everlog.processing.contract import Feed
from everlog.relay.cloudevents import read, received
from everlog.relay.contract import Broker, BrokerUnavailable, Consumer, Delivered, Message
from everlog.relay.subjects import name_of
from everlog.subscription.backoff import Backoff

NOTHING_READ = -1
"""The position in a message that holds no event of ours."""

IDLE_SECONDS = 300.0
"""How long the broker keeps the consumer of an owner that is gone."""

LOOK_SECONDS = 5.0

RECONNECT = Backoff(first=0.2, longest=10.0)


class Place:
    """Fetches what lies behind a place in the stream. Used by one thread.

    `opened` makes it ready; when it is not open any more, because something did not fit or the broker went out of
    reach, what was fetched and not settled is to be forgotten and read again.
    """

    def __init__(
        self,
        broker: Broker,
        prefix: str,
        subjects: Sequence[str],
        *,
        page: int,
        ack_seconds: float,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker, self._prefix, self._subjects, self._page = broker, prefix, tuple(subjects), page
        self._ack_seconds, self._random, self._monotonic = ack_seconds, random or Random(), monotonic
        self._consumer: Consumer | None = None
        self._name, self._openings = "", 0
        self._seen = self._number = 0
        self._failures, self._not_before = 0, 0.0
        self._forgets, self._look_at = False, 0.0
        self.life = ("", 0)
        """Name and birth of the stream."""
        self.pending = 0
        """Messages behind the last one fetched, as of then."""
        self.newest = NOTHING_READ
        """The position of the event in the stream's last message, as of when it was opened."""
        self.trouble: EverlogError | None = None

    @property
    def is_open(self) -> bool:
        return self._consumer is not None

    def begin(self, name: str) -> None:
        """A new ownership, under a name that no other one has."""
        self.close()
        self._name, self._openings = name, 0

    def pause(self) -> float:
        """Seconds until the broker should be asked again; 0.0 as a rule."""
        return max(0.0, self._not_before - self._monotonic())

    def opened(self, partition: str, feed: Feed | None, *, from_now: bool = False) -> int | None:
        """The sequence behind which it reads, as `feed` says if the stream still is that one; `None` when the broker
        is out of reach.

        Raises `SubscriptionFailed` where the broker let go of what was not seen yet.
        """
        try:
            held = self._broker.kept(self._prefix)
            self.life, self._forgets = (held.stream, held.created), held.forgets
            last = 0 if held.last is None else held.last.sequence
            self.newest = NOTHING_READ if held.last is None else position_in(held.last.message)
            if feed is None:
                after = last if from_now else 0
            else:
                after = feed.sequence if self._continues(partition, feed, last, forgets=held.forgets) else 0
        except (BrokerUnavailable, Misconfigured) as error:
            self._failed(error)
            return None
        self._reached()
        self._read_behind(after)
        return after

    def holds_more(self, name: str, feed: Feed | None) -> bool:
        """Whether messages lie behind the place of `feed`, counted under a name that nobody else uses; from any thread.

        Raises `BrokerUnavailable`.
        """
        held = self._broker.kept(self._prefix)
        if feed is None or (feed.stream, feed.created) != (held.stream, held.created):
            return True
        consumer = Consumer(name, self._subjects, after=feed.sequence, idle_seconds=IDLE_SECONDS)
        try:
            return self._broker.pending(consumer) > 0
        finally:
            self._broker.forget(name)

    def fetch(self, wait: float) -> list[Delivered]:
        """What comes next, in the order of the stream; nothing when nothing came, or the broker is out of reach."""
        assert self._consumer is not None
        try:
            found = self._broker.fetch(self._consumer, limit=self._page, max_bytes=PAGE_BYTES, wait=wait)
            is_hole = self._forgets and self._let_go(found)
        except (BrokerUnavailable, Misconfigured) as error:
            self._failed(error)
            return []
        self._reached()
        if is_hole:  # how bad it is shows when it is opened again
            self.close()
            return []
        return self._in_order(found)

    def passed(self) -> tuple[int, int] | None:
        """The relay's last message, by its sequence and its position, once nothing that was not seen lies before it.

        Asked now and then, where a stream forgets: a place that stayed at the last event it had a use for would look
        as if what it has no use for had been let go of unseen.
        """
        if not self._forgets or self._consumer is None or self._monotonic() < self._look_at:
            return None
        self._look_at = self._monotonic() + LOOK_SECONDS
        try:
            held = self._broker.kept(self._prefix)
            left = self._broker.pending(self._consumer)
        except (BrokerUnavailable, Misconfigured) as error:
            self._failed(error)
            return None
        last = held.last
        if left or last is None or (held.stream, held.created) != self.life or last.sequence <= self._seen:
            return None
        self._seen = last.sequence
        return last.sequence, position_in(last.message)

    def ack(self, delivered: Sequence[Delivered]) -> None:
        """Tell the broker, for its figures: our place does not depend on it, so nothing is lost with an ack."""
        self._tell(self._broker.ack, delivered[-1:])

    def extend(self, delivered: Sequence[Delivered]) -> None:
        """They are still in hand."""
        self._tell(self._broker.extend, delivered)

    def dead_letter(self, delivered: Delivered, reason: str) -> None:
        """It is no event of ours, and never will be. Where that could not be kept the place is not open afterwards."""
        if self._consumer is not None:
            consumer = self._consumer
            self._tell(lambda one: self._broker.dead_letter(consumer, one[0], reason), [delivered])

    def close(self) -> None:
        """Let the broker forget our consumer, if it can be told; else it does so by itself in the end."""
        if self._consumer is not None:
            name, self._consumer = self._consumer.name, None
            try:
                self._broker.forget(name)
            except BrokerUnavailable as error:
                self._failed(error)

    def _tell(self, tell: Callable[[Sequence[Delivered]], None], delivered: Sequence[Delivered]) -> None:
        if delivered and self._consumer is not None:
            try:
                tell(delivered)
            except BrokerUnavailable as error:
                self._failed(error)

    def _failed(self, error: EverlogError) -> None:
        """Leave the broker alone for a while, with full jitter, and look at what it holds before going on."""
        self._consumer, self.trouble = None, error
        self._not_before = self._monotonic() + RECONNECT.pause(self._failures, self._random)
        self._failures += 1

    def _reached(self) -> None:
        self._failures, self.trouble = 0, None

    def _read_behind(self, after: int) -> None:
        self._openings += 1
        self._consumer = Consumer(
            f"{self._name}-{self._openings}",
            self._subjects,
            ack_seconds=self._ack_seconds,
            unsettled=2 * self._page,
            after=after,
            idle_seconds=IDLE_SECONDS,
            in_order=True,
        )
        self._seen, self._number = after, 0

    def _continues(self, partition: str, feed: Feed, last: int, *, forgets: bool) -> bool:
        """Whether the stream still is what was read up to `feed.sequence`; else it is read from its beginning.

        One that was rolled back and filled again has the same birth, so the message itself is looked at: what the
        relay sends behind an event is what lies behind it in the log.
        """
        if (feed.stream, feed.created) != self.life or last < feed.sequence:
            return False
        if not feed.sequence:
            return True
        found = self._broker.held(self._prefix, feed.sequence - 1)
        if found is not None and found.sequence == feed.sequence:
            return feed.read in (NOTHING_READ, position_in(found.message))
        first = self._broker.held(self._prefix, 0)
        if forgets and first is not None and first.sequence > feed.sequence + 1:
            if position_in(first.message) <= feed.position:  # it was filled again: what was seen is passed over
                return False
            raise SubscriptionFailed(
                partition,
                feed.position,
                f"the broker let go of messages before they were seen: the oldest in {feed.stream} is number "
                f"{first.sequence}, the last one seen here was {feed.sequence}; "
                f"`everlog relay refill {name_of(self._prefix)} --from {max(1, feed.position)}` sends them again",
            )
        return forgets

    def _let_go(self, found: Sequence[Delivered]) -> bool:
        """Whether something behind what was seen may be gone: a number is left out, and nothing is as old as the last
        one before."""
        at = self._seen
        for one in found:
            if at and one.sequence > at + 1:
                oldest = self._broker.held(self._prefix, 0)
                return oldest is None or oldest.sequence > at + 1
            at = max(at, one.sequence)
        return False

    def _in_order(self, found: Sequence[Delivered]) -> list[Delivered]:
        """Those that follow what was seen; what came again is dropped, and behind a hole all is read anew."""
        taken: list[Delivered] = []
        for one in found:
            if one.number != self._number + 1 or one.created != self.life[1]:
                self.close()
                break
            self._number, self.pending = one.number, one.pending
            if one.sequence > self._seen:
                self._seen = one.sequence
                taken.append(one)
        return taken


def position_in(message: Message) -> int:
    """The position of the event in a message, whoever sent it."""
    try:
        return received(read(message)).stored.position
    except InvalidInput:
        return NOTHING_READ
