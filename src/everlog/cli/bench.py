"""`everlog bench`: what this machine and disk give, measured with durable appends on a log of its own."""

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from everlog.app.platform import Platform
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, view_of
from everlog.core.envelope import Append, NewEvent
from everlog.core.expect import NoStream
from everlog.core.ids import new_id
from everlog.store.contract import Store

_DATA = b'{"note":"' + b"x" * 240 + b'"}'


@command("bench", example="everlog bench --seconds 5 --writers 64")
def bench(
    call: Call,
    *,
    seconds: Annotated[float, typer.Option("--seconds", metavar="N", min=0.1, help="How long.")] = 3.0,
    writers: Annotated[int, typer.Option("--writers", metavar="N", min=1, help="Threads that append at once.")] = 8,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="On this disk; else the current folder.")
    ] = None,
) -> None:
    """Append single events for a while, and tell how many a second and how long one takes. The log is deleted after."""
    with (
        tempfile.TemporaryDirectory(prefix="everlog-bench-", dir=folder or Path.cwd()) as scratch,
        Platform(f"sqlite:///{Path(scratch) / 'bench.db'}").open() as log,
    ):
        began = time.perf_counter()
        taken = _append(log.store, began + seconds, writers)
        elapsed = time.perf_counter() - began
    taken.sort()
    told = {
        "writers": writers,
        "events": len(taken),
        "events_per_second": round(len(taken) / elapsed),
        "p50_ms": round(statistics.median(taken) * 1000, 3),
        "p99_ms": round(taken[int(len(taken) * 0.99)] * 1000, 3),
        "longest_ms": round(taken[-1] * 1000, 3),
    }
    call.output.document(told, Part(view_of(told), [told]))


def _append(store: Store, until: float, writers: int) -> list[float]:
    taken: list[float] = []

    def write() -> None:
        mine: list[float] = []
        while (began := time.perf_counter()) < until or not mine:
            stream = f"bench-{new_id().hex()}"
            event = NewEvent(new_id(), stream, "everlog.benchmark", 1, _DATA)
            store.append(Append("default", (event,), {stream: NoStream()}))
            mine.append(time.perf_counter() - began)
        taken.extend(mine)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken
