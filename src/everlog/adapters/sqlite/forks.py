"""Keeps a fork apart from what SQLite has open.

SQLite remembers in memory which locks its process holds on a file. A forked child inherits that memory, but not the
locks: it would write as if they were its own, and lose events, even through connections it opens itself. So every
connection of a log is closed when a fork happens, and opened again on both sides when it is next needed.
"""

import os
import threading
from collections.abc import Callable
from weakref import WeakSet

FORK_SECONDS = 5.0


class ForkGate:
    """Entered by each call that uses a connection. A fork lets no other in, waits for those inside, and closes all.

    `spoiled` in a child that was forked while a call would not end: there the log cannot be used any more.
    """

    def __init__(self, close_all: Callable[[], None]) -> None:
        self._close_all = close_all
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._inside: dict[int, int] = {}  # how often by thread, because calls nest
        self._forking = self._closed = False
        self.spoiled = False
        with _one_fork:
            _gates.add(self)

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._mutex:
            if self._forking and me not in self._inside:
                self._changed.wait_for(lambda: not self._forking)
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *error: object) -> None:
        me = threading.get_ident()
        with self._mutex:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                if self._forking:
                    self._changed.notify_all()

    def before_fork(self) -> None:
        self._mutex.acquire()  # until after the fork
        self._forking = True
        patience = 0.0 if threading.get_ident() in self._inside else FORK_SECONDS
        self._closed = self._changed.wait_for(lambda: not self._inside, patience)
        if self._closed:
            self._close_all()

    def after_fork_in_parent(self) -> None:
        self._forking = False
        self._changed.notify_all()
        self._mutex.release()

    def after_fork_in_child(self) -> None:
        if not self._closed:
            self.spoiled = True
            _kept.append(self)
        self.after_fork_in_parent()


_one_fork = threading.Lock()  # held while a fork happens
_gates: WeakSet[ForkGate] = WeakSet()
_forking: list[ForkGate] = []
# Closing an inherited connection would drop its parent's log, so a spoiled child keeps it until it ends.
_kept: list[ForkGate] = []


def _before_fork() -> None:
    _one_fork.acquire()
    _forking.extend(_gates)
    for gate in _forking:
        gate.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()
    _one_fork.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _one_fork.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
