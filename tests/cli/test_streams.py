"""`everlog stream`: what is there, and the state of an aggregate at any point of its past."""

from pathlib import Path

import pytest

from tests.cli.conftest import event, fill, here, second

PLACED = b'{"order_id":"o-1","cents":100,"currency":"EUR"}'


@pytest.fixture
def history(shop: Path) -> Path:
    """Placed, shipped and paid, recorded at 0, 1 and 2 s; paid before it was shipped, but noticed later."""
    fill(
        shop / "shop.db",
        [
            event(data=PLACED, schema_version=2, occurred_at=second(-100)),
            event(type="order.shipped", data=b'{"order_id":"o-1"}', occurred_at=second(-50)),
            event(type="order.paid", data=b'{"order_id":"o-1"}', occurred_at=second(-80)),
        ],
    )
    return shop


def test_streams_are_listed_by_category_tenant_and_number(diverse: Path) -> None:
    def names(*options: str) -> list[str]:
        return [one["stream"] for one in here("stream", "list", "-o", "ndjson", *options).lines]

    assert names() == ["order-o-1", "order-o-2", "order-o-3", "stock-a"]
    assert names("--category", "stock") == ["stock-a"]
    assert names("--limit", "2") == ["order-o-1", "order-o-2"]
    assert names("--tenant", "acme") == ["order-o-1"]
    every = here("stream", "list", "-o", "ndjson", "--all-tenants").lines
    assert (every[0]["tenant"], every[0]["stream"]) == ("acme", "order-o-1")
    assert every[1] == {"tenant": "default", "stream": "order-o-1", "version": 3, "position": "6"}
    assert here("stream", "list", "--all-tenants").out.splitlines()[0].startswith("tenant")


def test_the_events_of_a_stream_are_shown_from_version_to_version(history: Path) -> None:
    def versions(*options: str) -> list[str]:
        return [one["sequence"] for one in here("stream", "show", "order-o-1", "-o", "ndjson", *options).lines]

    assert versions() == ["1", "2", "3"]
    assert versions("--after", "1") == ["2", "3"]
    assert versions("--upto", "2") == ["1", "2"]
    assert versions("--backwards") == ["3", "2", "1"]
    assert versions("--limit", "1") == ["1"]
    assert versions("--after", "9") == []


def test_a_stream_is_shown_as_read_today_or_raw(diverse: Path) -> None:
    today = here("stream", "show", "order-o-3", "-o", "ndjson").lines
    assert [one["type"] for one in today] == ["order.paid", "order.shipped"]
    stored = here("stream", "show", "order-o-3", "-o", "ndjson", "--raw").lines
    assert [one["type"] for one in stored] == ["order.completed"]


@pytest.mark.parametrize(
    ("point", "status", "version"),
    [
        ([], "paid", 3),
        (["--at-version", "1"], "placed", 1),
        (["--at-version", "0"], "new", 0),
        (["--at-position", "2"], "shipped", 2),
        (["--recorded-at", "2026-01-01T00:00:01Z"], "shipped", 2),
        (["--recorded-at", "yesterday"], "paid", 3),
        (["--occurred-at", "2025-12-31T23:58:41Z"], "paid", 3),
        (["--occurred-at", "2025-12-31T23:58:21Z"], "placed", 3),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_the_state_is_shown_at_any_point(history: Path, point: list[str], status: str, version: int) -> None:
    told = here("stream", "state", "order", "o-1", *point, "--json").data
    assert (told["state"]["status"], told["version"]) == (status, version)
    shown = here("stream", "state", "order", "o-1", *point)
    assert shown.out.splitlines()[1].split() == ["status", status]


def test_the_difference_is_shown_field_by_field_with_its_events(history: Path) -> None:
    told = here("stream", "diff", "order", "o-1", "--from", "version:0", "--to", "version:2", "--json").data
    assert told["changes"] == [
        {"path": "status", "before": "new", "after": "shipped", "events": ["1", "2"]},
        {"path": "cents", "before": 0, "after": 100, "events": ["1"]},
    ]
    assert [one["position"] for one in told["events"]] == ["1", "2"]
    assert (told["before"]["status"], told["after"]["status"]) == ("new", "shipped")
    assert (told["from"], told["to"]) == ("version:0", "version:2")


@pytest.mark.parametrize(
    ("points", "changed"),
    [
        (["--from", "version:1"], "placed paid"),
        (["--from", "position:2"], "shipped paid"),
        (["--from", "1", "--to", "2"], "placed shipped"),
        (["--from", "recorded:2026-01-01T00:00:00Z", "--to", "recorded:2026-01-01T00:00:01Z"], "placed shipped"),
        (["--from", "occurred:2025-12-31T23:58:20Z", "--to", "occurred:2025-12-31T23:58:40Z"], "placed paid"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_difference_lies_between_points_of_every_kind(history: Path, points: list[str], changed: str) -> None:
    ran = here("stream", "diff", "order", "o-1", *points, "-o", "plain")
    assert ran.out.split("\t")[1:3] == changed.split(), ran.err


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (["show", "order-o-9"], 3, "has no stream order-o-9"),
        (["show", "order-o-2", "--tenant", "acme"], 3, "tenant 'acme' has no stream"),
        (["state", "order", "o-9"], 3, "has no stream order-o-9"),
        (["diff", "order", "o-9", "--from", "1"], 3, "has no stream"),
        (["state", "ordr", "o-1"], 2, "did you mean 'order'?"),
        (["state", "order", "o-1", "--at-version", "1", "--at-position", "1"], 2, "one point only"),
        (["state", "order", "o-1", "--recorded-at", "then"], 2, "not a time"),
        (["diff", "order", "o-1", "--from", "when:1"], 2, "no point in the past"),
        (["diff", "order", "o-1", "--from", "version:x"], 2, "whole number"),
        (["diff", "order", "o-1", "--from", "3", "--to", "1"], 2, "earlier point first"),
        (["diff", "order", "o-1"], 2, "--from"),
    ],
    ids=range(11),
)
def test_what_is_not_there_or_makes_no_sense_is_told(diverse: Path, line: list[str], code: int, says: str) -> None:
    ran = here("stream", *line)
    assert (ran.code, says in ran.err) == (code, True), ran.err


def test_a_state_needs_the_code_that_folds_it(diverse: Path) -> None:
    (diverse / "everlog.toml").unlink()
    ran = here("--store", "sqlite:///shop.db", "stream", "state", "order", "o-1")
    assert (ran.code, "needs your code: give --app" in ran.err) == (2, True)


def test_an_event_nobody_can_read_stops_a_state_and_is_named(shop: Path) -> None:
    fill(shop / "shop.db", [event(data=b'{"order_id":"o-1","cents":"many"}')])
    ran = here("stream", "state", "order", "o-1")
    assert (ran.code, "position 1" in ran.err, "schema replay" in ran.err) == (1, True, True)
