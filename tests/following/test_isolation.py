"""Isolation (T19): a handler that hangs, exits, recurses or eats 4 GB costs its own process, and its event a lane."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlog import Isolation, Log, Misconfigured, Platform, Processor, Recorded, processor
from everlog.processing import isolated as isolation
from everlog.processing.contract import Lane, LaneFilter
from tests.following import isolated as handlers
from tests.following.parts import LEASE, Counted, eventually, progress_of, settled

MakePlatform = Callable[[Processor[Counted]], Platform]


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """What handlers noted, a list of words each."""
    file = tmp_path / "notes"
    file.touch()
    monkeypatch.setenv("EVERLOG_TEST_NOTES", str(file))
    return lambda: [line.split(" ") for line in file.read_text().splitlines()]


@pytest.fixture
def at(tmp_path: Path) -> MakePlatform:
    return lambda handler: Platform(f"sqlite:///{tmp_path}/log.db", Counted, handler)


def handle(platform: Platform, *keys: str, n: int = 1) -> Log:
    """Let a worker handle one event for each key, in the stream of its key; the log is left open for a look."""
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        for key in keys:
            log.tenant().append(f"tally-{key.replace(' ', '-')}", Counted(key, n))
        settled(log)
        assert progress_of(log, platform.processors[0].name).status == "running"
    return platform.open()


def lanes(log: Log, name: str) -> dict[str, Lane]:
    return {lane.key.removeprefix("default/tally-"): lane for lane in log.store.desk.lanes.find(LaneFilter(name))}


def test_no_way_to_fail_costs_more_than_its_own_event(at: MakePlatform, notes: Callable[[], list[list[str]]]) -> None:
    """T19: eight ways and a few more, between events that are fine; our own process neither grows nor dies."""
    bad = {
        "hang": "HandlerDied: the handler took longer than 2 s and was killed",
        "exit": "HandlerDied: the handler ended its process (exit code 7)",
        "killed": "HandlerDied: the handler ended its process (exit code -9)",
        "recurse": "RecursionError: ",
        "crash": "HandlerDied: the handler ended its process (exit code -11)",
        "allocate": "MemoryError: ",
        "raise": "ValueError: boom",
        "odd": "RuntimeError: OddError: boom",
        "leave": "SystemExit: leaving",
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fine = [f"fine {number}" for number in range(9)]
    with handle(at(handlers.isolated), *(key for pair in zip(bad, fine, strict=True) for key in pair)) as log:
        found = lanes(log, "isolated")
    assert {key: lane.error[: len(bad[key])] for key, lane in found.items()} == bad
    assert {(lane.status, lane.attempts, lane.depth) for lane in found.values()} == {("parked", 2, 1)}
    assert sorted(words[2] + " " + words[3] for words in notes()) == fine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    assert multiprocessing.active_children() == []


def test_what_is_transient_in_a_child_is_transient_here(at: MakePlatform) -> None:
    with at(handlers.isolated).open(worker=True, lease_seconds=LEASE) as log:
        log.tenant().append("tally-a", Counted("transient"))
        eventually(lambda: rows_of_marks(log))
        assert log.worker is not None
        eventually(log.worker.stop)
        assert lanes(log, "isolated") == {}
        assert progress_of(log, "isolated").position == 0


def rows_of_marks(log: Log) -> int:
    return log.store.desk.marks.marked("isolated")


def test_the_handlers_time_is_its_own_and_not_that_of_a_start(
    at: MakePlatform, notes: Callable[[], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second for each event, where a child takes a whole one to start."""
    monkeypatch.setenv("EVERLOG_TEST_START_SECONDS", "1.0")
    with handle(at(handlers.quick), "a", "late", "b") as log:
        found = lanes(log, "quick")
        assert {key: lane.error.partition(" (")[0] for key, lane in found.items()} == {
            "late": "HandlerDied: the handler took longer than 0.5 s and was killed"
        }
    assert sorted(words[2] for words in notes()) == ["a", "b"]


@pytest.mark.parametrize(("megabytes", "fits"), [(50, True), (400, False)])
def test_it_may_take_so_much_memory(
    at: MakePlatform, notes: Callable[[], list[list[str]]], megabytes: int, fits: bool
) -> None:
    with handle(at(handlers.small), "a", n=megabytes) as log:
        assert [lane.error[:13] for lane in lanes(log, "small").values()] == ([] if fits else ["MemoryError: "])
    assert len(notes()) == int(fits)


def test_a_child_that_behaves_is_used_again(at: MakePlatform, notes: Callable[[], list[list[str]]]) -> None:
    with handle(at(handlers.usual), *["a"] * 30) as log:
        [ids, children] = [{words[3] for words in notes()}, {words[4] for words in notes()}]
        assert ids == {e.key for e in log.tenant().events(Counted)}
    assert [int(words[1]) for words in notes()] == list(range(1, 31))
    assert len(children) == 1
    assert str(os.getpid()) not in children
    assert Isolation() == Isolation(timeout=60.0, memory=1024 * 1024 * 1024) == handlers.usual.isolation


def test_keys_are_handled_in_children_side_by_side(at: MakePlatform, notes: Callable[[], list[list[str]]]) -> None:
    with at(handlers.usual).open() as log:
        for number in range(24):
            log.tenant().append(f"tally-{number}", Counted(f"k{number}"))
    handle(at(handlers.usual)).close()
    assert len(notes()) == 24
    assert 1 < len({words[4] for words in notes()}) <= 8


def test_an_event_that_cannot_be_read_leaves_no_child_behind(
    at: MakePlatform, notes: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    from everlog.testing.conformance import append, new_event

    platform = at(handlers.usual)
    with platform.open() as log:
        for number in range(12):
            bad = new_event(f"tally-{number}", "tally.counted", b'{"key": 7}')
            append(log.store, bad, tenant="default")
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        settled(log)
        assert {lane.error.partition(":")[0] for lane in lanes(log, "usual").values()} == {"UnreadableEvent"}
        assert len(lanes(log, "usual")) == 12
        assert len(multiprocessing.active_children()) <= 8
    assert multiprocessing.active_children() == []
    assert notes() == []


def test_ctrl_c_at_the_terminal_is_for_the_worker_alone(at: MakePlatform, notes: Callable[[], list[list[str]]]) -> None:
    """Every process of the terminal gets the signal; a handler at work finishes all the same."""
    with handle(at(handlers.isolated), "interrupt") as log:
        assert lanes(log, "isolated") == {}
    assert len(notes()) == 1


def test_a_handler_that_no_child_can_import_is_refused_with_what_to_do(at: MakePlatform) -> None:
    @processor("local", on=Counted, isolate=True)
    def local(e: Recorded[Counted]) -> None: ...

    with pytest.raises(Misconfigured, match="define it at the top of a module"):
        at(local).open(worker=True)
    with at(local).open() as log:
        log.tenant().append("tally-a", Counted("a"))  # without a worker there is nothing to import


def test_a_child_that_is_never_ready_is_given_up(at: MakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "START_SECONDS", 0.0)
    with handle(at(handlers.usual), "a") as log:
        assert "was not ready within 0 s" in lanes(log, "usual")["a"].error


def test_a_script_may_isolate_its_own_functions(tmp_path: Path) -> None:
    """Its processors live in `__main__`, which a child imports under another name."""
    script = tmp_path / "shop.py"
    script.write_text(
        "from everlog import *\n"
        "@event('a.b')\nclass A:\n    n: int\n"
        "@processor('mail', on=A, isolate=True)\n"
        "def mail(e: Recorded[A]) -> None:\n    print('mailed', e.data.n, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    with Platform('memory:', mail).open(worker=True) as log:\n"
        "        log.tenant().append('a-1', A(42))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ran.stdout, ran.stderr) == ("mailed 42\n", "")


def test_what_is_not_isolated_runs_in_a_thread_of_this_process(at: MakePlatform) -> None:
    seen: list[Any] = []

    @processor("plain", on=Counted)
    def plain(e: Recorded[Counted]) -> None:
        seen.append((os.getpid(), threading.current_thread().name.partition("_")[0]))

    handle(at(plain), "a").close()
    assert seen == [(os.getpid(), "everlog-plain")]
