"""Logs and files that cases only read, made by everlog itself: so raw SQL inserts exactly the rows everlog would."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import postgres
from benchmarks.one import Job, StoreName
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


def url(folder: Path, store: StoreName = "sqlite") -> str:
    """The log in a folder; on PostgreSQL the one in the database named as the folder is."""
    if store == "postgres":
        return postgres.database(database_of(folder))
    return f"sqlite:///{folder / LOG}"


def database_of(folder: Path) -> str:
    return folder.name.partition(".")[0]  # of an input, also while it is made


def url_of(job: Job) -> str:
    return url(job.folder, job.store)


def short_streams(job: Job) -> Path:
    """A log of streams with one event each."""
    return job.prepared(f"short-streams-{job.store}", lambda folder: _append(folder, job.store, job.sizes.raw, 1))


def long_streams(job: Job) -> Path:
    """A log of streams with a hundred events each."""
    return job.prepared(
        f"long-streams-{job.store}", lambda folder: _append(folder, job.store, job.sizes.log, EVENTS_A_STREAM)
    )


def csv_files(job: Job) -> list[Path]:
    """Several, because each slice of an import takes another."""
    return sorted(job.prepared("csv", lambda folder: _write_files(folder, job.sizes.rows)).iterdir())


def imported(job: Job) -> Path:
    """The log that importing those files makes."""
    return job.prepared(f"imported-{job.store}", lambda folder: _import(folder, job.store, csv_files(job)))


def new_order(source: Iterator[Line], count: int, name: Callable[[], str] = new_id) -> Write:
    """A new stream with this many events."""
    order = name()
    events = [LineAdded(order_id=order, **next(source)) for _ in range(count)]
    return Write(f"order-{order}", *events, expect=NoStream())


def _append(folder: Path, store: StoreName, events: int, events_a_stream: int) -> None:
    source = lines()
    with _filling(folder, store), Platform(_unsafe(folder, store), orders).open() as log:
        acme = log.tenant(TENANT)
        for _ in range(events // BATCH_EVENTS):
            acme.append_batch(*[new_order(source, events_a_stream) for _ in range(BATCH_EVENTS // events_a_stream)])


def _write_files(folder: Path, rows: int) -> None:
    for number in range(CSV_FILES):
        write_csv(folder / f"{number}.csv", rows // CSV_FILES)


def _import(folder: Path, store: StoreName, files: Iterable[Path]) -> None:
    with _filling(folder, store), Platform(_unsafe(folder, store)).open() as log:
        for path in files:
            import_file(log.store, path, IMPORT_MAP, tenant=TENANT)


@contextmanager
def _filling(folder: Path, store: StoreName) -> Iterator[None]:
    yield
    if store == "postgres":
        postgres.settle(database_of(folder))


def _unsafe(folder: Path, store: StoreName) -> str:
    """Not synced: filling a log is not measured. On PostgreSQL it would gain nothing."""
    if store == "postgres":
        return url(folder, store)
    return f"{url(folder)}?synchronous=OFF&allow_unsafe=synchronous"
