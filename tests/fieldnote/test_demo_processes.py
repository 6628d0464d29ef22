"""The demo as a process: killed, stopped, started twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from everlog.core.envelope import StoredEvent
from tests.fieldnote.parts import stored

RUN = "import sys; from everlog.fieldnote.demo import run; run(sys.argv[1], wait=sys.argv[2] == 'wait')"
# The clock is asked in every append, inside its transaction, and by the worker: there the process dies, the n-th time.
DIE = """
import os, signal, sys
from everlog.fieldnote import demo

class Clock(demo.StoryClock):
    left = int(sys.argv[2])

    def __call__(self):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__()

demo.StoryClock = Clock
demo.run(sys.argv[1], wait=False)
"""


def demo(program: str, url: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, url, argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/demo.db"
    assert finished(demo(RUN, url, "no"))[0] == 0
    return stored(url)


def test_without_waiting_it_exits(tmp_path: Path) -> None:
    code, out, err = finished(demo(RUN, f"sqlite:///{tmp_path}/demo.db", "no"))
    assert (code, err) == (0, "")
    assert "How to look further" in out


@pytest.mark.parametrize("moment", [1, 5, 40, 90, 110, 140, 170, 200, 230])
def test_killed_in_the_middle_it_is_completed_by_running_again(
    tmp_path: Path, whole: list[object], moment: int
) -> None:
    url = f"sqlite:///{tmp_path}/demo.db"
    assert finished(demo(DIE, url, str(moment)))[0] == -signal.SIGKILL
    assert finished(demo(RUN, url, "no"))[0] == 0
    assert _beside_the_incident(stored(url)) == _beside_the_incident(whole)


def _beside_the_incident(events: list[Any]) -> list[Any]:
    """An incident tells how many attempts there were and how the last one ended, and a kill is one of them."""
    return [
        one._replace(data=None) if isinstance(one, StoredEvent) and one.type == "incident.opened" else one
        for one in events
    ]


def test_several_at_once_store_what_one_would_have(tmp_path: Path, whole: list[object]) -> None:
    url = f"sqlite:///{tmp_path}/demo.db"
    answers = [finished(process) for process in [demo(RUN, url, "no") for _ in range(4)]]
    assert [(code, err) for code, _, err in answers] == [(0, "")] * 4
    assert len({out for _, out, _ in answers}) == 1
    assert stored(url) == whole


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_waits_until_it_is_stopped(tmp_path: Path, sign: signal.Signals, code: int) -> None:
    process = demo(RUN, f"sqlite:///{tmp_path}/demo.db", "wait")
    assert process.stderr is not None
    assert process.stderr.readline() == "Waiting: Ctrl-C stops.\n"
    assert process.poll() is None
    process.send_signal(sign)
    ended, out, err = finished(process)
    assert (ended, err) == (code, "")
    assert "How to look further" in out
