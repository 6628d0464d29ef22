"""The asyncio skin: appends of many tasks and loops, what cancelling means, and a close that drains."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.envelope import Appended, StoredEvent
from everlog.core.errors import InvalidInput, StoreUnavailable, WrongExpectedVersion
from everlog.core.expect import Exactly, NoStream
from everlog.store.aio import AsyncStore
from everlog.store.query import Filter
from everlog.testing.conformance import append, everything, new_event, request

T = TypeVar("T")


class Stop:
    """One commit before which the appender stops, until it is let go."""

    def __init__(self) -> None:
        self._reached, self._go = Event(), Event()

    def reach(self) -> None:
        self._reached.set()
        assert self._go.wait(10)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 10)

    def let_go(self) -> None:
        self._go.set()


class Brake:
    """Stops the appender before each of its next commits, one for each stop asked for."""

    def __init__(self) -> None:
        self._stops: list[Stop] = []

    def stop(self) -> Stop:
        self._stops.append(Stop())
        return self._stops[-1]

    def __call__(self, point: str) -> None:
        if self._stops and point == "append.before_commit":
            self._stops.pop(0).reach()


@pytest.fixture
def brake() -> Brake:
    return Brake()


@pytest.fixture
def store(tmp_path: Path, brake: Brake) -> Iterator[SqliteStore]:
    store = SqliteStore(SqliteSettings(tmp_path / "log.db"), crash=brake)
    yield store
    store.close()


@pytest.fixture
def skin(store: SqliteStore) -> Iterator[AsyncStore]:
    skin = AsyncStore(store)
    yield skin
    _run(skin.close())


def _run(main: Coroutine[Any, Any, T]) -> T:
    """On a loop of its own, and no longer than a test may take."""
    return asyncio.run(asyncio.wait_for(main, 20))


async def _queued(skin: AsyncStore, many: int) -> None:
    while len(skin._queue) < many:
        await asyncio.sleep(0)


def test_two_hundred_tasks_all_get_their_answers_from_one_thread(skin: AsyncStore, store: SqliteStore) -> None:
    async def main() -> list[Appended]:
        return await asyncio.gather(*(skin.append(request(new_event(f"s-{n % 10}"))) for n in range(200)))

    answers = _run(main())
    assert [answer.position for answer in answers] == list(range(1, 201))
    assert [event.version for event in everything(store)] == [n // 10 + 1 for n in range(200)]
    assert [thread.name for thread in threading.enumerate()].count("everlog-append") == 1


def test_each_task_gets_its_own_error(skin: AsyncStore, store: SqliteStore) -> None:
    asked = [
        request(new_event(), expect={"order-1": NoStream()}),
        request(new_event(), expect={"order-1": Exactly(7)}),
        request(new_event("no name")),
        request(new_event()),
    ]

    async def main() -> list[Appended | BaseException]:
        return await asyncio.gather(*map(skin.append, asked), return_exceptions=True)

    first, conflict, invalid, last = _run(main())
    assert isinstance(conflict, WrongExpectedVersion)
    assert isinstance(invalid, InvalidInput)
    assert isinstance(first, Appended)
    assert isinstance(last, Appended)
    assert store.head().position == 2


def test_cancelling_an_append_that_is_queued_withdraws_it(skin: AsyncStore, store: SqliteStore, brake: Brake) -> None:
    asked = request(new_event("queued"))

    async def main() -> Appended:
        stop = brake.stop()
        first = asyncio.create_task(skin.append(request(new_event("taken"))))
        await stop.reached()
        second = asyncio.create_task(skin.append(asked))
        await _queued(skin, 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        stop.let_go()
        return await first

    assert _run(main()).position == 1
    assert [event.stream for event in everything(store)] == ["taken"]
    assert not store.append(asked).replayed


def test_an_append_cancelled_once_it_is_taken_may_be_stored_and_its_retry_is_answered(
    skin: AsyncStore, store: SqliteStore, brake: Brake
) -> None:
    asked = request(new_event())

    async def main() -> Appended:
        stop = brake.stop()
        first = asyncio.create_task(skin.append(asked))
        await stop.reached()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        stop.let_go()
        return await skin.append(asked)

    answer = _run(main())
    assert (answer.position, answer.replayed) == (1, True)
    assert len(everything(store)) == 1


def test_one_that_was_cancelled_takes_no_answer_from_those_taken_with_it(
    skin: AsyncStore, store: SqliteStore, brake: Brake
) -> None:
    async def main() -> Appended:
        first, second = brake.stop(), brake.stop()
        tasks = [asyncio.create_task(skin.append(request(new_event("first"))))]
        await first.reached()
        tasks += [asyncio.create_task(skin.append(request(new_event(name)))) for name in ("cancelled", "beside")]
        await _queued(skin, 2)
        first.let_go()
        await second.reached()
        tasks[1].cancel()
        second.let_go()
        return await tasks[2]

    assert _run(main()).position == 3
    assert [event.stream for event in everything(store)] == ["first", "cancelled", "beside"]


def test_two_event_loops_share_one_store(skin: AsyncStore, store: SqliteStore) -> None:
    start = threading.Barrier(2)

    def run(stream: str) -> list[int]:
        async def main() -> list[Appended]:
            return await asyncio.gather(*(skin.append(request(new_event(stream))) for _ in range(50)))

        start.wait()
        return [answer.version for answer in _run(main())]

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, ("a", "b"))) == [list(range(1, 51))] * 2
    assert store.head().position == 100


def test_a_loop_that_ended_before_its_answer_came_disturbs_no_other(
    skin: AsyncStore, store: SqliteStore, brake: Brake
) -> None:
    stop = brake.stop()

    async def leave() -> None:
        asyncio.create_task(skin.append(request(new_event("left"))))  # noqa: RUF006  (the loop cancels it)
        await stop.reached()

    _run(leave())
    stop.let_go()
    assert _run(skin.append(request(new_event("next")))).position == 2
    assert [event.stream for event in everything(store)] == ["left", "next"]


def test_an_error_nobody_foresaw_is_told_to_who_waits_and_the_next_is_served(tmp_path: Path) -> None:
    faults = [ZeroDivisionError("a clock that fails")]

    def clock() -> int:
        if faults:
            raise faults.pop()
        return 1

    async def main() -> tuple[Appended, int]:
        skin = AsyncStore(SqliteStore(SqliteSettings(tmp_path / "log.db"), clock=clock))
        try:
            with pytest.raises(ZeroDivisionError, match="a clock that fails"):
                await skin.append(request(new_event()))
            return await skin.append(request(new_event())), (await skin.head()).position
        finally:
            await skin.close()

    answer, position = _run(main())
    assert (answer.position, position) == (1, 1)


def test_closing_stores_what_is_queued_and_refuses_the_rest(skin: AsyncStore, tmp_path: Path, brake: Brake) -> None:
    async def main() -> tuple[list[Appended], list[type[BaseException]]]:
        stop = brake.stop()
        tasks = [asyncio.create_task(skin.append(request(new_event()))) for _ in range(20)]
        await stop.reached()
        late = [asyncio.create_task(skin.append(request(new_event()))) for _ in range(20)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(skin.close())
        await asyncio.sleep(0)
        stop.let_go()
        await closing
        refused: list[type[BaseException]] = []
        for call in (skin.append(request(new_event())), skin.head(), _all(skin), skin.close()):
            try:
                await call
            except StoreUnavailable as error:
                refused.append(type(error))
        return await asyncio.gather(*tasks, *late), refused

    answers, refused = _run(main())
    assert [answer.position for answer in answers] == list(range(1, 41))
    assert refused == [StoreUnavailable] * 3, "closing twice is fine"
    with _opened(tmp_path / "log.db") as again:
        assert again.head().position == 40


def test_closing_waits_no_longer_than_it_was_told(skin: AsyncStore, brake: Brake) -> None:
    async def main() -> Appended:
        stop = brake.stop()
        task = asyncio.create_task(skin.append(request(new_event())))
        await stop.reached()
        closing = asyncio.create_task(skin.close(0.0))
        while not skin._closing:
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await skin.append(request(new_event()))
        stop.let_go()
        await closing
        return await task

    assert _run(main()).position == 1


def test_a_read_begins_and_turns_its_pages_on_other_threads(skin: AsyncStore, store: SqliteStore) -> None:
    for _ in range(3):
        append(store, *(new_event() for _ in range(400)))
    seen: list[str] = []

    def read() -> Iterator[int]:
        seen.append(threading.current_thread().name)
        return map(position_of, store.read(Filter("acme")))

    def position_of(event: StoredEvent) -> int:
        seen.append(threading.current_thread().name)
        return event.position

    async def main() -> list[int]:
        return [position async for position in skin.each(read)]

    assert _run(main()) == list(range(1, 1201))
    assert len(seen) == 1201
    assert all(name.startswith("everlog-read") for name in seen)


def test_any_blocking_call_runs_on_a_thread_of_the_pool(skin: AsyncStore) -> None:
    async def main() -> tuple[str, int]:
        name = await skin.run(lambda: threading.current_thread().name)
        return name, await skin.run(skin.blocking.version_at, "acme", "order-1", position=5)

    name, version = _run(main())
    assert name.startswith("everlog-read")
    assert version == 0


async def _all(skin: AsyncStore) -> list[object]:
    return [event async for event in skin.each(lambda: skin.blocking.read(Filter(None)))]


@contextmanager
def _opened(file: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(SqliteSettings(file))
    try:
        yield store
    finally:
        store.close()
