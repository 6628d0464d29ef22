"""`everlog schema`: asked before a deploy, answered with an exit code."""

import json
from pathlib import Path

import pytest

from everlog.store.contract import Release
from tests.cli.conftest import Ran, event, fill, here, interrupted, process, store

EVENT = "from everlog import Platform, event\n@event('a.happened'{version})\nclass A:\n    {fields}\n"


def today(folder: Path, name: str, fields: str, *, version: str = "", more: str = "") -> Path:
    """An application of its own name, because Python imports each module once."""
    text = EVENT.format(version=version, fields=fields) + f"{more}\nplatform = Platform('sqlite:///a.db', A)\n"
    (folder / f"{name}.py").write_text(text)
    return folder


def check(name: str, *options: str) -> Ran:
    return here("--app", f"{name}:platform", "schema", "check", "--json", *options)


@pytest.mark.parametrize(
    ("fields", "code", "verdict"),
    [
        ("n: int", 0, "compatible"),
        ("n: int; m: int = 0", 0, "compatible"),
        ("n: int; m: int", 1, "needs upcaster"),
        ("n: str", 1, "needs upcaster"),
    ],
)
def test_todays_types_are_held_against_the_committed_ones(folder: Path, fields: str, code: int, verdict: str) -> None:
    today(folder, "before", "n: int")
    assert here("--app", "before:platform", "schema", "write").code == 0
    today(folder, "after", fields)
    ran = check("after")
    assert (ran.code, ran.data["verdict"], ran.data["file"]) == (code, verdict, "everlog.schema.json")
    assert (ran.data["findings"] == []) == (fields == "n: int")


def test_a_type_that_is_gone_is_breaking(folder: Path) -> None:
    today(folder, "before", "n: int", more="@event('b.happened')\nclass B:\n    n: int\n")
    (folder / "before.py").write_text((folder / "before.py").read_text().replace(", A)", ", A, B)"))
    here("--app", "before:platform", "schema", "write", "--file", "types.json")
    today(folder, "after", "n: int")
    ran = check("after", "--file", "types.json")
    assert (ran.code, ran.data["verdict"]) == (5, "breaking")
    [finding] = ran.data["findings"]
    assert (finding["type"], finding["change"]) == ("b.happened", "no longer declared")
    assert "add an upcaster" in finding["advice"]


def test_a_change_that_does_not_fit_is_not_written_over(folder: Path) -> None:
    today(folder, "before", "n: int")
    here("--app", "before:platform", "schema", "write")
    committed = (folder / "everlog.schema.json").read_text()
    today(folder, "after", "n: str")
    refused = here("--app", "after:platform", "schema", "write")
    assert (refused.code, "schema check" in refused.err) == (1, True)
    assert (folder / "everlog.schema.json").read_text() == committed
    assert here("--app", "after:platform", "schema", "write", "--force", "--dry-run").code == 0
    assert (folder / "everlog.schema.json").read_text() == committed
    assert here("--app", "after:platform", "schema", "write", "--force").code == 0
    assert check("after").code == 0


def test_a_schema_file_can_be_called_anything(shop: Path) -> None:
    assert here("schema", "write", "--file", "types.json").code == 0
    assert sorted(json.loads((shop / "types.json").read_text())["events"]) == [
        "order.paid",
        "order.placed",
        "order.shipped",
    ]
    assert here("schema", "check", "--file", "types.json").code == 0


def test_without_a_schema_file_or_with_another_file_nothing_can_be_checked(shop: Path) -> None:
    ran = here("schema", "check")
    assert (ran.code, "schema write" in ran.err) == (3, True)
    (shop / "everlog.schema.json").write_text("{}")
    assert here("schema", "check").code == 2
    (shop / "everlog.schema.json").write_text("{")
    assert here("schema", "check").code == 2


def test_declared_types_are_listed(shop: Path) -> None:
    listed = {one["type"]: one for one in here("schema", "list", "--json").data}
    assert listed["order.placed"] == {
        "type": "order.placed",
        "version": 2,
        "declared_by": "shop.Placed",
        "tags": ["order:{order_id}"],
        "upcast_from": ["order.placed v1"],
    }
    assert listed["order.paid"]["upcast_from"] == ["order.completed v1"]


@pytest.mark.parametrize("verb", ["check", "write", "list", "replay"])
def test_all_of_it_needs_the_application(folder: Path, verb: str) -> None:
    ran = here("--store", "sqlite:///x.db", "schema", verb)
    assert (ran.code, "needs your code" in ran.err) == (2, True)


@pytest.fixture
def unreadable(shop: Path) -> Path:
    """Of seven events of two tenants, four that today's code cannot read, for four reasons, and one that is gone."""
    fill(
        shop / "shop.db",
        [
            event(),
            event(data=b'{"order_id":7,"cents":1}'),
            event(type="order.unheard", data=b"{}"),
            event(type="order.placed", schema_version=3),
            event(type="order.paid", data=b'{"order_id":"o-1"}'),
        ],
    )
    fill(shop / "shop.db", [event(type="order.completed", data=b"[]"), event(type="order.shipped", data=b"{}")], "acme")
    log = store(shop / "shop.db")
    log.release(Release((5,), "erasure", "asked for"))
    log.close()
    return shop


def test_every_stored_event_is_read_and_those_that_cannot_be_are_listed(unreadable: Path) -> None:
    ran = here("schema", "replay", "--json")
    assert (ran.code, ran.json["status"]) == (1, "findings")
    assert [(one["position"], one["tenant"], one["type"], one["schema_version"]) for one in ran.data] == [
        ("2", "default", "order.placed", 1),
        ("3", "default", "order.unheard", 1),
        ("4", "default", "order.placed", 3),
        ("6", "acme", "order.completed", 1),
        ("7", "acme", "order.shipped", 1),
    ]
    assert "Expected `str`, got `int`" in ran.data[0]["reason"]
    assert "read 7 events: 5 cannot be read" in ran.err
    assert "the bytes of 1 event were released" in ran.err


def test_a_replay_goes_from_position_to_position(unreadable: Path) -> None:
    assert [one["position"] for one in here("schema", "replay", "-o", "ndjson", "--after", "3").lines] == [
        "4",
        "6",
        "7",
    ]
    assert [one["position"] for one in here("schema", "replay", "-o", "ndjson", "--upto", "3").lines] == ["2", "3"]
    assert here("schema", "replay", "--upto", "1").code == 0


def test_a_replay_tells_machines_how_far_it_is(unreadable: Path) -> None:
    ran = here("schema", "replay", "--progress", "json", "-q")
    assert json.loads(ran.err) == json.loads(ran.err) | {"done": 7, "total": 7, "count": 7}
    assert here("schema", "replay", "--progress", "none", "-q").err == ""


def test_code_that_raises_anything_is_a_finding_too(folder: Path) -> None:
    fill(folder / "a.db", [event(type="a.happened", data=b'{"n":0}'), event(type="a.happened", data=b'{"n":1}')])
    today(
        folder,
        "raising",
        "n: int",
        version=", version=2",
        more="from everlog import upcast\n@upcast('a.happened', 1)\ndef up(old):\n    return {'n': 1 // old['n']}\n",
    )
    (folder / "raising.py").write_text((folder / "raising.py").read_text().replace(", A)", ", A, up)"))
    ran = here("--app", "raising:platform", "schema", "replay", "--json")
    assert (ran.code, [one["position"] for one in ran.data]) == (1, ["1"])
    assert "ZeroDivisionError" in ran.data[0]["reason"]


def test_a_table_shows_the_first_and_counts_the_rest(shop: Path) -> None:
    lines = '{"type":"x.unheard","data":{}}\n' * 60
    assert here("event", "append", "x-1", stdin=lines).code == 0
    ran = here("schema", "replay")
    assert len(ran.out.splitlines()) == 1 + 50
    assert "60 cannot be read" in ran.err
    assert "x.unheard v1: 60" in ran.err
    assert "-o ndjson lists all" in ran.err


def test_an_interrupted_replay_says_where_to_go_on(shop: Path) -> None:
    assert process("event", "append", "x-1", stdin='{"type":"x","data":{}}\n' * 12_000).code == 0
    line = ["schema", "replay", "--progress", "json", "--json"]
    ran = interrupted(*line, when=lambda text: '"count":500,' in text)
    assert (ran.code, "goes on from here" in ran.err) == (130, True), ran.err
    assert ran.json["status"] == "interrupted"
    assert len(ran.data) >= 500
