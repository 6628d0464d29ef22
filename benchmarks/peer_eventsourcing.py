"""`eventsourcing` as its documentation uses it: aggregates, `Application.save`, the repository, the recorder.

Its defaults are durable (on SQLite WAL, synchronous FULL) and kept; nothing is cached, nor snapshotted but where the
case says so. On PostgreSQL it runs in its default mode: with its database functions it loses events to subscribers.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.projection import ApplicationSubscription
from psycopg.conninfo import conninfo_to_dict

from benchmarks import postgres
from benchmarks.inputs import database_of, url
from benchmarks.one import Job, StoreName
from benchmarks.timing import Slice, alone, followed, threads
from benchmarks.workload import EVENTS_A_STREAM, PAGE, Line, lines, new_id

_SAVED_TOGETHER = 1000  # saving 10,000 on PostgreSQL never comes back


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

    is_snapshotting_enabled = True  # when told to, never by itself


@contextmanager
def append_threads(job: Job) -> Iterator[Slice]:
    with closing(_open(job.folder, job.store)) as app, threads(job.sizes.writers, _appending(app)) as work:
        yield work


@contextmanager
def append_alone(job: Job) -> Iterator[Slice]:
    with closing(_open(job.folder, job.store)) as app:
        yield alone(_appending(app))


@contextmanager
def load(job: Job, *, snapshot: bool = False) -> Iterator[Slice]:
    with closing(_open(job.folder, job.store)) as app:
        source = lines()
        order = _new_order(source, 1)
        for _ in range(job.sizes.loaded - 1):
            order.add_line(order_id=str(order.id), **next(source))
            if len(order.pending_events) == _SAVED_TOGETHER:
                app.save(order)
        app.save(order)
        if snapshot:
            app.take_snapshot(order.id)
        yield alone(lambda: int(app.repository.get(order.id).lines == job.sizes.loaded))


def load_snapshot(job: Job) -> AbstractContextManager[Slice]:
    return load(job, snapshot=True)


@contextmanager
def whole_log(job: Job) -> Iterator[Slice]:
    folder = job.prepared(f"eventsourcing-{job.store}", lambda folder: _fill(folder, job.store, job.sizes.log))
    with closing(_open(folder, job.store)) as app:
        yield alone(_reading(app))


@contextmanager
def live(job: Job) -> Iterator[Slice]:
    """Its subscription follows in a thread of the process that appends, as in the runner of its projections."""
    with closing(_open(job.folder, job.store)) as app, followed(_appending(app)) as (work, saw):

        def follow() -> None:
            for _ in subscription:
                saw()

        with ApplicationSubscription(app, gt=app.recorder.max_notification_id()) as subscription:
            threading.Thread(target=follow, daemon=True).start()
            yield work


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


def _open(folder: Path, store: StoreName) -> Orders:
    return Orders(env=_postgres(folder) if store == "postgres" else _sqlite(folder))


def _sqlite(folder: Path) -> dict[str, str]:
    return {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(folder / "eventsourcing.db"),
        "SQLITE_LOCK_TIMEOUT": "30",
        "SQLITE_POOL_SIZE": "10",
        "SQLITE_POOL_TIMEOUT": "60",
    }


def _postgres(folder: Path) -> dict[str, str]:
    """The pool as it is by default, 5 and 10 more: larger ones made it slower, smaller ones no quicker."""
    at = conninfo_to_dict(url(folder, "postgres"))
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_HOST": str(at["host"]),
        "POSTGRES_PORT": str(at["port"]),
        "POSTGRES_DBNAME": str(at["dbname"]),
        "POSTGRES_USER": str(at["user"]),
        "POSTGRES_PASSWORD": "none",
    }


def _new_order(source: Iterator[Line], count: int) -> Order:
    order_id = new_id()
    order: Order = Order(order_id=order_id, **next(source))
    for _ in range(count - 1):
        order.add_line(order_id=order_id, **next(source))
    return order


def _fill(folder: Path, store: StoreName, events: int) -> None:
    source = lines()
    with closing(_open(folder, store)) as app:
        for _ in range(events // EVENTS_A_STREAM):
            app.save(_new_order(source, EVENTS_A_STREAM))
    if store == "postgres":
        postgres.settle(database_of(folder))
