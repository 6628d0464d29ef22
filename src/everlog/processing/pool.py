"""Where the handlers of a processor run side by side."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, Protocol

from everlog.core.errors import StoreUnavailable

P = ParamSpec("P")

Work = Future[None]


class Pool(Protocol):
    """Threads in production; a simulation owns time, and so the waiting too."""

    def start(self, call: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> Work: ...

    def unfinished(self, works: Iterable[Work], seconds: float) -> set[Work]:
        """Those that are not done when all are, or when `seconds` are over."""
        ...

    def close(self) -> None:
        """Take no more; what runs may go on."""
        ...


class Threads:
    """So many threads, made when they are needed. Used by one thread.

    They end with the process, which those of an executor hold up: a handler that hangs must not outlive a stop.
    """

    def __init__(self, number: int, name: str) -> None:
        self._number, self._name = number, name
        self._waiting: SimpleQueue[tuple[Work, Callable[[], None]] | None] = SimpleQueue()
        self._threads = 0
        self._closed = False

    def start(self, call: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> Work:
        if self._closed:
            raise StoreUnavailable("the worker is stopped: it takes up nothing new")
        work: Work = Future()
        self._waiting.put((work, partial(call, *arguments, **named)))
        if self._threads < self._number:
            threading.Thread(target=self._serve, name=f"{self._name}_{self._threads}", daemon=True).start()
            self._threads += 1
        return work

    def unfinished(self, works: Iterable[Work], seconds: float) -> set[Work]:
        return wait(works, timeout=seconds).not_done

    def close(self) -> None:
        self._closed = True
        for _ in range(self._threads):
            self._waiting.put(None)

    def _serve(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            work, call = waiting
            try:
                call()
            except BaseException as error:  # for who asks for the result
                work.set_exception(error)
            else:
                work.set_result(None)
