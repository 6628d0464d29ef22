"""Both sides of the API behind the blocking one's words, so that a test is written once and runs on each."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from everlog import AsyncSession, Platform, Session
from everlog.app.log import Log
from everlog.store.contract import Store
from everlog.telemetry import Counters

Side = Literal["blocking", "async"]
SIDES: tuple[Side, ...] = ("blocking", "async")

FAST = "?synchronous=OFF&allow_unsafe=synchronous"
"""No test here cuts the power, so none waits for the disk."""


@dataclass(frozen=True)
class Opened:
    """An open log of either side."""

    tenant: Callable[..., Session]
    store: Store
    counters: Counters


class _Awaited:
    """An `AsyncSession` each of whose calls is awaited on a loop in another thread, from any thread."""

    def __init__(self, session: AsyncSession, loop: asyncio.AbstractEventLoop) -> None:
        self._session, self._loop = session, loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if isinstance(answer, AsyncSession):
                return _Awaited(answer, self._loop)
            if isinstance(answer, AsyncIterator):
                return iter(_on(self._loop, _listed(answer)))
            return _on(self._loop, answer) if inspect.isawaitable(answer) else answer

        return call


@contextmanager
def opened(side: Side, platform: Platform, url: str = f"memory:{FAST}", **options: Any) -> Iterator[Opened]:
    if side == "blocking":
        with platform.open(url, **options) as log:
            yield Opened(log.tenant, log.store, log.counters)
        return
    with _running_loop() as loop:
        log = _on(loop, _made(lambda: platform.open_async(url, **options)))
        try:
            yield Opened(
                lambda *args, **kwargs: cast(Session, _Awaited(log.tenant(*args, **kwargs), loop)),
                log.store.blocking,
                log.counters,
            )
        finally:
            _on(loop, log.close())


@contextmanager
def beside(platform: Platform, path: Path) -> Iterator[Log]:
    """Another blocking log on the same file: a rival process, as far as the store can tell."""
    with platform.open(f"sqlite:///{path}{FAST}") as log:
        yield log


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run calls in threads that start together; their answers, or what they raised, in order."""
    answers: list[object] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(number: int, call: Callable[[], object]) -> None:
        gate.wait()
        try:
            answers[number] = call()
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def _on(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(_awaited(awaitable), loop).result(60)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _made(make: Callable[[], Any]) -> Any:
    return make()


async def _listed(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]
