"""Processes on one file do not starve each other, whoever of them is the busiest (design D5, the turnstile)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from tests.concurrency.processes import crew, write_alone

APPENDS = 300
P99_SECONDS = 0.050
# SQLite's own busy handler keeps the p99 too, but now and then lets somebody wait for a second and more.
LONGEST_SECONDS = 0.500
# A machine that stalls for its own reasons spoils one round; a turnstile that starves its neighbour spoils all.
ROUNDS = 3
PROCESSES = 5


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each append took, sorted, and how many the busy process did meanwhile."""

    seconds: Sequence[float]
    beside: int

    def percentile(self, share: float) -> float:
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def __str__(self) -> str:
        p50, p99, most = (f"{1000 * self.percentile(share):.2f} ms" for share in (0.5, 0.99, 1))
        return f"{len(self.seconds)} appends beside {self.beside}: p50 {p50}, p99 {p99}, most {most}"


def test_a_busy_process_leaves_its_neighbour_the_log(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        waits = append_beside_a_busy_process(tmp_path / f"{number}.db")
        print(waits)
        assert waits.beside > APPENDS
        if waits.percentile(0.99) <= P99_SECONDS and waits.percentile(1) <= LONGEST_SECONDS:
            return
    pytest.fail(f"p99 above {P99_SECONDS} s or one wait above {LONGEST_SECONDS} s in each of {ROUNDS} rounds")


def test_five_processes_get_their_share_of_the_log(tmp_path: Path) -> None:
    with crew(PROCESSES) as processes:
        running = [processes.pool.submit(write_alone, tmp_path / "log.db", 1, 2.0) for _ in range(PROCESSES)]
        written = sorted(process.result() for process in running)
    fair = sum(written) / PROCESSES
    print(f"appends by process: {written}, the least got {written[0] / fair:.0%} of a fair share")
    assert written[0] >= fair / 3


def append_beside_a_busy_process(file: Path) -> Waits:
    """This process appends one event at a time while another one's eight threads append all they can."""
    with crew(1, watchers=1) as processes, closing(SqliteStore(SqliteSettings(file))) as store:
        busy = processes.pool.submit(write_alone, file, 8, 60.0)
        processes.start.wait()
        waits = sorted(_seconds_to_append(store) for _ in range(APPENDS))
        processes.stop.set()
        return Waits(waits, busy.result())


def _seconds_to_append(store: SqliteStore) -> float:
    request = Append("acme", (NewEvent(new_id(), "seat-1", "seat.taken", 1, b"{}"),))
    began = time.perf_counter()
    store.append(request)
    return time.perf_counter() - began
