"""What a command inbox does while it runs: fetch, execute, settle. Any number of workers share one.

A message is acknowledged after what came of it is stored; one that comes again finds its request id known. So a crash
anywhere costs a repeat that changes nothing.
"""

import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from everlog.core.errors import EverlogError, LogClosed, Rejected, UnreadableEvent, WrongExpectedVersion
from everlog.core.limits import PAGE_BYTES
from everlog.feed.inbox import CommandInbox, Order
from everlog.feed.stream import RECONNECT
from everlog.processing.pool import Threads
from everlog.relay.contract import Consumer, Delivered, Receiver

ACK_SECONDS = 30.0
PAGE = 100
WAIT_SECONDS = 0.5
AT_ONCE = 8


class Execute(Protocol):
    """Carries an order out, in a session of its tenant; raises what `execute` raises."""

    def __call__(self, inbox: CommandInbox[Any], order: Order) -> None: ...


class Taking:
    """Runs one inbox of the log with this id on a thread of its own until it is stopped."""

    def __init__(
        self,
        inbox: CommandInbox[Any],
        receiver: Receiver,
        execute: Execute,
        stopping: threading.Event,
        *,
        log: str,
        on_quiet: Callable[[], None] = lambda: None,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inbox, self._receiver, self._execute, self._stopping = inbox, receiver, execute, stopping
        self._on_quiet, self._random, self._monotonic = on_quiet, random or Random(), monotonic
        self._consumer = Consumer(inbox.name, (inbox.subject,), ACK_SECONDS, unsettled=10 * PAGE, log=log)
        self._pool = Threads(AT_ONCE, f"everlog-{inbox.name}")
        self._failures = 0
        self.quiet = False
        self.pending = 0
        self.trouble: Exception | None = None
        self._failed: dict[tuple[int, int], int] = {}  # by message: how often its command failed in this process

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._page()
                self._failures, self.trouble = 0, None
            except Exception as error:  # whatever it is: a thread that ends would leave the inbox to nobody
                self.trouble, self.quiet = error, False
                self._stopping.wait(RECONNECT.pause(self._failures, self._random))
                self._failures += 1
        self._pool.close()

    def _page(self) -> None:
        fetched = self._receiver.fetch(self._consumer, limit=PAGE, max_bytes=PAGE_BYTES, wait=WAIT_SECONDS)
        self.pending = fetched[-1].pending if fetched else 0
        self.quiet = False
        self._take(fetched)
        # What is to be tried later is not lying there, so only the broker knows of it.
        if not fetched:
            self.pending = self._receiver.pending(self._consumer)
            self.quiet = self.pending == 0
            self._on_quiet()

    def _take(self, fetched: Sequence[Delivered]) -> None:
        """Those for one aggregate one after another, several aggregates at a time."""
        rows: dict[object, list[tuple[Delivered, Order]]] = {}
        for one in fetched:
            order = self._understood(one)
            if order is not None:
                rows.setdefault((order.tenant, order.id), []).append((one, order))
        works = {self._pool.start(self._row, row) for row in rows.values()}
        pending, held = set(works), [one for row in rows.values() for one, _ in row]
        while pending:
            pending = self._pool.unfinished(pending, ACK_SECONDS / 3)
            if pending:
                self._receiver.extend(held)
        for work in works:
            work.result()

    def _understood(self, one: Delivered) -> Order | None:
        try:
            order = self.inbox.order(one.message)
        except Exception as error:  # the user's own `map` and `tenant` too: what they cannot read now they never will
            self._receiver.dead_letter(self._consumer, one, f"not understood: {_told(error)}")
            return None
        if order is None:
            self._receiver.ack([one])
        return order

    def _row(self, row: Sequence[tuple[Delivered, Order]]) -> None:
        for one, order in row:
            if self._stopping.is_set():
                return  # it is handed out again
            self._settle(one, self._outcome(order))

    def _outcome(self, order: Order) -> Exception | None:
        try:
            self._execute(self.inbox, order)
        except Exception as error:
            return error
        return None

    def _settle(self, one: Delivered, error: Exception | None) -> None:
        retry, message = self.inbox.retry, (one.created, one.sequence)
        if error is None:
            self._receiver.ack([one])
            self._failed.pop(message, None)
            return
        if _passes(error, retry.transient):
            self._receiver.retry(one, retry.backoff.pause(one.attempt - 1, self._random))
            return
        # Not the broker's count: that has the times in it when the database was away.
        failures = self._failed[message] = self._failed.get(message, 0) + 1
        if not _is_final(error) and failures < retry.attempts:
            self._receiver.retry(one, retry.backoff.pause(failures - 1, self._random))
            return
        why = "rejected" if isinstance(error, Rejected) else f"failed at attempt {failures}"
        self._receiver.dead_letter(self._consumer, one, f"{why}: {_told(error)}")
        del self._failed[message]


def _passes(error: Exception, transient: tuple[type[BaseException], ...]) -> bool:
    """Whether it is nothing about the message, and ends by itself.

    Of an event that this code cannot read newer code may know, which is being deployed at this moment.
    """
    if isinstance(error, (*transient, LogClosed, UnreadableEvent, WrongExpectedVersion)):
        return True
    return isinstance(error, EverlogError) and error.retryable


def _is_final(error: Exception) -> bool:
    """Whether trying again would give the same answer."""
    return isinstance(error, EverlogError)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:1000]
