"""Group commit (design D3): callers queue, one of them leads a group in one transaction, each gets its own verdict.

A lone caller leads at once and pays for no thread. There is no background thread: who finds no leader leads one
group, then promotes the first that waits. If a leader dies, whoever waits appends again with the same ids, which the
store answers truly, because ids are looked up before anything is decided.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from everlog.core.errors import EverlogError, StoreUnavailable
from everlog.store.contract import Verdict
from everlog.store.prepare import PreparedAppend

GROUP_SECONDS = 0.010

WriteGroup = Callable[[Iterator[PreparedAppend]], list[Verdict]]
"""Runs one transaction over requests drawn until it has enough, and returns a verdict for each one drawn.

It raises only when the whole transaction came to nothing or its outcome is unknown: then every request drawn gets
that error.
"""


class _Caller:
    """One waiting call. `gate` is held while it sleeps; `leads` tells it why it was woken."""

    __slots__ = ("gate", "leads", "verdicts", "waiting_for")

    def __init__(self, count: int) -> None:
        self.verdicts: list[Verdict | None] = [None] * count
        self.waiting_for = count
        self.leads = False
        self.gate = threading.Lock()
        self.gate.acquire()


_Ticket = tuple[_Caller, int, PreparedAppend]


class GroupCommit:
    """The queue before one log's head. Thread-safe."""

    def __init__(self, write: WriteGroup) -> None:
        self._write = write
        self._mutex = threading.Lock()
        self._queue: deque[_Ticket] = deque()
        self._led = False
        self._closed = False
        self._idle = threading.Condition(self._mutex)

    def append_each(self, requests: Sequence[PreparedAppend]) -> list[Verdict]:
        """A verdict for each request, in the order given; blocks until all are known."""
        if not requests:
            return []
        caller = _Caller(len(requests))
        with self._mutex:
            if self._closed:
                raise StoreUnavailable("the store is closed: open it again")
            self._queue.extend((caller, index, request) for index, request in enumerate(requests))
            if not self._led:
                self._led = caller.leads = True
        while True:
            if caller.leads:
                self._lead(caller)
            if not caller.waiting_for:
                return [verdict for verdict in caller.verdicts if verdict is not None]
            if not caller.leads:
                self._sleep(caller)

    def close(self, timeout: float) -> None:
        """Refuse new calls, and wait up to `timeout` seconds for those queued."""
        with self._mutex:
            self._closed = True
            self._idle.wait_for(lambda: not self._led, timeout)

    def _sleep(self, caller: _Caller) -> None:
        try:
            caller.gate.acquire()
        except BaseException:  # an interrupt: nobody may wait for this caller to lead
            with self._mutex:
                self._drop(caller)
                if caller.leads:
                    self._promote(caller)
            raise

    def _lead(self, caller: _Caller) -> None:
        taken: list[_Ticket] = []
        verdicts: list[Verdict] | None = None
        try:
            verdicts = self._write(self._draw(taken))
        except EverlogError as error:
            if not taken:  # it failed before drawing any: all that wait are told, or they would try for ever
                taken.extend(self._everything())
            verdicts = [type(error)(*error.args) for _ in taken]
        finally:
            # An interrupt (KeyboardInterrupt, MemoryError) leaves `verdicts` unset: the group goes back to the front,
            # and the next leader appends it again under the same ids.
            with self._mutex:
                if verdicts is None:
                    self._queue.extendleft(t for t in reversed(taken) if t[0] is not caller)
                    self._drop(caller)
                else:
                    self._settle(caller, taken, verdicts)
                self._promote(caller)

    def _draw(self, taken: list[_Ticket]) -> Iterator[PreparedAppend]:
        """Requests in order, for as long as the group may take work; at least one."""
        until = time.monotonic() + GROUP_SECONDS
        while not taken or time.monotonic() < until:
            try:
                ticket = self._queue.popleft()
            except IndexError:
                return
            taken.append(ticket)
            yield ticket[2]

    def _everything(self) -> list[_Ticket]:
        with self._mutex:
            queued = list(self._queue)
            self._queue.clear()
        return queued

    def _settle(self, leader: _Caller, taken: list[_Ticket], verdicts: Sequence[Verdict]) -> None:
        for (caller, index, _), verdict in zip(taken, verdicts, strict=True):
            caller.verdicts[index] = verdict
            caller.waiting_for -= 1
            if not caller.waiting_for and caller is not leader:
                caller.gate.release()

    def _drop(self, caller: _Caller) -> None:
        """The interrupted caller no longer waits, so nobody may lead in its name."""
        self._queue = deque(t for t in self._queue if t[0] is not caller)

    def _promote(self, leader: _Caller) -> None:
        leader.leads = False
        if not self._queue:
            self._led = False
            self._idle.notify_all()
            return
        following = self._queue[0][0]
        following.leads = True
        if following is not leader:
            following.gate.release()
