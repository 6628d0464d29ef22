"""A server that dies under its writers loses nothing it acknowledged and stores nothing twice (T04).

EVERLOG_SEED repeats the choices; `python -m tests.campaign postgres-kills` goes on for as long as you like.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from everlog.app.stores import open_store
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import StoreUnavailable
from everlog.core.ids import new_id
from everlog.testing.postgres import running
from tests.concurrency.workload import SEED
from tests.postgres.kills import CRASHES, SETTINGS, crash_often

pytestmark = pytest.mark.usefixtures("postgres_server")  # skips where there is none

KILLS = 15


def test_nothing_is_lost_or_doubled_when_the_server_is_killed() -> None:
    report = crash_often(SEED, KILLS)
    print(f"EVERLOG_SEED={SEED} {dict(report.faults)}, {dict(report.done)}, back after {report.recovery:.2f} s")
    assert report.violations == []
    assert all(report.faults[crash] > 0 for crash in CRASHES)
    assert report.faults["terminated sessions"] > 0
    assert report.done["OutcomeUnknown"] + report.done["StoreUnavailable"] > 0
    assert min(report.done["acknowledged"], report.done["events"], report.done["retries"]) > 0


def test_a_server_that_was_away_is_found_soon_after_it_is_back() -> None:
    """However long that was; meanwhile nobody keeps a processor busy asking for it."""
    with running(settings=SETTINGS) as server, closing(open_store(server.url())) as store:
        store.append(request())
        with closing(open_store(f"{server.url()}?lock_timeout=0.5")) as impatient, ThreadPoolExecutor(2) as pool:
            server.stop()
            began, used = time.monotonic(), time.process_time()
            append, read = pool.submit(store.append, request()), pool.submit(store.head)
            with pytest.raises(StoreUnavailable):  # and not that the outcome is unknown: nothing was sent to anybody
                impatient.append(request())
            assert time.monotonic() - began < 2.0
            time.sleep(3.5 - (time.monotonic() - began))
            used = time.process_time() - used
            server.start()
            back = time.monotonic()
            assert append.result(20).position == 2
            assert read.result(20).position in (1, 2)
            print(f"back after {time.monotonic() - back:.2f} s, {used:.2f} s of a processor while it was away")
            assert time.monotonic() - back < 2.5
            assert used < 1.5


def test_stores_that_open_an_empty_database_at_once_find_one_log(database: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(open_store, [database] * 6))
    assert len({store.head().log_id for store in stores}) == 1
    for store in stores:
        store.close()


def request() -> Append:
    return Append("acme", (NewEvent(new_id(), "seat-1", "seat.taken", 1, b"{}"),))
