"""The asyncio skin over a blocking store (design D1): one appender thread for all tasks, a small pool for reads."""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from everlog.core.envelope import Append, Appended, Head
from everlog.core.errors import StoreUnavailable
from everlog.store.contract import Store

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 500
_Answer = Appended | Exception
_Waiting = tuple[asyncio.Future[Appended], Append]


class AsyncStore:
    """The same calls, awaited. Cancelling an append withdraws it while it is queued; one already taken may be stored,
    so retry with the same ids."""

    def __init__(self, store: Store, *, readers: int = 4) -> None:
        self.blocking = store
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="everlog-read")
        self._queue: deque[_Waiting] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._waking: asyncio.AbstractEventLoop | None = None  # the loop that was last told to wake the appender
        self._closing = False
        self._door = threading.Lock()  # nothing may be queued behind the appender's last look
        self._appender = threading.Thread(target=self._append_groups, name="everlog-append", daemon=True)
        self._appender.start()

    async def append(self, request: Append) -> Appended:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Appended] = loop.create_future()
        with self._door:
            self._check_open()
            self._queue.append((waiting, request))
            first, self._waking = self._waking is not loop, loop
        if first:  # once all tasks that are ready have queued theirs, so that one group takes them
            loop.call_soon(self._release, loop)
        return await waiting

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._door:
            if self._waking is loop:
                self._waking = None
        self._wake.put(None)

    async def head(self) -> Head:
        return await self.run(self.blocking.head)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Any blocking call of the store, on a thread of the read pool."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))

    async def each(self, read: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
        """The items of a blocking read, begun and fetched a page at a time on a thread."""
        items = await self.run(read)
        while page := await self.run(lambda: list(islice(items, _PAGE))):
            for item in page:
                yield item

    async def close(self, timeout: float = 10.0) -> None:
        """Store what is queued, stop the threads, close the store."""
        with self._door:
            self._closing = True
        self._wake.put(None)
        await asyncio.to_thread(self._appender.join, timeout)
        await asyncio.to_thread(self.blocking.close, timeout)
        self._threads.shutdown(wait=False)

    def _check_open(self) -> None:
        if self._closing:
            raise StoreUnavailable("the store is closed: open it again")

    def _append_groups(self) -> None:
        while True:
            self._wake.get()
            taken = self._take()
            if taken:
                _answer(taken, self._verdicts([request for _, request in taken]))
            elif self._closing:
                return

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        while self._queue:
            waiting, request = self._queue.popleft()
            if not waiting.cancelled():
                taken.append((waiting, request))
        return taken

    def _verdicts(self, requests: Sequence[Append]) -> Sequence[_Answer]:
        try:
            return self.blocking.append_each(requests)
        except Exception as error:  # whatever it is belongs to those who wait; this thread serves the next ones
            return [error] * len(requests)


def _answer(taken: Sequence[_Waiting], verdicts: Sequence[_Answer]) -> None:
    """One hop into each event loop, not one for each append."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Appended], _Answer]]] = defaultdict(list)
    for (waiting, _), verdict in zip(taken, verdicts, strict=True):
        by_loop[waiting.get_loop()].append((waiting, verdict))
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # a loop that was closed has nobody waiting in it
            loop.call_soon_threadsafe(_resolve, answers)


def _resolve(answers: Sequence[tuple[asyncio.Future[Appended], _Answer]]) -> None:
    for waiting, verdict in answers:
        if waiting.done():
            continue
        if isinstance(verdict, Exception):
            waiting.set_exception(verdict)
        else:
            waiting.set_result(verdict)
