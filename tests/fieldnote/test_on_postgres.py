"""The demo on PostgreSQL: the same story, told again without a change, and what it says to type works."""

import json
import sys
from pathlib import Path

import pytest

from everlog.fieldnote.demo import run
from tests.cli.conftest import here
from tests.fieldnote.parts import stored
from tests.fieldnote.test_look_further import SHOWN


def test_the_story_is_the_one_told_on_sqlite_and_may_be_told_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where the mails go
    monkeypatch.setattr(sys, "argv", ["everlog"])
    on_file = f"sqlite:///{tmp_path}/demo.db"
    run(on_file, wait=False)
    said = capsys.readouterr().out
    for _ in range(2):
        run(database, wait=False)
        assert stored(database) == stored(on_file)
        told = capsys.readouterr().out
        assert told.replace(database, on_file).replace(".everlog/outbox", f"{tmp_path}/outbox") == said
    run(database, wait=False, json=True)
    hints = json.loads(capsys.readouterr().out)["look_further"]
    for words, hint in zip(SHOWN.items(), hints, strict=True):
        ran = here(*hint["command"].split()[1:])
        assert (ran.code, words[1] in ran.out) == (0, True), f"{hint['command']}: {ran.err}"
