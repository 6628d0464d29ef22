"""Logs and files that cases only read, made by everlog itself: so raw SQL inserts exactly the rows everlog would."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.one import Job
from benchmarks.orders import LineAdded, orders
from benchmarks.workload import CSV_FILES, EVENTS_A_STREAM, Line, lines, new_id, write_csv
from everlog import NoStream, Platform, Write
from everlog.adoption import import_file, map_from_toml
from everlog.core.limits import BATCH_EVENTS

TENANT = "acme"
LOG = "log.db"

IMPORT_MAP = map_from_toml("""
    stream = "order-{order_id}"
    type = "order.line_added"
    time = "{occurred_at}"
    [data]
    order_id = "order_id"
    customer_id = "customer_id"
    sku = "sku"
    quantity = { type = "integer" }
    unit_price = { type = "decimal" }
    currency = "currency"
    city = "city"
    note = "note"
""")


def url(folder: Path) -> str:
    return f"sqlite:///{folder / LOG}"


def short_streams(job: Job) -> Path:
    """A log of streams with one event each."""
    return job.prepared("short-streams", lambda folder: _append(folder, job.sizes.raw, 1))


def long_streams(job: Job) -> Path:
    """A log of streams with a hundred events each."""
    return job.prepared("long-streams", lambda folder: _append(folder, job.sizes.log, EVENTS_A_STREAM))


def csv_files(job: Job) -> list[Path]:
    """Several, because each slice of an import takes another."""
    return sorted(job.prepared("csv", lambda folder: _write_files(folder, job.sizes.rows)).iterdir())


def imported(job: Job) -> Path:
    """The log that importing those files makes."""
    return job.prepared("imported", lambda folder: _import(folder, csv_files(job)))


def new_order(source: Iterator[Line], count: int) -> Write:
    """A new stream with this many events."""
    order = new_id()
    events = [LineAdded(order_id=order, **next(source)) for _ in range(count)]
    return Write(f"order-{order}", *events, expect=NoStream())


def _append(folder: Path, events: int, events_a_stream: int) -> None:
    source = lines()
    with Platform(_unsafe(folder), orders).open() as log:
        acme = log.tenant(TENANT)
        for _ in range(events // BATCH_EVENTS):
            acme.append_batch(*[new_order(source, events_a_stream) for _ in range(BATCH_EVENTS // events_a_stream)])


def _write_files(folder: Path, rows: int) -> None:
    for number in range(CSV_FILES):
        write_csv(folder / f"{number}.csv", rows // CSV_FILES)


def _import(folder: Path, files: Iterable[Path]) -> None:
    with Platform(_unsafe(folder)).open() as log:
        for path in files:
            import_file(log.store, path, IMPORT_MAP, tenant=TENANT)


def _unsafe(folder: Path) -> str:
    """Not synced: filling a log is not measured."""
    return f"{url(folder)}?synchronous=OFF&allow_unsafe=synchronous"
