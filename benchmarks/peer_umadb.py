"""UmaDB: its server from its wheel, and its blocking client, one a thread. It syncs twice an append, so it is durable.

A stream is a tag, and the condition of an append that nothing carries it yet. It has no aggregates: events are the
structs everlog is given, encoded and folded as everlog does it.
"""

import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import msgspec
import umadb

from benchmarks.one import Job
from benchmarks.orders import LineAdded, Order, evolve
from benchmarks.timing import Slice, alone, followed, threads
from benchmarks.workload import EVENTS_A_STREAM, Line, lines, new_id

_PATIENCE = 30.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LineAdded).decode


@contextmanager
def append_threads(job: Job) -> Iterator[Slice]:
    with _serving(job.folder) as url, threads(job.sizes.writers, _appending(url)) as work:
        yield work


@contextmanager
def append_alone(job: Job) -> Iterator[Slice]:
    with _serving(job.folder) as url:
        yield alone(_appending(url))


@contextmanager
def load(job: Job) -> Iterator[Slice]:
    order, source = new_id(), lines()
    with _serving(job.folder) as url:
        client = umadb.Client(url)
        client.append([_event(order, next(source)) for _ in range(job.sizes.loaded)])
        query = umadb.Query([umadb.QueryItem(tags=[_tag(order)])])

        def fold() -> int:
            state, read = Order(), client.read(query)
            while batch := read.next_batch():
                for stored in batch:
                    state = evolve(state, _decode(stored.event.data))
            return int(state.lines == job.sizes.loaded)

        yield alone(fold)


@contextmanager
def whole_log(job: Job) -> Iterator[Slice]:
    # A server has its files for itself, and several cases may read at once.
    prepared = job.prepared("umadb", lambda folder: _fill(folder, job.sizes.log))
    shutil.copytree(prepared, job.folder, dirs_exist_ok=True)
    with _serving(job.folder) as url:
        yield alone(_reading(umadb.Client(url)))


@contextmanager
def live(job: Job) -> Iterator[Slice]:
    with _serving(job.folder) as url, followed(_appending(url)) as (work, saw):
        client = umadb.Client(url)  # its subscription ends with it
        subscription = client.subscribe(after=client.head())

        def follow() -> None:
            with suppress(umadb.CancelledByUserError):
                for _ in subscription:
                    saw()

        threading.Thread(target=follow, daemon=True).start()
        yield work
        subscription.cancel()


def _appending(url: str) -> Callable[[], int]:
    source, local = lines(), threading.local()

    def append() -> int:
        client = getattr(local, "client", None) or umadb.Client(url)
        local.client, order = client, new_id()
        unused = umadb.AppendCondition(umadb.Query([umadb.QueryItem(tags=[_tag(order)])]))
        client.append([_event(order, next(source))], unused)
        return 1

    return append


def _reading(client: umadb.Client) -> Callable[[], int]:
    """Reads a batch of the log, of the server's size; behind the last one comes the first."""
    read = client.read()

    def step() -> int:
        nonlocal read
        batch = read.next_batch()
        for stored in batch:
            assert _decode(stored.event.data)
        if not batch:
            read = client.read()
        return len(batch)

    return step


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    port = _free_port()
    server_of_wheel = str(Path(sys.executable).with_name("umadb"))
    command = [server_of_wheel, "--listen", f"127.0.0.1:{port}", "--db-path", str(folder / "uma.db")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url)
            yield url
        finally:
            server.kill()  # it would wait for readers that have not read all


def _wait(url: str) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            umadb.Client(url).head()
        except umadb.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _free_port() -> int:
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def _event(order: str, line: Line) -> umadb.Event:
    data = _encode(LineAdded(order_id=order, **line))
    return umadb.Event("order.line_added", data, [_tag(order)], uuid4())


def _tag(order: str) -> str:
    return f"order:{order}"


def _fill(folder: Path, events: int) -> None:
    source = lines()
    with _serving(folder) as url:
        client = umadb.Client(url)
        for _ in range(events // EVENTS_A_STREAM):
            order = new_id()
            client.append([_event(order, next(source)) for _ in range(EVENTS_A_STREAM)])
