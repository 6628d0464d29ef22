"""`event import`, `event export` and `audit export`: whole or not at all, and safe to run again."""

import json
import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import here, interrupted, process

MAP = """
stream = "order-{id}"
type = "order noted down"
[data]
order_id = "id"
cents = { column = "cents", type = "integer" }
"""


@pytest.fixture
def orders(shop: Path) -> Path:
    """A file of three rows, one of them broken, and its map."""
    (shop / "map.toml").write_text(MAP)
    (shop / "orders.csv").write_text("id,cents\n1,100\n2,many\n3,300\n")
    return shop


def test_rows_become_events_and_what_does_not_is_named(orders: Path) -> None:
    ran = here("event", "import", "orders.csv", "--map", "map.toml", "--json")
    assert (ran.code, ran.json["status"]) == (7, "partial")
    assert {key: ran.data[key] for key in ("read", "imported", "known", "rejected", "rejects")} == {
        "read": 3,
        "imported": 2,
        "known": 0,
        "rejected": 1,
        "rejects": "orders.csv.rejects.ndjson",
    }
    assert "orders.csv.rejects.ndjson says which and why" in ran.err
    assert json.loads((orders / "orders.csv.rejects.ndjson").read_text())["line"] == 3
    again = here("event", "import", "orders.csv", "--map", "map.toml", "--json")
    assert (again.data["imported"], again.data["known"]) == (0, 2)
    assert [event["subject"] for event in here("event", "list", "-o", "ndjson").lines] == ["order-1", "order-3"]


def test_rows_of_a_declared_type_are_checked_and_tagged(orders: Path) -> None:
    """As an append of the same event would be."""
    (orders / "map.toml").write_text('stream = "order-{id}"\ntype = "{type}"\n[data]\norder_id = "id"\n')
    (orders / "orders.csv").write_text("id,type\n1,order.shipped\n2,order.placed\n")
    ran = here("event", "import", "orders.csv", "--map", "map.toml", "--json")
    assert (ran.code, ran.data["imported"], ran.data["rejected"]) == (7, 1, 1)
    reject = json.loads((orders / "orders.csv.rejects.ndjson").read_text())
    assert (reject["line"], "order.placed v2 cannot be read" in reject["reason"]) == (3, True)
    assert [event["subject"] for event in here("event", "list", "--tag", "order:1", "-o", "ndjson").lines] == [
        "order-1"
    ]


def test_rejects_go_where_they_are_wanted_and_events_to_the_tenant(orders: Path) -> None:
    line = ["event", "import", "orders.csv", "--map", "map.toml", "--rejects", "bad.ndjson", "--tenant", "acme"]
    assert here(*line).code == 7
    assert (orders / "bad.ndjson").exists()
    assert len(here("event", "list", "--tenant", "acme", "-o", "ndjson").lines) == 2
    assert here("event", "list", "-o", "ndjson").lines == []


def test_an_import_without_rejects_is_done(orders: Path) -> None:
    (orders / "orders.csv").write_text("id,cents\n1,100\n")
    ran = here("event", "import", "orders.csv", "--map", "map.toml")
    assert ran.code == 0, ran.err
    assert "imported        1" in ran.out


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (["missing.csv", "--map", "map.toml"], 3, "missing.csv"),
        (["orders.csv", "--map", "missing.toml"], 2, "missing.toml"),
        (["missing.ndjson"], 3, "missing.ndjson"),
        (["orders.csv", "--rejects", "x"], 2, "--rejects goes with --map"),
        (["orders.csv"], 2, "line 1: not JSON"),
        (["orders.csv", "--map", "broken.toml"], 2, "is not TOML"),
        (["orders.csv", "--map", "other.toml"], 2, "which orders.csv does not have"),
    ],
)
def test_what_cannot_be_imported_is_refused_before_anything_is_stored(
    orders: Path, line: list[str], code: int, says: str
) -> None:
    (orders / "broken.toml").write_text("stream = ")
    (orders / "other.toml").write_text('stream = "s-{nr}"\ntype = "t"\n')
    ran = here("event", "import", *line)
    assert (ran.code, says in ran.err) == (code, True), ran.err
    assert here("event", "list", "-o", "ndjson").out == ""


def test_progress_is_told_to_machines(orders: Path) -> None:
    ran = here("event", "import", "orders.csv", "--map", "map.toml", "--progress", "json")
    told = json.loads(ran.err.splitlines()[0])
    assert (told["done"], told["count"]) == (told["total"], 3)
    silent = here("event", "import", "orders.csv", "--map", "map.toml", "--progress", "none")
    assert "{" not in silent.err


def test_an_interrupted_import_goes_on_when_it_is_run_again(orders: Path) -> None:
    rows = 15_000
    with (orders / "many.csv").open("w") as file:
        file.write("id,cents\n")
        file.writelines(f"{number},{number}\n" for number in range(rows))
    line = ["event", "import", "many.csv", "--map", "map.toml"]
    ran = interrupted(*line, "--progress", "json", when=lambda text: json.loads(text)["count"] > 0)
    assert ran.code == 130, ran.err
    assert "run it again to go on" in ran.err
    assert "Traceback" not in ran.err
    stored = len(here("stream", "list", "-o", "ndjson").lines)
    assert 0 < stored < rows
    report = here(*line, "--json").data
    assert (report["known"], report["imported"]) == (stored, rows - stored)
    assert here("doctor").code == 0


def test_what_was_exported_can_be_imported_elsewhere_and_twice(diverse: Path) -> None:
    assert here("event", "export", "all.ndjson").code == 0
    copy = ["--store", "sqlite:///copy.db"]
    for known in (0, 6):
        ran = here(*copy, "event", "import", "all.ndjson", "--json")
        assert ran.code == 0, ran.err
        assert [one["replayed"] for one in ran.data] == [known > 0] * 6
    assert f"{6} were there already" in ran.err
    there, here_ = here(*copy, "event", "export").lines, here("event", "export").lines
    told = ("id", "type", "subject", "time", "schemaversion", "data", "authid", "clientip", "causationid")
    assert [[event.get(key) for key in told] for event in there] == [
        [event.get(key) for key in told] for event in here_
    ]


def test_an_export_imported_into_its_own_log_changes_nothing(diverse: Path) -> None:
    here("event", "export", "all.ndjson")
    ran = here("event", "import", "all.ndjson")
    assert (ran.code, "appended 0 events, 6 were there already" in ran.err) == (0, True), ran.err


def test_events_of_another_tenant_are_not_imported_into_this_one(diverse: Path) -> None:
    here("event", "export", "all.ndjson", "--tenant", "acme")
    ran = here("event", "import", "all.ndjson", "--tenant", "globex")
    assert (ran.code, "belongs to tenant 'acme'" in ran.err) == (2, True)


@pytest.mark.parametrize("command", [["event", "export"], ["audit", "export"]], ids=" ".join)
def test_a_file_is_written_over_only_when_forced(diverse: Path, command: list[str]) -> None:
    assert here(*command, "out").code == 0
    written = (diverse / "out").read_text()
    refused = here(*command, "out", "--after", "3")
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert (diverse / "out").read_text() == written
    report = here(*command, "out", "--after", "3", "--force", "--json")
    assert report.data == {"file": "out", "events": 3, "last_position": "6"}
    assert len((diverse / "out").read_text().splitlines()) == 3
    assert sorted(path.name for path in diverse.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("command", [["event", "export"], ["audit", "export"]], ids=" ".join)
def test_progress_of_an_export_is_told_to_machines(diverse: Path, command: list[str]) -> None:
    told = json.loads(here(*command, "--progress", "json", "-q").err.splitlines()[-1])
    assert (told["done"], told["total"], told["count"]) == (6 + 1, 6 + 1, 6)
    assert here(*command, "--progress", "none", "-q").err == ""


def test_lines_on_standard_output_are_no_json_document(diverse: Path) -> None:
    ran = here("event", "export", "--json")
    assert (ran.code, ran.json["status"], ran.data) == (2, "error", None)
    assert "name a FILE" in ran.json["diagnostics"][0]["message"]


def test_an_export_to_a_device_leaves_the_device_in_place(diverse: Path) -> None:
    os.mkfifo(diverse / "pipe")
    reader = os.open(diverse / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert here("event", "export", "pipe").code == 0
    assert len(os.read(reader, 65536).splitlines()) == 6
    os.close(reader)
    assert stat.S_ISFIFO((diverse / "pipe").stat().st_mode)


def test_the_trail_comes_as_json_lines_or_csv(diverse: Path) -> None:
    assert here("audit", "export").lines[0]["who"] == "ann"
    assert here("audit", "export", "--format", "csv").out.splitlines()[0].startswith('"when","who","what"')


def test_an_interrupted_export_leaves_no_half_file(shop: Path) -> None:
    lines = '{"type":"a","data":{}}\n' * 12_000
    assert process("event", "append", "s-1", stdin=lines).code == 0
    ran = interrupted("event", "export", "out.ndjson", "--progress", "json", when=lambda text: '"count":500,' in text)
    assert ran.code == 130, ran.err
    assert "out.ndjson was not written: run it again" in ran.err
    assert sorted(path.name for path in shop.iterdir() if "out" in path.name) == []
    streamed = interrupted("event", "export", "--progress", "json", when=lambda text: '"count":500,' in text)
    assert (streamed.code, "goes on from here" in streamed.err) == (130, True)
