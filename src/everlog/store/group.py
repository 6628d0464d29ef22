"""Group commit (design D3): callers queue, one of them leads a group in one transaction, each gets its own verdict.

A lone caller leads at once and pays for no thread. There is no background thread: who finds no leader leads one
group, then lets those it answered go, one after another, and the last of them promotes the first that waits. Woken all
at once they would fight for the interpreter, with each other and with the next leader, whose group would be small: so
they run and come back while nobody leads. If a leader dies, whoever waits appends again with the same ids, which the
store answers truly, because ids are looked up before anything is decided.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from everlog.core.envelope import Append
from everlog.core.errors import EverlogError, StoreUnavailable
from everlog.store.contract import Verdict
from everlog.store.prepare import PreparedAppend, prepare

GROUP_SECONDS = 0.010

WriteGroup = Callable[[Iterator[PreparedAppend]], list[Verdict]]
"""Runs one transaction over requests drawn until it has enough, and returns a verdict for each one drawn.

It raises only when the whole transaction came to nothing or its outcome is unknown: then every request drawn gets
that error.
"""


class _Caller:
    """One waiting call. `gate` is held while it sleeps; `gone` tells others that it left, and `leads` tells itself that
    it is its turn: to lead a group, or, when it has all its verdicts, to give the turn to the next."""

    __slots__ = ("gate", "gone", "leads", "verdicts", "waiting_for")

    def __init__(self, count: int) -> None:
        self.verdicts: list[Verdict | None] = [None] * count
        self.waiting_for = count
        self.leads = self.gone = False
        self.gate = threading.Lock()
        self.gate.acquire()


_Ticket = tuple[_Caller, int, PreparedAppend]


class GroupCommit:
    """The queue before one log's head. Thread-safe."""

    def __init__(self, write: WriteGroup) -> None:
        self._write = write
        self._closed = False
        self._forking = threading.Lock()
        self._start_empty()

    def _start_empty(self) -> None:
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._idle = threading.Condition(self._mutex)
        self._queue: deque[_Ticket] = deque()
        self._answered: deque[_Caller] = deque()
        self._led = False

    def append_each(self, requests: Sequence[PreparedAppend]) -> list[Verdict]:
        """A verdict for each request, in the order given; blocks until all are known."""
        if not requests:
            return []
        self._check_process()
        caller = _Caller(len(requests))
        try:
            if not self._enter(caller, requests):
                caller.gate.acquire()
            while caller.waiting_for:
                self._lead(caller)
            if caller.leads:
                with self._mutex:
                    self._promote(caller)
        except BaseException:
            with self._mutex:
                self._drop(caller)
            raise
        return [verdict for verdict in caller.verdicts if verdict is not None]

    def close(self, timeout: float) -> None:
        """Refuse new calls, and wait up to `timeout` seconds for those queued."""
        self._check_process()
        with self._mutex:
            self._closed = True
            self._idle.wait_for(lambda: not self._led, timeout)

    def _enter(self, caller: _Caller, requests: Sequence[PreparedAppend]) -> bool:
        """Queue the requests, and say whether the caller leads."""
        with self._mutex:
            if self._closed:
                raise StoreUnavailable("the store is closed: open it again")
            self._queue.extend((caller, index, request) for index, request in enumerate(requests))
            leads = not self._led
            if leads:
                self._led = caller.leads = True
            return leads

    def _check_process(self) -> None:
        """In a forked child, leave the queue and whoever led it to the parent."""
        if self._process != os.getpid():
            with self._forking:
                if self._process != os.getpid():
                    self._start_empty()

    def _lead(self, caller: _Caller) -> None:
        """Lead one group; returns when the caller leads again or knows all its verdicts."""
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
                    self._queue.extendleft(ticket for ticket in reversed(taken) if not ticket[0].gone)
                else:
                    self._settle(caller, taken, verdicts)
                    self._promote(caller)
                sleeps = caller.waiting_for > 0 and not caller.leads
        # Decided under the mutex, so that every release of the gate is met by one acquire.
        if sleeps:
            caller.gate.acquire()

    def _draw(self, taken: list[_Ticket]) -> Iterator[PreparedAppend]:
        """Requests in order, for as long as the group may take work; at least one."""
        until = time.monotonic() + GROUP_SECONDS
        while not taken or time.monotonic() < until:
            with self._mutex:
                if not self._queue:
                    return
                ticket = self._queue.popleft()
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
            if not caller.waiting_for and caller is not leader and not caller.gone:
                self._answered.append(caller)

    def _drop(self, caller: _Caller) -> None:
        """An interrupted caller waits no longer: nobody may store or lead in its name."""
        caller.gone = True
        self._queue = deque(ticket for ticket in self._queue if ticket[0] is not caller)
        self._answered = deque(one for one in self._answered if one is not caller)
        if caller.leads:
            self._promote(caller)

    def _promote(self, leader: _Caller) -> None:
        """Give the turn to the next that was answered, or else to the first that waits."""
        leader.leads = False
        if self._answered:
            following = self._answered.popleft()
        elif self._queue:
            following = self._queue[0][0]
        else:
            self._led = False
            self._idle.notify_all()
            return
        following.leads = True
        if following is not leader:
            following.gate.release()


def answer_each(
    requests: Sequence[Append], log_id: bytes, append: Callable[[Sequence[PreparedAppend]], list[Verdict]]
) -> list[Verdict]:
    """A verdict on each request, in the order given: what breaks a rule is refused here and never reaches `append`."""
    verdicts: list[Verdict | None] = []
    ready: list[PreparedAppend] = []
    for request in requests:
        try:
            ready.append(prepare(request, log_id))
            verdicts.append(None)
        except EverlogError as error:
            verdicts.append(error)
    stored = iter(append(ready))
    return [next(stored) if verdict is None else verdict for verdict in verdicts]
