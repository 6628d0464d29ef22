"""`eventsource-py` on SQLite as its documentation uses it: pydantic events, aggregates, the repository; asyncio.

Its defaults are durable (WAL, synchronous FULL) and kept; nothing is snapshotted or published.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from eventsource import AggregateRepository, AggregateRoot, DomainEvent
from eventsource.adapters.sqlite.store import SQLiteEventStore
from eventsource.domain.event_registry import default_registry
from eventsource.ports import FeedReadOptions, FullEventStore
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
    with asyncio.Runner() as runner, _open(runner, job.folder) as store:
        yield appending(runner, store)


@contextmanager
def load(job: Job) -> Iterator[Slice]:
    with asyncio.Runner() as runner, _open(runner, job.folder) as store:
        yield loading(runner, store)


@contextmanager
def whole_log(job: Job) -> Iterator[Slice]:
    folder = job.prepared("eventsource-py", lambda folder: _fill(folder, job.sizes.log))
    with asyncio.Runner() as runner, _open(runner, folder) as store:
        yield reading(runner, store)


def appending(runner: asyncio.Runner, store: FullEventStore) -> Slice:
    source, repository = lines(), _repository(store)

    async def append() -> int:
        order = Order(uuid4())
        order.add_line(new_id(), next(source))
        await repository.save(order)
        return 1

    return tasks(runner, WRITERS, append)


def loading(runner: asyncio.Runner, store: FullEventStore) -> Slice:
    order, repository = _new_order(LOADED_EVENTS), _repository(store)
    runner.run(repository.save(order))

    async def load_order() -> int:
        return int((await repository.load(order.aggregate_id)).state.lines == LOADED_EVENTS)

    return tasks(runner, 1, load_order)


def reading(runner: asyncio.Runner, store: FullEventStore) -> Slice:
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

    return tasks(runner, 1, read)


def fill(runner: asyncio.Runner, store: FullEventStore, events: int) -> None:
    repository = _repository(store)
    for _ in range(events // EVENTS_A_STREAM):
        runner.run(repository.save(_new_order(EVENTS_A_STREAM)))


@contextmanager
def _open(runner: asyncio.Runner, folder: Path) -> Iterator[FullEventStore]:
    store = SQLiteEventStore(str(folder / "eventsource.db"), busy_timeout=30_000)
    yield store
    runner.run(store.close())


def _fill(folder: Path, events: int) -> None:
    with asyncio.Runner() as runner, _open(runner, folder) as store:
        fill(runner, store, events)


def _repository(store: FullEventStore) -> AggregateRepository:
    return AggregateRepository(store, Order, aggregate_type="Order", enable_tracing=False)


def _new_order(count: int) -> Order:
    source, order, order_id = lines(), Order(uuid4()), new_id()
    for _ in range(count):
        order.add_line(order_id, next(source))
    return order
