"""What the demo tells people to type works as printed."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from everlog.fieldnote.demo import run

EVERLOG = "import sys; from everlog.cli import main; sys.argv[0] = 'everlog'; sys.exit(main())"
SHOWN = {
    "audit list": "tenant.suspended",
    "stream state": "ben@example.org",
    "stream diff": "b.okafor@example.org",
    "event list": "user.role_changed",
    "stream list": "user-u-5",
    "processor list": "resource-allocation",
    "dlq list": "",
    "projection get": "farid@example.org",
    "time state": "Acme Robots",
    "snapshot list": "user-u-1",
    "schema list": "user.profile_updated",
    "schema replay": "",
    "doctor": "",
}


@pytest.fixture(scope="module")
def hints(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        told: list[str] = []
        patch.setattr(sys, "argv", ["everlog"])
        patch.setattr("everlog.fieldnote.screen.sys.stdout.write", told.append)
        run(f"sqlite:///{tmp_path_factory.mktemp('it is')}/demo.db", wait=False, json=True)
    return [shlex.split(hint["command"]) for hint in json.loads("".join(told))["look_further"]]


def words(command: list[str]) -> str:
    """The noun and the verb, which stand behind `--app … --store …`."""
    return " ".join(word for word in command[5:7] if not word.startswith("-"))


def test_every_noun_is_there(hints: list[list[str]]) -> None:
    assert [words(command) for command in hints] == list(SHOWN)


@pytest.mark.parametrize("number", range(len(SHOWN)), ids=list(SHOWN))
def test_a_printed_command_shows_what_it_promises(hints: list[list[str]], tmp_path: Path, number: int) -> None:
    program, *arguments = hints[number]
    assert program == "everlog"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVERLOG_")}
    done = subprocess.run(
        [sys.executable, "-c", EVERLOG, *arguments],
        capture_output=True, text=True, cwd=tmp_path, env={**clean, "COLUMNS": "200"}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr if done.returncode else "") == (0, "")
    assert SHOWN[words(hints[number])] in done.stdout
