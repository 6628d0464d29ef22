"""Workers: several on one file, each subscription owned by one; killed, stood still, told to stop (T18)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from everlog import Log, Platform, Recorded, processor
from everlog.subscription.follower import LEASE_SECONDS
from tests.following import program
from tests.following.parts import (
    Counted,
    Noted,
    append_many,
    counted,
    counter,
    eventually,
    on_both,
    progress_of,
    rows,
    settled,
    sums,
    tally,
)
from tests.following.program import KEYS, NAMES, Orders, Running, Trap, running


def owners(log: Log) -> dict[str, str]:
    """The process that owns each subscription now, "" for none."""
    return {known.name: known.owner.split(":")[1:2][0] if known.owner else "" for known in _progress(log)}


def _progress(log: Log) -> list[Any]:
    return [known for known in log.store.checkpoints.progress() if known.name in NAMES]


def owned_by(log: Log, process: Running, *names: str) -> bool:
    """Whether it owns these, or all of them."""
    pid = str(process.process.pid)
    return {name for name, owner in owners(log).items() if owner == pid} == set(names or NAMES)


def assert_counted_once(log: Log) -> None:
    """Every event once in the fold, in the table and in the effects of the inbox."""
    events = list(log.tenant("acme").events(Counted))
    expected = sums(events)
    assert dict(log.tenant("acme").all(program.totals)) == dict(sorted(expected.items()))
    assert {key: n for (_, key), n in counted(log).items()} == expected
    assert dict(rows(log, "SELECT key, n FROM kept")) == Counter(e.data.key for e in events)


# ---- Two workers.


@on_both
def test_when_a_worker_is_killed_another_takes_over_within_the_lease(url: str) -> None:
    with program.platform.open(url) as log, running(Orders(url, lease=1.0)) as first:
        append_many(log.tenant("acme"), KEYS, 4)
        eventually(lambda: owned_by(log, first))
        with running(Orders(url, lease=1.0)) as second:
            append_many(log.tenant("acme"), KEYS, 4)
            settled(log)
            assert owned_by(log, first)
            first.process.kill()
            killed = time.monotonic()
            append_many(log.tenant("acme"), KEYS, 4)
            eventually(lambda: owned_by(log, second))
            assert time.monotonic() - killed < 1.0 + 2.0  # a lease, and a look at it; the default is 10 seconds
            settled(log)
            assert_counted_once(log)
    assert LEASE_SECONDS == 10.0


def test_while_its_owner_lives_a_worker_that_waits_does_nothing(url: str) -> None:
    with program.platform.open(url) as log, running(Orders(url)) as first:
        eventually(lambda: owned_by(log, first))
        with running(Orders(url)):
            append_many(log.tenant("acme"), KEYS, 10)
            settled(log)
            assert owned_by(log, first)
            before = {known.name: known.epoch for known in _progress(log)}
            append_many(log.tenant("acme"), KEYS, 10)
            settled(log)
            assert before == {known.name: known.epoch for known in _progress(log)}
        assert_counted_once(log)


@on_both
def test_a_worker_that_is_told_to_stop_leaves_its_subscriptions_at_once(url: str) -> None:
    with program.platform.open(url) as log, running(Orders(url, lease=20.0)) as first:
        eventually(lambda: owned_by(log, first))
        with running(Orders(url, lease=20.0)) as second:
            first.process.send_signal(signal.SIGTERM)
            assert first.ended() == 0
            eventually(lambda: owned_by(log, second), seconds=10)


@on_both
@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("keep", "processor.marked"),
        ("keep", "processor.effects"),
        ("send", "send.begin"),
        ("send", "processor.effects"),
        ("tally", "fold.apply"),
        ("counter", "checkpoint.after_commit"),
    ],
)
def test_an_owner_that_stood_still_past_its_lease_keeps_nothing_and_effects_happen_once(
    url: str, tmp_path: Path, name: str, point: str
) -> None:
    """T18: it was stopped between two steps, another took over and went on, and then it came back."""
    notes = tmp_path / "notes"
    frozen = Orders(url, (name,), lease=0.5, traps=(Trap(point, 2, signal.SIGSTOP),), notes=str(notes))
    with program.platform.open(url) as log, running(frozen) as first:
        while f"at {point}" not in first.lines:
            append_many(log.tenant("acme"), KEYS)
            first.wait_until_it_says_more()
        with running(Orders(url, (name,), lease=0.5, notes=str(notes))) as second:
            append_many(log.tenant("acme"), KEYS, 4)
            settled(log)
            eventually(lambda: owned_by(log, second, name))
            first.process.send_signal(signal.SIGCONT)
            eventually(lambda: f"fenced {name}" in first.lines)
            append_many(log.tenant("acme"), KEYS, 4)
            settled(log)
    with program.platform.open(url) as log, running(Orders(url)):
        eventually(lambda: len(log.lags()) == len(NAMES))
        settled(log)
        assert_counted_once(log)
        if name == "send":
            # What left the database may have left it twice, under one key; nothing is missing.
            sent = [line.split(" ") for line in notes.read_text().splitlines()]
            assert {int(position) for _, position, _ in sent} == set(range(1, log.head().position + 1))
            assert len({stable for _, _, stable in sent}) == log.head().position


@on_both
def test_two_workers_and_two_writers_count_every_event_once(url: str) -> None:
    writing = Orders(url, append=60, until_quiet=True)
    with program.platform.open(url) as log:
        processes = [Running(writing) for _ in range(2)]
        assert [one.ended() for one in processes] == [0, 0]
        assert log.head().position == 120
        settled(log)
        assert_counted_once(log)


# ---- Told to stop.


@on_both
def test_sigterm_lets_what_is_in_hand_finish(url: str, tmp_path: Path) -> None:
    """The command line's own worker: what it handled is checkpointed, and nothing is left half done."""
    environment = {**os.environ, "EVERLOG_STORE": url, "EVERLOG_APP": "tests.following.program:platform"}
    command = [sys.executable, "-c", "from everlog.cli import main; main()", "worker", "--lease", "5"]
    with program.platform.open(url) as log:
        append_many(log.tenant("acme"), KEYS, 20)
        worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        eventually(lambda: len(_progress(log)) == 4 and progress_of(log, "keep").position > 0)
        worker.send_signal(signal.SIGTERM)
        _, told = worker.communicate(timeout=30)
        assert worker.returncode == 0, told
        assert set(owners(log).values()) == {""}
        position = progress_of(log, "keep").position
        assert dict(rows(log, "SELECT key, n FROM kept")) == Counter(
            e.data.key for e in log.tenant("acme").events(Counted, upto=position)
        )
        with running(Orders(url)):
            settled(log)
        assert_counted_once(log)


def test_a_handler_that_hangs_does_not_outlive_a_stop(url: str, tmp_path: Path) -> None:
    """Its event is handled again; nobody has to kill the process."""
    script = tmp_path / "hanging.py"
    script.write_text(
        "import threading, time\n"
        "from everlog import *\n"
        "from tests.following.parts import Counted\n"
        "begun = threading.Event()\n"
        "@processor('hang', on=Counted)\n"
        "def hang(e: Recorded[Counted]) -> None:\n"
        "    begun.set()\n"
        "    time.sleep(3600)\n"
        f"log = Platform({url!r}, hang).open(worker=True)\n"
        "log.tenant().append('tally-a', Counted('a'))\n"
        "assert begun.wait(30)\n"
        "log.close(0.2)\n"
        "print('closed', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    ended = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=25, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")


# ---- In this process.


def test_a_worker_runs_in_the_process_that_opens_it(url: str) -> None:
    fold, table, seen = tally(), counter(), list[int]()

    @processor("seen", on=Counted)
    def note(e: Recorded[Counted]) -> None:
        seen.append(e.position)

    with Platform(url, fold, table, note).open(worker=True) as log:
        append_many(log.tenant(), ["a", "b"], 3)
        log.tenant().wait_for(fold, table)
        assert log.worker is not None
        assert log.worker.drain(20)
        assert sorted(seen) == [1, 2, 3, 4, 5, 6]
        assert {thread.name for thread in threading.enumerate()}.issuperset(
            {"everlog-tally", "everlog-counter", "everlog-seen"}
        )
    with Platform(url, tally()).open() as log:
        assert log.worker is None


def test_closing_lets_the_worker_see_what_is_in_the_log(url: str) -> None:
    fold = tally()
    for times in range(1, 4):
        with Platform(url, fold).open(worker=True) as log:
            append_many(log.tenant(), ["a"], 5)
        with Platform(url, fold).open() as log:
            assert log.tenant().get(fold, "a") == 15 * times
            assert progress_of(log, "tally").owner == ""


def test_draining_ends_in_time_though_a_handler_does_not(url: str) -> None:
    go_on = threading.Event()

    @processor("slow", on=Counted)
    def slow(e: Recorded[Counted]) -> None:
        assert go_on.wait(60)

    log = Platform(url, slow).open(worker=True)
    append_many(log.tenant(), ["a"])
    assert log.worker is not None
    began = time.monotonic()
    assert not log.worker.drain(0.2)
    assert not log.worker.stop(0.2)
    assert not log.worker.drain(30)
    assert time.monotonic() - began < 10
    go_on.set()
    eventually(log.worker.stop)
    log.close()


def test_what_failed_is_not_waited_for_when_it_drains(url: str) -> None:
    @processor("fine", on=Counted)
    def fine(e: Recorded[Counted]) -> None: ...

    broken = tally()
    broken.steps.clear()

    @broken.on(Counted, key=lambda e: e.data.key)
    def refuse(total: int, e: Recorded[Counted]) -> int:
        raise ValueError("boom")

    with Platform(url, fine, broken).open(worker=True) as log:
        append_many(log.tenant(), ["a"])
        assert log.worker is not None
        assert log.worker.drain(20)
        assert {lag.progress.name: lag.progress.status for lag in log.lags()} == {"fine": "running", "tally": "failed"}


@on_both
def test_the_lag_of_each_subscription_is_told_whoever_runs_it(url: str) -> None:
    fold, table = tally(), counter()
    gate = threading.Event()

    @processor("gated", on=Counted)
    def gated(e: Recorded[Counted]) -> None:
        assert gate.wait(60)

    platform = Platform(url, fold, table, gated, Noted)
    with platform.open() as elsewhere, platform.open(worker=True) as log:
        assert elsewhere.lags() == log.lags() or len(elsewhere.lags()) <= 3
        append_many(log.tenant(), ["a"], 7)
        log.tenant().wait_for(fold, table)
        eventually(lambda: {lag.progress.name: lag.events for lag in elsewhere.lags()} == {
            "tally": 0, "counter": 0, "gated": 7,
        })  # fmt: skip
        log.store.checkpoints.set_status("gated", "paused")
        [gated_lag] = [lag for lag in elsewhere.lags() if lag.progress.name == "gated"]
        assert (gated_lag.progress.status, gated_lag.progress.kind, gated_lag.progress.position) == (
            "paused", "processor", 0,
        )  # fmt: skip
        gate.set()


def test_a_worker_that_cannot_be_made_closes_what_was_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from everlog.adapters.sqlite import SqliteStore

    closed: list[SqliteStore] = []
    close = SqliteStore.close

    def spy(self: SqliteStore, timeout: float = 10.0) -> None:
        closed.append(self)
        close(self, timeout)

    monkeypatch.setattr(SqliteStore, "close", spy)

    @processor("async", on=Counted, inbox=True)
    async def handle(e: Recorded[Counted]) -> None: ...

    with pytest.raises(Exception, match="neither inbox nor isolation"):
        Platform(url, handle).open(worker=True)
    assert len(closed) == 1
