"""The fault machinery tested on a plain SQLite file, before anybody trusts what it says about the store.

A tester that sees nothing wrong must be shown to see what is wrong: hence synchronous=NORMAL, which may lose what it
acknowledged, and synchronous=OFF, which may corrupt. EVERLOG_FAULT_SEED repeats a run.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from tests.faults import appender
from tests.faults.build import shim, skip_reason
from tests.faults.disk import MODES, Mode
from tests.faults.powercut import CrashState, Recording, load, memory_directory, states
from tests.faults.run import Outcome, When, run_under_shim

pytestmark = pytest.mark.skipif(shim() is None, reason=skip_reason())

SEED = int(os.environ.get("EVERLOG_FAULT_SEED") or int.from_bytes(os.urandom(4), "big"))
ROWS = 60
STATES = 300

Verdict = Literal["ok", "lost", "corrupt"]


@pytest.fixture(autouse=True)
def _print_seed() -> None:
    print(f"EVERLOG_FAULT_SEED={SEED}")


@pytest.fixture
def disk() -> Iterator[Path]:
    with memory_directory() as directory:
        yield directory


def program(directory: Path, synchronous: str = "FULL", rows: int = ROWS) -> list[str | Path]:
    return [sys.executable, appender.__file__, directory / "log.db", synchronous, str(rows)]


def recorded_code(
    code: str, disk: Path, log: Path, *, fail: str | None = None, kill_at: int | None = None, when: When = "before"
) -> tuple[Outcome, Recording]:
    """Run a few lines of Python in the watched directory."""
    argv: list[str | Path] = [sys.executable, "-c", f"import os, sys\nos.chdir(sys.argv[1])\n{code}", disk]
    outcome = run_under_shim(argv, directory=disk, log=log, fail=fail, kill_at=kill_at, when=when)
    return outcome, load(log)


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


def everything(recording: Recording) -> dict[str, bytes]:
    """The files when nothing is lost: every pending change kept."""

    class Generous(Random):
        def randint(self, a: int, b: int) -> int:
            return b

    return recording.state(Generous(), "prefix", len(recording.steps)).files


def possible(recording: Recording, name: str, modes: tuple[Mode, ...] = MODES) -> set[bytes | None]:
    """Each content that file has in some state at the end of the recording; None if it is not there."""
    return {
        recording.state(SEED + number, mode, len(recording.steps)).files.get(name)
        for number in range(STATES)
        for mode in modes
    }


def names(recording: Recording) -> set[frozenset[str]]:
    end = len(recording.steps)
    return {frozenset(recording.state(SEED + n, mode, end).files) for n in range(STATES) for mode in MODES}


def recorded(disk: Path, log: Path, synchronous: str, fail: str | None = None) -> tuple[Outcome, Recording]:
    outcome = run_under_shim(program(disk, synchronous), directory=disk, log=log, fail=fail)
    return outcome, load(log)


def verdict(directory: Path, acks: list[bytes]) -> Verdict:
    """Open what is in `directory` as a restarted store would, and compare it with what was acknowledged."""
    try:
        with closing(sqlite3.connect(directory / "log.db")) as log:
            (integrity,) = log.execute("PRAGMA integrity_check").fetchone()
            made = log.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'event'").fetchone() == (1,)
            rows = log.execute("SELECT position, payload FROM event ORDER BY position").fetchall() if made else []
    except sqlite3.DatabaseError:
        return "corrupt"
    if integrity != "ok" or rows != [(position, appender.payload(position)) for position in range(1, len(rows) + 1)]:
        return "corrupt"
    # One more row than was acknowledged may be stored: the one whose acknowledgement was on its way.
    assert len(rows) <= len(acks) + 1, "the recording lacks acknowledgements"
    return "ok" if len(rows) >= len(acks) else "lost"


def verdicts(recording: Recording) -> Counter[Verdict]:
    return Counter(verdict(crash.directory, crash.acks) for crash in states(recording, STATES, SEED))


def test_synchronous_full_loses_no_acknowledged_row(disk: Path, tmp_path: Path) -> None:
    _, recording = recorded(disk, tmp_path / "recording", "FULL")
    assert len(recording.acks) == ROWS
    for crash in states(recording, STATES, SEED):
        assert verdict(crash.directory, crash.acks) == "ok", crash.cut


def test_synchronous_normal_is_seen_to_lose_acknowledged_rows_but_not_to_corrupt(disk: Path, tmp_path: Path) -> None:
    _, recording = recorded(disk, tmp_path / "recording", "NORMAL")
    seen = verdicts(recording)
    assert seen["lost"] > STATES // 10
    assert seen["corrupt"] == 0


def test_synchronous_off_is_seen_to_corrupt(disk: Path, tmp_path: Path) -> None:
    _, recording = recorded(disk, tmp_path / "recording", "OFF")
    seen = verdicts(recording)
    assert seen["corrupt"] > 0
    assert seen["lost"] > 0


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_a_kill_at_any_call_leaves_every_acknowledged_row(disk: Path, when: When) -> None:
    with memory_directory() as elsewhere:
        calls = run_under_shim(program(elsewhere, rows=20), directory=elsewhere).calls
    assert calls > 60
    for kill_at in sorted({1, 2, calls // 4, calls // 2, calls // 2 + 1, calls}):
        with memory_directory() as directory:
            outcome = run_under_shim(program(directory, rows=20), directory=directory, kill_at=kill_at, when=when)
            assert (outcome.returncode, outcome.injected) == (-9, 1), kill_at
            assert verdict(directory, outcome.acks) == "ok", kill_at


@pytest.mark.parametrize(("when", "content"), [("before", b""), ("torn", b"1234"), ("after", b"12345678")])
def test_a_kill_happens_just_where_it_was_planned(disk: Path, tmp_path: Path, when: When, content: bytes) -> None:
    write = "os.write(os.open('file', os.O_CREAT | os.O_WRONLY), b'12345678')"
    outcome, recording = recorded_code(write, disk, tmp_path / "log", kill_at=2, when=when)
    assert (outcome.returncode, outcome.injected) == (-9, 1)
    assert files_in(disk) == everything(recording) == {"file": content}


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        ("fsync:20:EIO:1", "disk I/O error"),
        ("write:60:EIO:1", "disk I/O error"),
        ("write:60:ENOSPC:3", "database or disk is full"),
        ("truncate:1:EIO:1", "disk I/O error"),
    ],
)
def test_a_failing_call_reaches_the_program_and_no_acknowledged_row_is_lost(
    disk: Path, tmp_path: Path, fail: str, error: str
) -> None:
    outcome, recording = recorded(disk, tmp_path / "recording", "FULL", fail)
    assert outcome.injected > 0
    assert outcome.returncode == 1
    assert error in outcome.stderr
    assert 0 < len(outcome.acks) < ROWS
    assert outcome.acks == recording.acks
    for crash in states(recording, STATES, SEED):
        assert verdict(crash.directory, crash.acks) == "ok", crash.cut
    assert verdict(disk, outcome.acks) == "ok"


def test_a_short_write_is_finished_by_sqlite(disk: Path, tmp_path: Path) -> None:
    outcome, recording = recorded(disk, tmp_path / "recording", "FULL", "write:60:SHORT:1,write:90:SHORT:2")
    assert (outcome.returncode, outcome.injected, len(recording.acks)) == (0, 3, ROWS)
    assert verdict(disk, outcome.acks) == "ok"


def test_a_recording_replayed_whole_equals_what_is_on_disk(disk: Path, tmp_path: Path) -> None:
    """The files of a killed process are in the page cache, and a power cut that loses nothing leaves just those."""
    run_under_shim(program(disk), directory=disk, log=tmp_path / "recording", kill_at=250, when="torn")
    # The next process goes on in the same recording.
    outcome = run_under_shim(program(disk), directory=disk, log=tmp_path / "recording", kill_at=200)
    assert outcome.injected == 1
    assert everything(load(tmp_path / "recording")) == files_in(disk)


def test_every_way_to_change_a_file_is_recorded(disk: Path, tmp_path: Path) -> None:
    change = """
import shutil
with open("copied", "wb") as file: file.write(b"0123456789" * 100)
file = os.open("written", os.O_CREAT | os.O_RDWR)
os.write(file, b"write")
os.pwrite(file, b"pwrite", 600)
os.writev(file, [b"wri", b"tev"])
os.pwritev(file, [b"pwri", b"tev"], 1200)
os.ftruncate(file, 1204)
os.posix_fallocate(file, 0, 2000)
appended = os.open("written", os.O_WRONLY | os.O_APPEND)
os.write(appended, b"at the end")
os.truncate("written", 2005)
shutil.copyfile("copied", "copy")
shutil.copyfile("copied", "emptied")
open("emptied", "wb").close()
os.mkdir("below")
here = os.open("below", os.O_RDONLY)
os.close(os.open("by descriptor", os.O_CREAT | os.O_WRONLY, dir_fd=here))
os.rename("by descriptor", "renamed", src_dir_fd=here, dst_dir_fd=here)
os.replace("copied", "below/moved")
os.close(os.open("gone", os.O_CREAT | os.O_WRONLY))
os.unlink("gone")
open("below/also gone", "x").close()
os.unlink("also gone", dir_fd=here)
"""
    outcome, recording = recorded_code(change, disk, tmp_path / "log")
    assert outcome.returncode == 0, outcome.stderr
    assert files_in(disk).keys() == {"written", "copy", "emptied", "below/renamed", "below/moved"}
    assert everything(recording) == files_in(disk)


SYNC_DIRECTORY = "os.fsync(os.open('.', os.O_RDONLY))\n"
TWO_FILES = """
one, two = (os.open(name, os.O_CREAT | os.O_WRONLY) for name in ("one", "two"))
os.write(one, b"1")
os.write(two, b"2")
"""


def test_fsync_makes_its_own_file_durable_and_no_other(disk: Path, tmp_path: Path) -> None:
    _, recording = recorded_code(TWO_FILES + SYNC_DIRECTORY + "os.fdatasync(two)", disk, tmp_path / "log")
    assert possible(recording, "one") == {b"", b"1"}
    assert possible(recording, "two") == {b"2"}


def test_a_name_is_durable_only_once_its_directory_was_synced(disk: Path, tmp_path: Path) -> None:
    _, recording = recorded_code(TWO_FILES + "os.fsync(one)", disk, tmp_path / "log")
    assert possible(recording, "one") == {None, b"1"}
    assert possible(recording, "one", ("drop",)) == {None}


def test_an_unlink_may_be_undone_until_the_directory_is_synced(disk: Path, tmp_path: Path) -> None:
    unlink = TWO_FILES + "os.fsync(one)\n" + SYNC_DIRECTORY + "os.unlink('one')\n"
    _, recording = recorded_code(unlink, disk, tmp_path / "pending")
    assert possible(recording, "one") == {None, b"1"}
    with memory_directory() as elsewhere:
        _, recording = recorded_code(unlink + SYNC_DIRECTORY, elsewhere, tmp_path / "durable")
    assert possible(recording, "one") == {None}


def test_a_file_has_at_most_one_of_the_names_it_was_given_in_turn(disk: Path, tmp_path: Path) -> None:
    rename = "open('a', 'w').close()\nos.rename('a', 'b')\nos.rename('b', 'c')"
    _, recording = recorded_code(rename, disk, tmp_path / "log")
    assert names(recording) == {frozenset(), frozenset({"a"}), frozenset({"b"}), frozenset({"c"})}


def test_a_rename_between_directories_is_durable_once_one_of_them_is_synced(disk: Path, tmp_path: Path) -> None:
    rename = "open('a', 'w').close()\nos.mkdir('below')\nos.rename('a', 'below/a')\n"
    _, recording = recorded_code(rename + "os.fsync(os.open('below', os.O_RDONLY))", disk, tmp_path / "log")
    assert names(recording) == {frozenset({"below/a"})}


def test_writes_are_torn_where_sectors_end(disk: Path, tmp_path: Path) -> None:
    write = "file = os.open('file', os.O_CREAT | os.O_WRONLY)\n" + SYNC_DIRECTORY + "os.pwrite(file, b'x' * 2000, 100)"
    _, recording = recorded_code(write, disk, tmp_path / "log")
    assert possible(recording, "file", ("drop", "prefix")) == {b"", bytes(100) + b"x" * 2000}
    torn = {content for content in possible(recording, "file", ("random",)) if content}
    assert len(torn) > 10
    for content in torn:
        sectors = [content[begin : begin + 512] for begin in range(0, len(content), 512)]
        assert all(len(set(sector.removeprefix(bytes(100)) or b"0")) == 1 for sector in sectors)


def test_a_recording_can_begin_with_files_that_were_there(disk: Path, tmp_path: Path) -> None:
    (disk / "file").write_bytes(b"old")
    with pytest.raises(ValueError, match="initial"):
        recorded_code("os.pwrite(os.open('file', os.O_WRONLY), b'new', 0)", disk, tmp_path / "log")
    recording = load(tmp_path / "log", {"file": b"old"})
    assert possible(recording, "file") == {b"old", b"new"}


PUBLISH = """
open("lock", "w").close()
os.mkdir("archive")
with open("archive/.part", "wb") as part:
    part.write(b"x" * 5000)
    part.flush()
    os.fsync(part.fileno())
os.replace("archive/.part", "archive/segment")
os.fsync(os.open("archive", os.O_RDONLY))
print("published", flush=True)
"""
SYNC_PART, SYNC_ARCHIVE = "    os.fsync(part.fileno())\n", 'os.fsync(os.open("archive", os.O_RDONLY))\n'


@pytest.mark.parametrize(
    ("forgotten", "absent", "damaged"), [("", False, False), (SYNC_PART, False, True), (SYNC_ARCHIVE, True, False)]
)
def test_publishing_by_rename_needs_both_syncs(
    disk: Path, tmp_path: Path, forgotten: str, absent: bool, damaged: bool
) -> None:
    outcome, recording = recorded_code(PUBLISH.replace(forgotten, ""), disk, tmp_path / "log")
    assert outcome.acks == recording.acks == [b"published"], outcome.stderr
    contents = possible(recording, "archive/segment")
    assert b"x" * 5000 in contents
    assert (None in contents) is absent
    assert bool(contents - {None, b"x" * 5000}) is damaged


def test_a_failed_fsync_is_not_healed_by_a_later_one(disk: Path, tmp_path: Path) -> None:
    retry = "try: os.fsync(one)\nexcept OSError: os.fsync(one)"
    outcome, recording = recorded_code(TWO_FILES + SYNC_DIRECTORY + retry, disk, tmp_path / "log", fail="fsync:2:EIO:1")
    assert (outcome.returncode, outcome.injected) == (0, 1), outcome.stderr
    assert possible(recording, "one") == {b""}


def test_a_cut_names_a_state_that_can_be_made_again(disk: Path, tmp_path: Path) -> None:
    come_and_go = f"""{TWO_FILES}
{SYNC_DIRECTORY}
os.ftruncate(two, 0)
os.unlink("one")
{SYNC_DIRECTORY}
os.mkdir("below")
os.rename("two", "below/two")
"""
    _, recording = recorded_code(come_and_go, disk, tmp_path / "log")
    for crash in states(recording, STATES, SEED):
        again = recording.state(crash.cut.seed, crash.cut.mode, crash.cut.upto)
        assert files_in(crash.directory) == again.files
        assert crash.acks == again.acks


def test_the_shim_does_nothing_unless_told_to(disk: Path) -> None:
    settings = {**os.environ, "LD_PRELOAD": str(shim())}
    subprocess.run(program(disk, rows=5), env=settings, check=True, capture_output=True)
    assert verdict(disk, [b"1", b"2", b"3", b"4", b"5"]) == "ok"


@pytest.mark.parametrize(
    "fail", ["fsync:5:EIO", "fsink:5:EIO:1", "fsync:5:EWHAT:1", "fsync:x:EIO:1", "fsync:1:SHORT:1"]
)
def test_a_plan_the_shim_does_not_understand_stops_the_process(disk: Path, fail: str) -> None:
    outcome = run_under_shim(program(disk), directory=disk, fail=fail)
    assert outcome.returncode == 96
    assert "fault shim" in outcome.stderr


def test_threads_are_recorded_in_one_order(disk: Path, tmp_path: Path) -> None:
    # All threads write the same places, so that the file shows who was last, and the recording must agree.
    race = """
import threading
together = threading.Barrier(4)
def write(name, mark):
    file = os.open(name, os.O_CREAT | os.O_RDWR)
    together.wait()
    for place in range(10000):
        os.pwrite(file, mark, place)
    os.fsync(file)
threads = [threading.Thread(target=write, args=("file", mark)) for mark in (b"1", b"2", b"3", b"4")]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    outcome, recording = recorded_code(race + SYNC_DIRECTORY, disk, tmp_path / "log")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.calls == 1 + 4 * 10001 + 1
    assert recording.state(SEED, "drop", len(recording.steps)).files == files_in(disk)


def test_states_are_made_quickly(disk: Path, tmp_path: Path) -> None:
    """Prints the rate. It asserts only what a slow and busy machine can do, so that it fails for a reason."""
    _, recording = recorded(disk, tmp_path / "recording", "FULL")
    begin = time.perf_counter()
    made: list[CrashState] = list(states(recording, 2_000, SEED))
    rate = len(made) / (time.perf_counter() - begin)
    print(f"{rate:.0f} states/s of {len(recording.steps)} steps")
    assert rate > 200
