"""Every error has an exit code, and every message says what to do next."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlog.cli.failures import EXIT_CODES, MEANINGS, ExitCode, exit_code
from everlog.core.errors import EverlogError, StoreUnavailable
from tests.cli.conftest import PROGRAM, URL, here, interrupted, process


def errors(root: type[EverlogError] = EverlogError) -> Iterator[type[EverlogError]]:
    for cls in root.__subclasses__():
        yield cls
        yield from errors(cls)


def test_every_error_of_everlog_has_an_exit_code() -> None:
    ours = [cls for cls in errors() if cls.__module__.startswith("everlog.")]
    assert {cls.code for cls in ours} - set(EXIT_CODES) == set()


def test_every_exit_code_means_something() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 7, 70, 130]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied"), 4),
        (FileNotFoundError(2, "No such file"), 3),
        (IsADirectoryError(21, "Is a directory"), 2),
        (OSError(28, "No space left on device"), 6),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_errors_of_the_system_have_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_a_store_that_may_not_be_opened_is_a_matter_of_permission() -> None:
    error = StoreUnavailable("cannot open the lock file")
    error.__cause__ = PermissionError(13, "Permission denied")
    assert exit_code(error) == 4


def test_a_folder_that_this_user_may_not_look_into(diverse: Path) -> None:
    here("event", "list")  # whatever is imported late is imported now: the other user may not read where it lies
    diverse.chmod(0o700 if os.geteuid() == 0 else 0o000)
    user = os.geteuid()
    if user == 0:  # who may do everything
        os.seteuid(65534)
    try:
        ran = here("event", "list")
    finally:
        os.seteuid(user)
        diverse.chmod(0o700)
    assert (ran.code, "Permission denied" in ran.err) == (4, True)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["event", "list", "-q"], 0),
        (["--version"], 0),
        (["--help"], 0),
        (["event", "append", "--help"], 0),
        (["schema", "replay"], 1),
        ([], 2),
        (["event"], 2),
        (["evnt"], 2),
        (["event", "list", "--tpe", "x"], 2),
        (["event", "list", "-o", "xml"], 2),
        (["--app", "nope:nope", "event", "list"], 2),
        (["--store", "mysql://x", "event", "list"], 2),
        (["--store", "sqlite:///everlog.toml", "event", "list"], 2),
        (["--store", "sqlite:///shop.db?synchronous=OFF", "event", "list"], 2),
        (["--tenant", "a b", "event", "list"], 2),
        (["event", "get", "00000000-0000-0000-0000-000000000000"], 3),
        (["--store", "sqlite:///nothing.db", "event", "list"], 3),
        (["--store", "sqlite:///no/folder/x.db", "event", "append", "s-1", "--type", "t"], 2),
        (["event", "append", "order-o-1", "--type", "t", "--expect", "9"], 5),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_process_exits_with_its_code_and_without_a_traceback(diverse: Path, line: list[str], code: int) -> None:
    (diverse / "unknown.ndjson").write_text("")
    if line == ["schema", "replay"]:
        here("event", "append", "x-1", "--type", "x.unheard")
    ran = process(*line)
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    assert (ran.err == "") == (code == 0)


def test_a_busy_store_is_unavailable(diverse: Path) -> None:
    ran = subprocess.run(
        [
            "flock",
            "shop.db-write.lock",
            *PROGRAM,
            "--store",
            f"{URL}?lock_timeout=0.1",
            "event",
            "append",
            "s-1",
            "--type",
            "t",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, "nothing was stored" in ran.stderr or "lock" in ran.stderr) == (6, True), ran.stderr


@pytest.mark.parametrize(
    ("line", "suggestion"),
    [(["evnt", "list"], "event"), (["event", "lst"], "list"), (["stream", "dif"], "diff"), (["schem"], "schema")],
    ids=" ".join,
)
def test_a_misspelled_command_gets_the_nearest(diverse: Path, line: list[str], suggestion: str) -> None:
    ran = here(*line)
    assert (ran.code, f"Did you mean '{suggestion}'?" in ran.err) == (2, True)


def test_a_misspelled_option_gets_the_nearest(diverse: Path) -> None:
    assert "--since" in here("event", "list", "--sinse", "now").err


@pytest.mark.parametrize("spelling", [["--json"], ["-o", "json"], ["--output", "json"], ["-ojson"], ["--output=json"]])
def test_a_line_that_cannot_be_read_is_told_in_json_where_that_was_asked_for(
    diverse: Path, spelling: list[str]
) -> None:
    ran = here("event", "list", *spelling, "--limit", "x")
    assert (ran.code, ran.json["status"], ran.json["diagnostics"][0]["code"]) == (2, "error", "usage")
    assert here("event", "list", "-o", "ndjson", "--limit", "x").out == ""


def test_an_error_nobody_foresaw_says_where(shop: Path) -> None:
    (shop / "odd.py").write_text((shop / "shop.py").read_text().replace("case Placed():", "case Placed() if 1 // 0:"))
    placed = '{"order_id":"o-1","cents":1,"currency":"EUR"}'
    here("event", "append", "order-o-1", "--type", "order.placed", "--data", placed)
    ran = here("--app", "odd:platform", "stream", "state", "order", "o-1")
    assert ran.code == 70
    assert "ZeroDivisionError" in ran.err
    assert "in evolve of" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in here("--app", "odd:platform", "stream", "state", "order", "o-1", "-d").err


def test_a_reader_who_has_seen_enough_is_no_error(shop: Path) -> None:
    (shop / "events.ndjson").write_text('{"type":"t","data":{}}\n' * 3000)
    append = "event append s-1 events.ndjson -o ndjson"
    for line in (append, "event list -o ndjson", "event export", "audit export --format csv", "event list --json"):
        shell = f"set -o pipefail; {shlex.join(PROGRAM)} {line} | head -c 10"
        ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, len(ran.stdout), "Traceback" in ran.stderr) == (0, 10, False), line
    assert len(here("event", "list", "-o", "ndjson").lines) == 3000, "what nobody looks at is appended all the same"


def test_closed_streams_are_no_error(diverse: Path) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        shell = f"{shlex.join(PROGRAM)} event list {closed}"
        assert subprocess.run(["bash", "-c", shell], capture_output=True, timeout=60, check=False).returncode == 0


def test_any_locale_gets_every_character(folder: Path) -> None:
    env = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    store = ["--store", "sqlite:///a.db"]
    assert here(*store, "event", "append", "s-1", "--type", "t", "--data", '{"x":"Zürich"}').code == 0
    for form in ("ndjson", "json", "csv", "plain", "table"):
        ran = process(*store, "event", "list", "-o", form, env=env)
        assert (ran.code, "Zürich" in ran.out) == (0, True), ran.err
    assert process(*store, "event", "get", "é", env=env).code == 2


def test_an_interrupted_demo_stops(folder: Path) -> None:
    ran = interrupted("demo", when=lambda text: "Waiting" in text)
    assert (ran.code, "Traceback" in ran.err) == (130, False)
