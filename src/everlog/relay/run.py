"""A relay as the handler of a subscription: a page is sent in order, and the checkpoint says what the broker answered.

Every batch is fenced by the message it must follow. So of two relays at once one is refused, and what was sent twice,
late or without an answer heard is either there once, in its place, or not at all: the log alone says what comes next.
"""

import threading
import time
from collections.abc import Callable, Sequence
from random import Random

from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.envelope import StoredEvent
from everlog.core.errors import EverlogError, Fenced, Misconfigured, SubscriptionFailed
from everlog.domain.types import EventTypes
from everlog.relay.compare import Comparison, digest
from everlog.relay.contract import BrokerMoved, BrokerUnavailable, Message, Sender
from everlog.relay.routing import Outgoing, Relay, relayed
from everlog.relay.state import Copy, Mark, Relayed, Relays, note
from everlog.store.contract import Store
from everlog.subscription.backoff import Backoff
from everlog.subscription.contract import Checkpoints, Claim
from everlog.subscription.follower import LEASE_SECONDS, Taken
from everlog.telemetry.log import relay_refills, relay_sends_again, relay_waits, relay_warns

BACKOFF = Backoff(first=0.2, longest=15.0)
_MOST_HALVED = 12  # of any page that leaves one message


class RelayHandler:
    """One thread calls it. It keeps one page in memory, however far the broker is behind."""

    def __init__(
        self,
        relay: Relay,
        types: EventTypes,
        sender: Sender,
        store: Store,
        checkpoints: Checkpoints,
        relays: Relays,
        *,
        clock: Clock,
        stopping: threading.Event,
        lease_seconds: float = LEASE_SECONDS,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        crash: CrashPoint = nothing,
    ) -> None:
        self._relay, self._types, self._sender = relay, types, sender
        self._store, self._checkpoints, self._relays = store, checkpoints, relays
        self._clock, self._stopping, self._random = clock, stopping, random or Random()
        self._lease_seconds, self._monotonic, self._crash = lease_seconds, monotonic, crash
        self._copy: Copy | None = None  # as compared with the broker; None: it is to be compared first
        self._known = Relayed(Copy("", 0, 0, 0, Mark(0), b"", 0), 0)
        self._failures, self._next, self._kept_at = 0, 0.0, 0.0
        self._halved = 0  # how often what is sent at once was too much
        self._warned: tuple[str, ...] = ()
        self.compared = False
        """Since it was claimed, what the broker holds was seen to be what was sent."""

    @property
    def trouble(self) -> str:
        """Why nothing can be sent now, if so."""
        return self._known.trouble

    def begin(self, claim: Claim) -> None:
        self._copy, self._failures, self._next, self._warned, self.compared = None, 0, 0.0, (), False
        self._kept_at = self._monotonic()
        head = self._store.head()
        source = source_of(head.log_id)
        self._outgoing = Outgoing(self._relay, self._types, source=source, incarnation=head.incarnation)
        begun = claim.position
        nothing_sent = Copy("", 0, 0, 0, Mark(begun), b"", begun)
        self._known = self._relays.all().get(claim.name) or Relayed(nothing_sent, begun)
        # The row may be a later owner's, if we slept since we claimed; and with our checkpoint that would say that
        # there is what is still to be sent.
        if self._checkpoints.renew(claim, self._lease_seconds) is None:
            raise Fenced(claim.name, claim.epoch)

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        made, failed = self._messages(claim, page)
        while not self._stopping.is_set():
            try:
                copy = self._send(self._compared(claim), made)
            except (BrokerUnavailable, Misconfigured) as error:
                self._trouble(claim, error)
                self._pause(claim)
                continue
            self._crash("relay.sent")
            reached = upto if failed is None else max(claim.position, failed.position - 1)
            self._commit(claim, reached, copy)
            if failed is not None:
                raise failed
            return Taken(reached, reached)
        return Taken(claim.position, claim.position)

    def save(self, claim: Claim, at: int) -> None:
        with self._checkpoints.transaction(claim, at):
            pass

    def idle(self, claim: Claim) -> bool:
        """Compare now and then: a broker that lost something does not tell."""
        if self._monotonic() < self._next:
            return False
        try:
            self._copy = None
            copy = self._compared(claim)
            if self._known.trouble or self._known.copy != copy:
                self._commit(claim, claim.position, copy)
            self._next = self._monotonic() + self._relay.compare_every
        except (BrokerUnavailable, Misconfigured) as error:
            self._trouble(claim, error)
            self._next = self._monotonic() + self._seconds()
        return False

    def _messages(
        self, claim: Claim, page: Sequence[StoredEvent]
    ) -> tuple[list[tuple[Mark, Message]], SubscriptionFailed | None]:
        """What the page gives, up to the first event that cannot be made into messages."""
        made: list[tuple[Mark, Message]] = []
        for event in page:
            try:
                made += [(Mark(event.position, part), one) for part, one in self._outgoing.messages(event)]
            except Exception as error:  # a transform raises what it likes
                return made, SubscriptionFailed(claim.name, event.position, f"{type(error).__name__}: {error}")
        return made, None

    def _send(self, copy: Copy, made: Sequence[tuple[Mark, Message]]) -> Copy:
        missing = [(mark, message) for mark, message in made if mark > copy.mark]
        size = max(1, len(missing) >> self._halved)
        for first in range(0, len(missing), size):
            copy = self._published(copy, missing[first : first + size])
        self._halved = max(0, self._halved - 1)
        return copy

    def _published(self, copy: Copy, missing: Sequence[tuple[Mark, Message]]) -> Copy:
        messages = [message for _, message in missing]
        self._copy = None  # until it is known that all are there
        self._crash("relay.sending")
        try:
            sequence = self._sender.publish_batch(self._relay.word, messages, after=copy.sequence)
        except BrokerMoved:
            raise
        except BrokerUnavailable:  # it may have been too much for a slow link; half of it comes through
            self._halved = min(self._halved + 1, _MOST_HALVED)
            raise
        mark = missing[-1][0]
        self._copy = copy._replace(
            sequence=sequence,
            messages=copy.messages + len(messages),
            mark=Mark(mark.position) if self._relay.transform is None else mark,
            digest=digest(messages[-1]),
        )
        return self._copy

    def _compared(self, claim: Claim) -> Copy:
        """The broker's copy, made sound. Goes back, under a new ownership, where it ends before the checkpoint."""
        if self._copy is not None:
            return self._copy
        holding = self._sender.holds(self._relay.word)
        if holding.warnings != self._warned:
            relay_warns(claim.name, holding.warnings)
            self._warned = holding.warnings
        self._known = self._known._replace(warnings=holding.warnings)
        comparison = Comparison(
            self._sender,
            self._store,
            relayed(self._relay, self._types),
            self._outgoing,
            self._relay.word,
            lambda: self._keep(claim),
        )
        known = self._known
        if known.refill is not None:
            copy = comparison.before(known.copy, holding, known.refill)
            self._go_back(claim, copy, missing=comparison.lacks(copy, claim.position))
            relay_refills(claim.name, known.refill)
            self._commit(claim, claim.position, copy)
        else:
            copy = comparison.mend(known.copy, holding)
            self._go_back(claim, copy, missing=copy.mark < known.copy.mark)
            if copy.mark > known.copy.mark:  # it was read message by message, and is not read again
                self._commit(claim, claim.position, copy)
        self._copy, self.compared = copy, True
        return copy

    def _go_back(self, claim: Claim, copy: Copy, *, missing: bool) -> None:
        """Where the broker lacks what we had sent: whoever follows from there, we or another, sends it again.

        The row is left as it is: what it says that the broker lacks is there once the first page is sent again.
        """
        # Of an event that was split some parts may be there, and the rest not.
        whole = self._relay.transform is None or not copy.sequence
        after = copy.mark.position - (0 if whole else 1)
        if not missing or claim.position <= after:
            return
        relay_sends_again(claim.name, after, claim.position)
        self._checkpoints.go_back(claim, after)
        raise Fenced(claim.name, claim.epoch)

    def _commit(self, claim: Claim, at: int, copy: Copy) -> None:
        known = Relayed(copy, self._known.begun, warnings=self._known.warnings)
        with self._checkpoints.transaction(claim, at) as effects:
            note(effects, claim.name, known)
        self._known, self._failures = known, 0

    def _trouble(self, claim: Claim, error: EverlogError) -> None:
        """Kept for whoever looks; the log goes on, and the relay waits."""
        self._copy = None
        before, trouble = self._known, str(error)[:1000]
        if before.trouble == trouble:
            return
        relay_waits(claim.name, trouble)
        known = before._replace(trouble=trouble, since=before.since if before.trouble else self._clock())
        with self._checkpoints.transaction(claim, claim.position) as effects:
            note(effects, claim.name, known)
        self._known = known

    def _seconds(self) -> float:
        self._failures += 1
        return BACKOFF.pause(self._failures - 1, self._random)

    def _pause(self, claim: Claim) -> None:
        until = self._monotonic() + self._seconds()
        while not self._stopping.is_set() and (left := until - self._monotonic()) > 0:
            self._keep(claim)
            self._stopping.wait(min(left, self._lease_seconds / 4))
        self._keep(claim)

    def _keep(self, claim: Claim) -> None:
        """The lease, during what takes long."""
        now = self._monotonic()
        if now - self._kept_at < self._lease_seconds / 4:
            return
        if self._checkpoints.renew(claim, self._lease_seconds) is None:
            raise Fenced(claim.name, claim.epoch)
        self._kept_at = now


def source_of(log_id: bytes) -> str:
    """What its CloudEvents name as their source: the log, whichever copy of it."""
    return f"everlog:{log_id.hex()}"
