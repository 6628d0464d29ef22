"""Waiting at the end of the log: hints make it quick, the adaptive poll makes it true."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from everlog.store.contract import Store

SHORTEST_POLL, LONGEST_POLL = 0.005, 0.25


class Waits(Protocol):
    def wait(self, after: int, seconds: float) -> int:
        """The position of the last event there is: once it is beyond `after`, or `seconds` are over, or on a hint."""
        ...


class Tail:
    """The end of one log, for all followers of a process. `hint` may be lost: that costs a poll, never an event."""

    def __init__(
        self,
        store: Store,
        *,
        shortest: float = SHORTEST_POLL,
        longest: float = LONGEST_POLL,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._monotonic = store, monotonic
        self._shortest, self._longest = shortest, longest
        self._changed = threading.Condition()
        self._hints = 0
        self._seen, self._moved_at = -1, 0.0

    def hint(self) -> None:
        """Something may have happened: an append, a progress, a stop."""
        with self._changed:
            self._hints += 1
            self._changed.notify_all()

    def wait(self, after: int, seconds: float) -> int:
        """The head's position once it is beyond `after`; or as it is when `seconds` are over, or on any other hint."""
        until = self._monotonic() + seconds
        with self._changed:
            hints = self._hints
        while True:
            head, now = self._store.head().position, self._monotonic()
            if max(head, after) > self._seen:
                self._seen, self._moved_at = max(head, after), now
            if head > after or now >= until:
                return head
            with self._changed:
                if self._hints == hints:
                    self._changed.wait(min(self._poll(now), until - now))
                if self._hints != hints:
                    return self._store.head().position

    def _poll(self, now: float) -> float:
        """As long again as the log has been quiet, whoever has been waiting for it."""
        return min(max(self._shortest, now - self._moved_at), self._longest)
