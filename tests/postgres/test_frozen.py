"""A process that stands still with the head in its hands keeps nobody waiting for long."""

import multiprocessing
import os
import signal
import time

import pytest

from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.core.envelope import Append
from everlog.store import verdicts
from everlog.testing.conformance.events import append

spawn = multiprocessing.get_context("spawn")


def _freeze_under_the_lock(url: str) -> None:
    store = PostgresStore(PostgresSettings.from_url(url))
    append(store)
    check = verdicts.Group._check

    def freeze(group: verdicts.Group, request: Append) -> None:
        verdicts.Group._check = check  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGSTOP)
        check(group, request)

    verdicts.Group._check = freeze  # type: ignore[method-assign, assignment]
    append(store)


@pytest.mark.parametrize("times", [1, 2])
def test_who_freezes_under_the_lock_is_cut_off_and_stores_its_event_when_it_thaws(database: str, times: int) -> None:
    frozen = [spawn.Process(target=_freeze_under_the_lock, args=(database,)) for _ in range(times)]
    store = PostgresStore(PostgresSettings.from_url(database))
    try:
        for number, process in enumerate(frozen, 1):
            process.start()
            while _state(process.pid) != "T" or store.head().position < number:
                time.sleep(0.01)  # until the process says that it is stopped
        began = time.monotonic()
        assert append(store).position == times + 1
        assert time.monotonic() - began < 3.5 * times  # at 4 s the limit of a whole transaction would do it
        for process in frozen:
            os.kill(process.pid or 0, signal.SIGCONT)
            process.join(20)
            assert process.exitcode == 0
        assert store.head().position == 2 * times + 1
    finally:
        for process in frozen:
            process.kill()
        store.close()


def _state(pid: int | None) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]
