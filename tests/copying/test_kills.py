"""`everlog store copy` killed anywhere, again and again: run until it ends, it has moved all there was."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from everlog import LogClosed
from everlog.app.copying import copy_log
from tests.copying.conftest import Place
from tests.copying.logs import append, everything, fill, kept, opened

SLOWLY = """
import os, signal, sys
from everlog.app import copying
copying.PAGE, copying._CLOSE_AT = 20, 0
source, target, *stage = sys.argv[1:]
if stage:
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    def keep_some_and_die(self, original=copying._Copying._copy_kept):
        self._target.exact.keep = die
        original(self)
    setattr(copying._Copying, stage[0], keep_some_and_die if stage[0] == "_copy_kept" else die)
copying.copy_log(source, target, tell=lambda now: print(now.done, flush=True))
"""
COPY = [sys.executable, "-c", SLOWLY]
KILLS = 4
STAGES = ("_copy_tags", "_copy_releases", "_compare_streams", "_copy_kept", "_told")
"""The steps after the last row: the source is closed in most of them, and in the last one the target is open."""


PAIRS = pytest.mark.parametrize(("source", "target"), [("file", "pg"), ("pg", "file")])


@PAIRS
def test_killed_anywhere_it_goes_on_and_loses_nothing(place: Place, source: str, target: str) -> None:
    seed = os.environ.get("EVERLOG_SEED") or str(random.randrange(10**6))
    chance = random.Random(seed)
    fill(place(source))
    with opened(place(source)) as store:
        store.checkpoints.register("mails", "processor", 1, 7)
    killed: list[int] = []
    acknowledged: list[int] = []
    with opened(place(source)) as store:
        for _ in range(KILLS):
            killed.append(_kill_one(place(source), place(target), chance))
            with suppress(LogClosed):
                acknowledged.append(append(store, "meanwhile"))
        before = everything(store)
    print(f"EVERLOG_SEED={seed}, killed after steps: {killed}")
    copied = copy_log(place(source), place(target))
    with opened(place(target)) as store:
        assert everything(store) == everything_of(place(source)) | {"head": before["head"]}
        assert [e.position for e in store.read_stream("acme", "note-1")] == acknowledged
        assert store.head().incarnation == copied.incarnation == 2
        append(store, "afterwards")
        assert [one for one in store.examine(deep=True) if one.level == "problem"] == []


@PAIRS
def test_killed_in_any_of_its_last_steps_it_goes_on(place: Place, source: str, target: str) -> None:
    fill(place(source))
    with opened(place(source)) as store:
        store.checkpoints.register("mails", "processor", 1, 7)
    for stage in STAGES:
        copy = subprocess.run([*COPY, place(source), place(target), stage], stdout=subprocess.DEVNULL, check=False)
        assert copy.returncode == -signal.SIGKILL
        with opened(place(source)) as ours, opened(place(target)) as theirs:
            takes = [one.exact.gate().closed == "" for one in (ours, theirs)]
            assert takes == [stage == "_copy_tags", stage == "_told"], f"killed in {stage}"
    copied = copy_log(place(source), place(target))
    with opened(place(source)) as ours, opened(place(target)) as theirs:
        assert everything(theirs) == everything(ours)
        assert kept(theirs) == kept(ours) | {"origin": kept(theirs)["origin"]}
        assert [row[:3] for row in kept(theirs)["origin"]] == [(2, 1, ours.head().position)]
        assert theirs.checkpoints.progress()[0].position == 7
    assert (copied.incarnation, copied.already) == (2, True)


def everything_of(url: str) -> dict[str, object]:
    with opened(url) as store:
        return everything(store)


def _kill_one(source: str, target: str, chance: random.Random) -> int:
    """Start a copy, kill it a moment after some step, and say after how many."""
    with subprocess.Popen([*COPY, source, target], stdout=subprocess.PIPE, text=True) as copy:
        assert copy.stdout is not None
        steps, wanted = 0, chance.choice([1, 5, 20, 60])
        for _ in copy.stdout:
            steps += 1
            if steps == wanted:
                break
        time.sleep(chance.random() * 0.05)
        copy.send_signal(signal.SIGKILL)
        copy.communicate()
    return steps
