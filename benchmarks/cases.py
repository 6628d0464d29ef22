"""everlog on either store, through the API a user has."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, count, islice
from typing import Any

from benchmarks.inputs import IMPORT_MAP, TENANT, csv_files, long_streams, url, url_of
from benchmarks.one import Job
from benchmarks.orders import LineAdded, UntaggedLineAdded, kept_orders, orders, plain_orders
from benchmarks.timing import Slice, alone, each, tasks, threads
from benchmarks.workload import PAGE, lines, new_id, ordered_id
from everlog import Decider, Log, NoStream, Platform, Recorded
from everlog.adoption import import_file
from everlog.core.limits import BATCH_EVENTS


@contextmanager
def append_tasks(job: Job, kind: type[LineAdded] = LineAdded, name: Callable[[], str] = new_id) -> Iterator[Slice]:
    source, expect = lines(), NoStream()
    with asyncio.Runner() as runner:
        log = Platform(url_of(job), kind).open_async()
        acme = log.tenant(TENANT)

        async def append() -> int:
            order = name()
            done = await acme.append(f"order-{order}", kind(order_id=order, **next(source)), expect=expect)
            return len(done.places)

        yield tasks(runner, job.sizes.writers, append)
        runner.run(log.close())


def append_tasks_untagged(job: Job) -> AbstractContextManager[Slice]:
    return append_tasks(job, UntaggedLineAdded)


def append_tasks_ordered(job: Job) -> AbstractContextManager[Slice]:
    return append_tasks(job, name=ordered_id)


@contextmanager
def append_threads(job: Job) -> Iterator[Slice]:
    with Platform(url_of(job), orders).open() as log, threads(job.sizes.writers, _appending(log)) as work:
        yield work


@contextmanager
def append_alone(job: Job) -> Iterator[Slice]:
    with Platform(url_of(job), orders).open() as log:
        yield alone(_appending(log))


@contextmanager
def load(job: Job, decider: Decider[Any, Any, Any] = orders) -> Iterator[Slice]:
    order = new_id()
    _append_lines(job, order, job.sizes.loaded)
    with Platform(url_of(job), decider).open() as log:
        acme = log.tenant(TENANT)
        yield alone(lambda: int(acme.state(decider, order).lines == job.sizes.loaded))


@contextmanager
def load_snapshot(job: Job) -> Iterator[Slice]:
    """The last event is appended by a command, after which a snapshot is due."""
    order = new_id()
    _append_lines(job, order, job.sizes.loaded - 1)
    with Platform(url_of(job), kept_orders).open() as log:
        acme = log.tenant(TENANT)
        acme.execute(kept_orders, order, LineAdded(order_id=order, **next(lines())))
        yield alone(lambda: int(acme.state(kept_orders, order).lines == job.sizes.loaded))


def load_plain(job: Job) -> AbstractContextManager[Slice]:
    return load(job, plain_orders)


@contextmanager
def whole_log(job: Job, decider: Decider[Any, Any, Any] = orders) -> Iterator[Slice]:
    with Platform(url(long_streams(job), job.store), decider).open() as log:
        yield alone(_reading(log))


def whole_log_plain(job: Job) -> AbstractContextManager[Slice]:
    return whole_log(job, plain_orders)


@contextmanager
def import_csv(job: Job) -> Iterator[Slice]:
    files = csv_files(job)
    with Platform(url_of(job)).open() as log:
        yield each(iter(files), lambda path: import_file(log.store, path, IMPORT_MAP, tenant=TENANT).imported)


def _appending(log: Log) -> Callable[[], int]:
    acme, source, expect = log.tenant(TENANT), lines(), NoStream()

    def append() -> int:
        order = new_id()
        return len(acme.append(f"order-{order}", LineAdded(order_id=order, **next(source)), expect=expect).places)

    return append


def _append_lines(job: Job, order: str, total: int) -> None:
    source = lines()
    with Platform(url_of(job), orders).open() as log:
        for start in range(0, total, BATCH_EVENTS):
            count = min(BATCH_EVENTS, total - start)
            events = [LineAdded(order_id=order, **next(source)) for _ in range(count)]
            log.tenant(TENANT).append(orders.stream(order), *events)


def _reading(log: Log) -> Callable[[], int]:
    """Reads a page of the log; behind the last one comes the first."""
    events: Iterator[Recorded[Any]] = chain.from_iterable(log.admin().events() for _ in count())

    def read() -> int:
        for event in islice(events, PAGE):
            assert event.data
        return PAGE

    return read
