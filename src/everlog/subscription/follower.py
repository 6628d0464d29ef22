"""The loop under every partition of a subscription: claim, read a page, hand it over, checkpoint, wait, again."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from everlog.core.envelope import StoredEvent
from everlog.core.errors import Fenced, OutcomeUnknown, StoreUnavailable, SubscriptionFailed, SubscriptionStopped
from everlog.core.limits import PAGE_BYTES
from everlog.store.contract import Pages
from everlog.store.query import Filter
from everlog.subscription.contract import Checkpoints, Claim, Kind, Progress, Status
from everlog.subscription.share import Share
from everlog.subscription.start import BEGINNING, Start
from everlog.subscription.tail import Waits
from everlog.telemetry.log import subscription_failed

LEASE_SECONDS = 10.0
PAGE = 1000
EMPTY_CHECKPOINT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which events, from where, under which name; at first in so many `parts`. A changed `version` begins anew."""

    name: str
    kind: Kind
    where: Filter
    version: int = 1
    start: Start = BEGINNING
    page: int = PAGE
    parts: int = 1

    def register(self, store: Pages, checkpoints: Checkpoints) -> None:
        """Make its partitions where there are none; those of another version begin anew."""
        start = self.start.position(store)
        checkpoints.register(self.name, self.kind, self.version, start, parts=self.parts)


class Taken(NamedTuple):
    """How far a handler came: `reached` is where reading goes on, `saved` what is checkpointed, which may be less."""

    saved: int
    reached: int


class Handler(Protocol):
    """What a page of events is handed to. Called by one thread at a time, always in order."""

    def begin(self, claim: Claim) -> None:
        """A new ownership: forget what was kept in memory for an earlier one."""
        ...

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        """Take the page, with its effect and checkpoint, or keep some of it for `save`.

        Raises `Fenced` when the ownership was lost and `SubscriptionFailed` when the subscription cannot go on.
        """
        ...

    def save(self, claim: Claim, at: int) -> None:
        """Commit what is kept, and the checkpoint at `at`."""
        ...

    def idle(self, claim: Claim) -> bool:
        """Called when there is nothing to read, or something is due; true when it did something and wants to be called
        again soon."""
        ...


class Follower:
    """Runs one partition until it is stopped. `reached` is how far this process has come, also over empty pages.

    Without a `partition` it registers the subscription, which is not to be divided. Of one that is, it owns no more
    than this worker's `share`.
    """

    def __init__(
        self,
        subscription: Subscription,
        handler: Handler,
        store: Pages,
        checkpoints: Checkpoints,
        tail: Waits,
        *,
        owner: str,
        stopping: threading.Event,
        lease_seconds: float = LEASE_SECONDS,
        partition: str = "",
        share: Share | None = None,
        on_progress: Callable[[], None] = lambda: None,
        until_due: Callable[[], float] = lambda: math.inf,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.subscription, self.partition = subscription, partition or subscription.name
        self._registers = not partition
        self._share = share or Share()
        self._handler, self._store, self._checkpoints, self._tail = handler, store, checkpoints, tail
        self.owner, self._stopping, self._lease_seconds = owner, stopping, lease_seconds
        self.on_progress, self._until_due, self._monotonic = on_progress, until_due, monotonic
        self._size = subscription.page
        self.reached = 0
        self.owns: bool | None = None  # None: it has not tried yet
        self.failure: Exception | None = None
        self._over = False  # the partition is no more, or for somebody else

    def run(self) -> None:
        """Follow until stopped, or until the partition is no more; trouble of the store is waited out, trouble of the
        handler marks it failed.

        One that failed before is tried again first: a start is what follows a mended deploy.
        """
        first = True
        while not self._ended():
            try:
                claim = self._claim(starting=first)
                first = False
                self.owns = claim is not None
                if claim is None:
                    self._share.let_go(self.partition)  # before the wait, or others find no room
                    self.reached = 0  # how far it is, only the checkpoint says
                    self.on_progress()
                    self._stopping.wait(min(1.0, self._lease_seconds / 4))
                else:
                    self._own(claim)
            except Fenced as error:
                # How far it is, only the checkpoint says: the new owner may be building it anew.
                self.failure, self.owns, self.reached = error, False, 0
            except (StoreUnavailable, OutcomeUnknown) as error:
                self.failure = error
                self._share.let_go(self.partition)
                self._stopping.wait(self._lease_seconds / 4)
            finally:
                self._share.let_go(self.partition)

    def end(self) -> None:
        """Leave this partition, for good."""
        self._over = True

    def _ended(self) -> bool:
        return self._stopping.is_set() or self._over

    def run_to(self, position: int) -> None:
        """Follow up to `position` and return; raises what `run` would wait out. For rebuilds and tests."""
        claim = self._claim(starting=False)
        if claim is None:
            raise StoreUnavailable(f"{self.subscription.name!r} is paused, failed, or owned by a running worker")
        with self._failing(claim):
            self._handler.begin(claim)
            at = claim.position
            self._reach(at)
            while at < position and not self._stopping.is_set():
                claim, at = self._page(claim, at, position)
                self._reach(at)
                claim = self._renew(claim)
            claim = self._save(claim, at)
        self._checkpoints.leave(claim)

    def _claim(self, *, starting: bool) -> Claim | None:
        if not self._is_ours(starting=starting):
            return None
        claim = self._checkpoints.claim(self.partition, self.owner, self._lease_seconds)
        if claim is None or claim.version == self.subscription.version:
            return claim
        self._checkpoints.leave(claim)  # a process with other code began it anew just now
        return None

    def _is_ours(self, *, starting: bool) -> bool:
        """Whether it is there, in the version to run, its turn, and nobody else's."""
        partitions = self._checkpoints.progress()
        known = self._known(partitions)
        # To make it so is for a start alone, or two versions would begin anew in turns.
        if self._registers and (known is None or (starting and known.version != self.subscription.version)):
            self.subscription.register(self._store, self._checkpoints)
            known = self._known(self._checkpoints.progress())
        self._over = self._over or known is None
        if known is None or known.version != self.subscription.version:
            return False
        if starting and known.status == "failed":
            self._checkpoints.set_status(self.partition, "running", epoch=known.epoch)
        if known.until is None and any(
            one.until is not None for one in partitions if one.subscription == known.subscription
        ):
            return False  # those that end go first, and must find room in the share
        return known.owner in ("", self.owner) and self._share.may_own(self.partition)

    def _known(self, partitions: Sequence[Progress]) -> Progress | None:
        return next((one for one in partitions if one.name == self.partition), None)

    def _renew(self, claim: Claim) -> Claim:
        renewed = self._checkpoints.renew(claim, self._lease_seconds)
        if renewed is None:
            raise Fenced(claim.name, claim.epoch)
        return renewed

    def _own(self, claim: Claim) -> None:
        self.failure = None
        try:
            with self._failing(claim):
                claim = self._follow(claim)
        except SubscriptionFailed:
            self.owns = False
            self.on_progress()
            return
        except (Fenced, StoreUnavailable, OutcomeUnknown):
            raise
        except Exception as error:  # ours or the handler's own, not about one event: it must be seen, not lost
            self.failure = error
            self.owns, reason = False, f"{type(error).__name__}: {error}"
            self._checkpoints.set_status(claim.name, "failed", error=reason, position=0, epoch=claim.epoch)
            self.on_progress()
            return
        self._checkpoints.leave(claim)

    def _follow(self, claim: Claim) -> Claim:
        self._handler.begin(claim)
        at = claim.position
        self._reach(at)
        renewed = saved = self._monotonic()
        head = _end(claim, self._store.head().position)
        while not self._ended() and self._share.may_own(self.partition):
            now = self._monotonic()
            if now - renewed > self._lease_seconds / 3:
                claim, renewed = self._renew(claim), now
            at_end = head <= at
            if not at_end:
                claim, at = self._page(claim, at, head)
                self._reach(at)
            if at == claim.until:
                return self._retire(claim, at)
            # Also between pages that hold nothing for it, and when something is due at an end that moves on and on: of
            # both there may be no end.
            is_due = head <= at and self._until_due() <= 0
            busy = (at_end or at > claim.position or is_due) and self._handler.idle(claim)
            self.on_progress()  # who waits may wait for what that did
            if at == claim.position:
                saved = now
            elif now - saved >= EMPTY_CHECKPOINT_SECONDS:
                claim, saved = self._save(claim, at), now
            if at_end and not busy:
                longest = min(EMPTY_CHECKPOINT_SECONDS, self._lease_seconds / 4, self._until_due())
                head = _end(claim, self._tail.wait(at, longest))
            else:
                head = _end(claim, self._store.head().position)
        return self._save(claim, at)

    def _retire(self, claim: Claim, at: int) -> Claim:
        claim = self._save(claim, at)
        self._checkpoints.retire(claim)
        self._over = True
        return claim

    def _page(self, claim: Claim, at: int, head: int) -> tuple[Claim, int]:
        """The claim as checkpointed, and the position reached: further, when nothing matched and nothing was saved."""
        size = self._size
        page, full = _page(self._store.read(self.subscription.where, after=at, upto=head, limit=size), size)
        if not page:
            return claim, head
        upto = page[-1].position if full else head
        began = self._monotonic()
        try:
            taken = self._handler.handle(claim, page, upto)
        except Fenced:
            # Whoever took over meanwhile would lose the same page in the same way, and so on for ever.
            if self._monotonic() - began >= self._lease_seconds:
                self._size = max(1, size // 2)
            raise
        if self._monotonic() - began < self._lease_seconds / 4:
            self._size = min(2 * size, self.subscription.page)
        return claim._replace(position=taken.saved), taken.reached

    def _save(self, claim: Claim, at: int) -> Claim:
        if at > claim.position:
            self._handler.save(claim, at)
        return claim._replace(position=at)

    @contextmanager
    def _failing(self, claim: Claim) -> Iterator[None]:
        """A handler that cannot go on leaves the subscription marked as failed, unless it has another owner by now."""
        try:
            yield
        except SubscriptionFailed as failed:
            self.failure = failed
            status: Status = "stopped" if isinstance(failed, SubscriptionStopped) else "failed"
            self._checkpoints.set_status(
                claim.name, status, error=failed.reason, position=failed.position, epoch=claim.epoch
            )
            subscription_failed(claim.name, failed.position, status)
            self.on_progress()
            raise

    def _reach(self, at: int) -> None:
        self.reached = at
        self.on_progress()


def _end(claim: Claim, head: int) -> int:
    """How far there is to go now."""
    return head if claim.until is None else min(head, claim.until)


def _page(events: Iterator[StoredEvent], size: int) -> tuple[list[StoredEvent], bool]:
    """So many events, or `PAGE_BYTES` of them, and whether there may be more."""
    page: list[StoredEvent] = []
    weight = 0
    for event in events:
        page.append(event)
        weight += len(event.data or b"")
        if len(page) == size or weight >= PAGE_BYTES:
            return page, True
    return page, False
