"""`eventsource-py` on SQLite as its documentation uses it: pydantic events, aggregates, the repository; asyncio.

Its defaults are durable (WAL, synchronous FULL) and kept; nothing is snapshotted or published.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from eventsource import AggregateRepository, AggregateRoot, DomainEvent
from eventsource.adapters.sqlite.store import SQLiteEventStore
from eventsource.domain.event_registry import default_registry
from eventsource.ports import FeedReadOptions
from pydantic import BaseModel

from benchmarks.one import Job
from benchmarks.timing import Slice, tasks
from benchmarks.workload import EVENTS_A_STREAM, LOADED_EVENTS, PAGE, WRITERS, Line, lines, new_id


class LineAdded(DomainEvent):
    """`occurred_at` is a field of every event of this library."""

    event_type: str = "LineAdded"
    aggregate_type: str = "Order"
    order_id: str
    customer_id: str
    sku: str
    quantity: int
    unit_price: str
    currency: str
    city: str
    note: str


class OrderState(BaseModel):
    order_id: UUID
    quantity: int = 0
    lines: int = 0


class Order(AggregateRoot[OrderState]):
    aggregate_type = "Order"
    _state: OrderState | None

    def add_line(self, order_id: str, line: Line) -> None:
        event = LineAdded(
            aggregate_id=self.aggregate_id,
            aggregate_version=self.get_next_version(),
            order_id=order_id,
            **{name: value for name, value in line.items() if name != "occurred_at"},
        )
        self.apply_event(event)

    def _get_initial_state(self) -> OrderState:
        return OrderState(order_id=self.aggregate_id)

    def _apply(self, event: LineAdded) -> None:
        state = self._state or self._get_initial_state()
        changed = {"quantity": state.quantity + event.quantity, "lines": state.lines + 1}
        self._state = state.model_copy(update=changed)


default_registry.register(LineAdded)


@contextmanager
def append_tasks(job: Job) -> Iterator[Slice]:
    source = lines()
    with asyncio.Runner() as runner, _open(runner, job.folder) as (_, repository):

        async def append() -> int:
            order = Order(uuid4())
            order.add_line(new_id(), next(source))
            await repository.save(order)
            return 1

        yield tasks(runner, WRITERS, append)


@contextmanager
def load(job: Job) -> Iterator[Slice]:
    with asyncio.Runner() as runner, _open(runner, job.folder) as (_, repository):
        order = _new_order(LOADED_EVENTS)
        runner.run(repository.save(order))

        async def load_order() -> int:
            return int((await repository.load(order.aggregate_id)).state.lines == LOADED_EVENTS)

        yield tasks(runner, 1, load_order)


@contextmanager
def whole_log(job: Job) -> Iterator[Slice]:
    folder = job.prepared("eventsource-py", lambda folder: _fill(folder, job.sizes.log))
    with asyncio.Runner() as runner, _open(runner, folder) as (store, _):
        yield tasks(runner, 1, _reading(store))


def _reading(store: SQLiteEventStore) -> Callable[[], Awaitable[int]]:
    """Reads a page of the log; behind the last one comes the first."""
    last = None

    async def read() -> int:
        nonlocal last
        count = 0
        async for envelope in store.read_all(last, FeedReadOptions(limit=PAGE)):
            last, count = envelope.position, count + 1
        if count < PAGE:
            last = None
        return count

    return read


@contextmanager
def _open(runner: asyncio.Runner, folder: Path) -> Iterator[tuple[SQLiteEventStore, AggregateRepository]]:
    store = SQLiteEventStore(str(folder / "eventsource.db"), busy_timeout=30_000)
    yield store, AggregateRepository(store, Order, aggregate_type="Order", enable_tracing=False)
    runner.run(store.close())


def _new_order(count: int) -> Order:
    source, order, order_id = lines(), Order(uuid4()), new_id()
    for _ in range(count):
        order.add_line(order_id, next(source))
    return order


def _fill(folder: Path, events: int) -> None:
    with asyncio.Runner() as runner, _open(runner, folder) as (_, repository):
        for _ in range(events // EVENTS_A_STREAM):
            runner.run(repository.save(_new_order(EVENTS_A_STREAM)))
