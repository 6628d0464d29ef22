"""`python -m benchmarks.costs [CASE…]`: where the time of a case on PostgreSQL goes.

For each event, load or row: how long it took, and for how much of that a processor worked for the process of the case
and for the server. What is left is waiting: for the disk, or for a processor that somebody else had.
"""

import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import postgres
from benchmarks.one import Case, Job, Sizes, store_of

SECONDS = 2.0
CASES = (
    "cases:append_tasks@postgres",
    "raw_postgres:append_batches@postgres",
    "cases:append_alone@postgres",
    "raw_postgres:append_alone@postgres",
    "cases:load@postgres",
    "cases:whole_log@postgres",
    "cases:import_csv@postgres",
    "raw_postgres:import_batches@postgres",
)


class Cost(NamedTuple):
    """Microseconds for one of what the case counts."""

    took: float
    client: float
    server: float


def cost_of(name: str, inputs: Path) -> Cost:
    """In this process; what the server does by itself, such as writing its log, counts as the server's."""
    case: Case = pkgutil.resolve_name(f"{__package__}.{name.partition('@')[0]}")
    with tempfile.TemporaryDirectory(dir=inputs) as folder:
        with case(Job(Path(folder), inputs, Sizes(), store_of(name))) as work:
            work(SECONDS / 8)
            server, client, began = _server_seconds(), time.process_time(), time.perf_counter()
            done = work(SECONDS)
            took, client = time.perf_counter() - began, time.process_time() - client
            worked = _server_seconds()
        postgres.drop(Path(folder).name)
    count = done if isinstance(done, int) else done.done
    spent = sum(seconds - server.get(pid, 0.0) for pid, seconds in worked.items())
    return Cost(*(1e6 * part / count for part in (took, client, spent)))


def _server_seconds() -> dict[str, float]:
    """Of every process of the server, on Linux."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = Path("/proc", pid, "stat").read_text().rpartition(") ")[2].split()[1]
            if int(parent) == postgres.pid():
                found[pid] = int(Path("/proc", pid, "schedstat").read_text().split()[0]) / 1e9
        except FileNotFoundError:  # it has ended meanwhile
            continue
    return found


def main(names: Sequence[str]) -> None:
    table = Table("case", "took", "client", "server", "waiting", title="µs for each event, load or row")
    with postgres.serving(), tempfile.TemporaryDirectory() as inputs:
        for name in names:
            took, client, server = cost_of(name, Path(inputs))
            table.add_row(name, *(f"{part:,.1f}" for part in (took, client, server, max(0.0, took - client - server))))
    Console(width=112).print(table)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
