"""Effects in the log's own database share transactions, and nobody can tell but by the clock."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from everlog import Backoff, LaneFilter, Platform, Recorded, Retry, Transaction, processor
from everlog.processing import run
from tests.following.parts import Counted, append_many, eventually, on_both, rows, settled

KEYS = ["a", "b", "c", "d"]
QUICK = Retry(attempts=3, backoff=Backoff(first=0.001, longest=0.001))
TAKEN = "CREATE TABLE IF NOT EXISTS taken (place INTEGER, key TEXT, position INTEGER)"


def take(e: Recorded[Counted], tx: Transaction) -> None:
    tx.execute(TAKEN)
    [(place,)] = tx.execute("SELECT count(*) FROM taken")
    tx.execute("INSERT INTO taken VALUES (?, ?, ?)", (place, e.data.key, e.position))


@on_both
def test_effects_of_a_page_share_a_few_transactions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_TOGETHER_SECONDS", 10.0)
    reached: Counter[str] = Counter()
    taken = processor("taken", on=Counted, inbox=True)(take)
    with Platform(url, Counted).open() as log:
        append_many(log.tenant("acme"), KEYS, 50)
    with Platform(url, taken).open(worker=True, crash=lambda point: reached.update([point])) as log:
        settled(log)
        found = rows(log, "SELECT key, position FROM taken ORDER BY place")
    assert sorted(position for _, position in found) == list(range(1, 201))
    for key in KEYS:
        assert [position for one, position in found if one == key] == list(range(KEYS.index(key) + 1, 201, 4))
    assert reached["checkpoint.after_commit"] < 20


@on_both
def test_one_that_fails_costs_its_own_key_only_and_has_all_its_attempts(url: str) -> None:
    attempts: Counter[int] = Counter()

    @processor("taken", on=Counted, inbox=True, retry=QUICK)
    def taken(e: Recorded[Counted], tx: Transaction) -> None:
        take(e, tx)
        if e.position == 7:
            attempts[e.position] += 1
            raise ValueError("boom")

    with Platform(url, Counted).open() as log:
        append_many(log.tenant("acme"), KEYS, 5)
    with Platform(url, taken).open(worker=True) as log:
        settled(log)
        lanes = list(log.store.desk.lanes.find(LaneFilter("taken")))
        assert [(lane.key, lane.status, lane.first, lane.attempts) for lane in lanes] == [
            ("acme/tally-c", "parked", 7, 3)
        ]
        found = {position for (position,) in rows(log, "SELECT position FROM taken")}
        assert found == set(range(1, 21)) - {7, 11, 15, 19}
    assert attempts[7] == 4  # the one in the transaction that all shared, which counts for nobody, and three of its own


def test_handlers_that_take_their_time_run_side_by_side(url: str) -> None:
    @processor("slow", on=Counted, inbox=True)
    def slow(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute(TAKEN)
        time.sleep(0.06)  # longer than a shared transaction may last

    with Platform(url, Counted).open() as log:
        append_many(log.tenant("acme"), KEYS, 3)
    commits: Counter[str] = Counter()
    with Platform(url, slow).open(worker=True, crash=lambda point: commits.update([point])) as log:
        settled(log)
        eventually(lambda: log.store.checkpoints.progress()[0].position == 12)
    assert commits["checkpoint.after_commit"] >= 11
