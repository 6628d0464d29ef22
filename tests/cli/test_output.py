"""Data in every form, whole and harmless; words beside it."""

import csv
import io
import itertools
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from everlog.cli.output import Envelope, Format, Output, view_of, visible
from tests.cli.conftest import PROGRAM, event, fill, here, id_of

LISTS = [
    ["event", "list"],
    ["stream", "list"],
    ["stream", "show", "order-o-1"],
    ["audit", "list"],
    ["schema", "list"],
    ["snapshot", "list"],
    ["doctor"],
    ["stream", "state", "order", "o-1"],
    ["stream", "diff", "order", "o-1", "--from", "0"],
    ["event", "get", str(UUID(bytes=id_of(1)))],
]


@pytest.mark.parametrize("line", LISTS, ids=" ".join)
def test_json_is_one_envelope_of_the_documented_schema(diverse: Path, line: list[str]) -> None:
    ran = here(*line, "--json")
    assert ran.code == 0, ran.err
    envelope = msgspec.json.decode(ran.out, type=Envelope)
    assert (envelope.version, envelope.status) == (1, "ok")
    assert list(ran.json) == ["version", "data", "status", "diagnostics"]
    assert here(*line, "-o", "json").json == ran.json


@pytest.mark.parametrize("line", LISTS, ids=" ".join)
@pytest.mark.parametrize("form", ["ndjson", "csv", "plain"])
def test_every_other_form_is_one_record_a_line(diverse: Path, line: list[str], form: str) -> None:
    ran = here(*line, "-o", form)
    assert ran.code == 0, ran.err
    if form == "ndjson":
        assert all(isinstance(one, dict) for one in ran.lines)
    elif form == "csv":
        header, *rows = csv.reader(io.StringIO(ran.out))
        assert {len(row) for row in rows} <= {len(header)}
    else:
        assert len({one.count("\t") for one in ran.out.splitlines()}) <= 1


@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "plain", "table"])
def test_ids_and_values_are_never_cut_off_a_terminal(folder: Path, form: str) -> None:
    name = "s-" + "x" * 190
    fill(folder / "a.db", [event(name, "t", b'{"x":"' + b"y" * 5000 + b'"}', id=id_of(1))])
    out = here("--store", "sqlite:///a.db", "event", "list", "-o", form).out
    assert name in out
    assert "y" * 5000 in out
    if form != "table":
        assert str(UUID(bytes=id_of(1))) in out


def at_a_terminal(*line: str, width: int = 60, env: dict[str, str] | None = None) -> str:
    us, them = pty.openpty()
    environment = os.environ | {"COLUMNS": str(width), "TERM": "xterm"} | (env or {})
    with subprocess.Popen([*PROGRAM, *line], stdin=them, stdout=them, stderr=them, env=environment) as running:
        os.close(them)
        told = b""
        while True:
            try:
                told += os.read(us, 65536)
            except OSError:  # what Linux says when the other end is gone
                break
        running.wait(timeout=60)
    os.close(us)
    return told.decode().replace("\r\n", "\n")


def test_a_table_fits_the_terminal_and_what_says_most_is_cut_first(diverse: Path) -> None:
    _, first, *_ = at_a_terminal("event", "list", "--raw", width=84).splitlines()
    assert first == '1         2026-01-01T00:00:00Z  order-o-1  1        order.placed     {"order_id":"o…'
    header, *lines = at_a_terminal("event", "list", "--raw", width=60).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert "…" in header
    assert "…" not in here("event", "list", "--raw").out


def test_colors_go_with_a_flag_or_a_variable(diverse: Path) -> None:
    broken = ["event", "list", "--since", "soon"]
    red = "\x1b[1;31m"
    assert red in at_a_terminal(*broken)
    assert red not in at_a_terminal(*broken, "--no-color")
    assert red not in at_a_terminal(*broken, env={"NO_COLOR": "1"})
    assert red not in here(*broken).err


def test_what_others_stored_does_not_drive_the_terminal(folder: Path) -> None:
    nasty = event(
        "s-1", "t", b'{"x":"\\u001b[2J\xc2\x9b"}', client=b'{"user_agent":"a\\u001b]0;b\\u0007\\n\\u202e[red]"}'
    )
    fill(folder / "a.db", [nasty])
    for form in ("table", "plain"):
        for command in ("event", "audit"):
            out = here("--store", "sqlite:///a.db", command, "list", "-o", form).out
            assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out)
            assert len(out.splitlines()) == (2 if form == "table" else 1)
    assert "[red]" in here("--store", "sqlite:///a.db", "audit", "list").out
    ran = here("--store", "sqlite:///a.db", "event", "append", "s\x1b[2J", "--type", "t")
    assert "\x1b" not in ran.err


def test_what_is_printable_is_shown_as_it_is() -> None:
    assert visible("Zürich 東京 🙂") == "Zürich 東京 🙂"
    assert visible("a\tb\n\x1b") == "a\\tb\\n\\x1b"


def test_a_table_says_when_there_is_more_and_other_forms_hold_all(folder: Path) -> None:
    store = ["--store", "sqlite:///a.db"]
    assert here(*store, "event", "append", "s-1", stdin='{"type":"t","data":{}}\n' * 51).code == 0
    for command in (["event", "list"], ["audit", "list"], ["stream", "show", "s-1"]):
        ran = here(*store, *command)
        assert len(ran.out.splitlines()) == 1 + 50
        assert "only the first 50 are shown" in ran.err
        assert len(here(*store, *command, "--limit", "51").out.splitlines()) == 1 + 51
        assert "only" not in here(*store, *command, "--limit", "51").err
        assert len(here(*store, *command, "-o", "ndjson").lines) == 51
        assert len(here(*store, *command, "--json").data) == 51
        assert len(here(*store, *command, "-o", "csv").out.splitlines()) == 1 + 51


def test_exactly_a_table_full_is_all_there_is(folder: Path) -> None:
    store = ["--store", "sqlite:///a.db"]
    here(*store, "event", "append", "s-1", stdin='{"type":"t","data":{}}\n' * 50)
    assert "only" not in here(*store, "event", "list").err


class Narrow(io.BytesIO):
    """A reader that has seen enough after three lines."""

    def write(self, data: Any) -> int:
        if self.getvalue().count(b"\n") > 3:
            raise BrokenPipeError
        return super().write(data)


@pytest.mark.parametrize("form", [Format.JSON, Format.NDJSON, Format.CSV, Format.PLAIN])
def test_a_list_is_written_while_it_is_read(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(Narrow()))
    endless = ({"n": number} for number in itertools.count())
    with pytest.raises(BrokenPipeError):
        Output(form).listing(view_of({"n": 0}), endless)


def test_notes_go_to_standard_error_and_are_left_out_when_quiet(diverse: Path) -> None:
    empty = here("event", "list", "--actor", "nobody")
    assert (empty.out, empty.err) == ("", "nothing found\n")
    assert here("event", "list", "--actor", "nobody", "-q").err == ""
    assert here("event", "list", "--since", "soon", "-q").err != ""


def test_a_failure_is_told_in_both_languages(diverse: Path) -> None:
    ran = here("event", "get", str(UUID(int=5)), "--json")
    assert (ran.code, ran.data, ran.json["status"]) == (3, None, "error")
    [diagnostic] = ran.json["diagnostics"]
    assert (diagnostic["level"], diagnostic["code"]) == ("error", "not_found")
    assert ran.err == f"error: {diagnostic['message']}\n"


def test_a_list_that_fails_halfway_is_still_json(diverse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        yield from ()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("everlog.app.session.Session.events", failing)
    ran = here("event", "list", "--json")
    assert (ran.code, ran.json["status"], ran.data) == (6, "error", [])


def test_numbers_that_may_not_fit_are_texts(diverse: Path) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert "position" not in value or isinstance(value["position"], str)
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    for line in LISTS:
        check(here(*line, "--json").json)


def test_one_event_is_shown_with_all_its_fields(diverse: Path) -> None:
    id = str(UUID(bytes=id_of(1)))
    shown = dict(line.split(maxsplit=1) for line in here("event", "get", id).out.splitlines() if " " in line)
    assert (shown["position"], shown["id"], shown["actor"]) == ("1", id, "ann")
    data = here("event", "get", id, "--json").data
    assert (data["id"], data["data"]["currency"]) == (id, "EUR")
    assert "currency" not in here("event", "get", id, "--json", "--raw").data["data"]


def test_one_event_that_became_two_or_none_is_shown_as_such(diverse: Path) -> None:
    two = here("event", "get", str(UUID(bytes=id_of(5))), "--json").data
    assert [one["type"] for one in two] == ["order.paid", "order.shipped"]
    none = here("event", "get", str(UUID(bytes=id_of(6))), "--json")
    assert (none.data["type"], "drops this event" in none.err) == ("order.noted", True)


def test_an_event_of_another_tenant_is_not_there(diverse: Path) -> None:
    id = str(UUID(bytes=id_of(7)))
    assert here("event", "get", id, "--tenant", "acme").code == 0
    theirs, nobodys = here("event", "get", id), here("event", "get", str(UUID(int=1)))
    assert (theirs.code, nobodys.code) == (3, 3)
    assert theirs.err.replace(id, "") == nobodys.err.replace(str(UUID(int=1)), "")


def test_the_trail_tells_who_what_when_from_where(diverse: Path) -> None:
    [entry] = here("audit", "list", "-o", "ndjson", "--ip", "192.0.2.7").lines
    assert (entry["what"], entry["when"], entry["user_agent"]) == (
        "order.placed",
        "2026-01-01T00:00:01.000000Z",
        "curl/8",
    )
    assert json.loads(here("audit", "export", "--ip", "192.0.2.7").out) == entry


def test_each_form_has_a_name() -> None:
    assert [form.value for form in Format] == ["table", "json", "ndjson", "csv", "plain"]
