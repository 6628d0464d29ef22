"""`eventsourcing` on SQLite as its documentation uses it: aggregates, `Application.save`, the repository, the recorder.

Its defaults are durable (WAL, synchronous FULL) and kept; nothing is snapshotted or cached.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.one import Job
from benchmarks.timing import Slice, alone, threads
from benchmarks.workload import EVENTS_A_STREAM, LOADED_EVENTS, PAGE, WRITERS, Line, lines, new_id


class Order(Aggregate):
    @event("Opened")
    def __init__(
        self,
        order_id: str,
        customer_id: str,
        sku: str,
        quantity: int,
        unit_price: str,
        currency: str,
        city: str,
        occurred_at: str,
        note: str,
    ) -> None:
        self.quantity = quantity
        self.lines = 1

    @event("LineAdded")
    def add_line(
        self,
        order_id: str,
        customer_id: str,
        sku: str,
        quantity: int,
        unit_price: str,
        currency: str,
        city: str,
        occurred_at: str,
        note: str,
    ) -> None:
        self.quantity += quantity
        self.lines += 1


class Orders(Application[UUID]):
    """One kind of aggregate."""


@contextmanager
def append_threads(job: Job) -> Iterator[Slice]:
    with closing(_open(job.folder)) as app, threads(WRITERS, _appending(app)) as work:
        yield work


@contextmanager
def append_alone(job: Job) -> Iterator[Slice]:
    with closing(_open(job.folder)) as app:
        yield alone(_appending(app))


@contextmanager
def load(job: Job) -> Iterator[Slice]:
    with closing(_open(job.folder)) as app:
        order = _new_order(lines(), LOADED_EVENTS)
        app.save(order)
        yield alone(lambda: int(app.repository.get(order.id).lines == LOADED_EVENTS))


@contextmanager
def whole_log(job: Job) -> Iterator[Slice]:
    folder = job.prepared("eventsourcing", lambda folder: _fill(folder, job.sizes.log))
    with closing(_open(folder)) as app:
        yield alone(_reading(app))


def _appending(app: Orders) -> Callable[[], int]:
    source = lines()
    return lambda: len(app.save(Order(order_id=new_id(), **next(source))))


def _reading(app: Orders) -> Callable[[], int]:
    """Reads a page of the log; behind the last one comes the first."""
    last, to_event = 0, app.mapper.to_domain_event

    def read() -> int:
        nonlocal last
        page = app.recorder.select_notifications(last, PAGE, inclusive_of_start=False)
        for notification in page:
            assert to_event(notification)
        last = page[-1].id if len(page) == PAGE else 0
        return len(page)

    return read


def _open(folder: Path) -> Orders:
    return Orders(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(folder / "eventsourcing.db"),
            "SQLITE_LOCK_TIMEOUT": "30",
            "SQLITE_POOL_SIZE": "10",
            "SQLITE_POOL_TIMEOUT": "60",
        }
    )


def _new_order(source: Iterator[Line], count: int) -> Order:
    order_id = new_id()
    order: Order = Order(order_id=order_id, **next(source))
    for _ in range(count - 1):
        order.add_line(order_id=order_id, **next(source))
    return order


def _fill(folder: Path, events: int) -> None:
    source = lines()
    with closing(_open(folder)) as app:
        for _ in range(events // EVENTS_A_STREAM):
            app.save(_new_order(source, EVENTS_A_STREAM))
