"""Every condition of a read, on every command that takes it; each test fails if its option is passed over."""

import csv
import io
import json
from pathlib import Path
from uuid import UUID

import pytest

from tests.cli.conftest import CORRELATION, Ran, here, id_of

READS = [
    ["event", "list", "-o", "ndjson", "--raw"],
    ["event", "export"],
    ["audit", "list", "-o", "ndjson"],
    ["audit", "export"],
]

# Positions 1 to 6 are those of `diverse`; of each condition, those that meet it.
CONDITIONS = [
    ([], [1, 2, 3, 4, 5, 6]),
    (["--stream", "order-o-1"], [1, 3, 6]),
    (["--category", "order"], [1, 2, 3, 5, 6]),
    (["--category", "stock"], [4]),
    (["--type", "order.placed"], [1, 2]),
    (["--type", "stock.counted", "--type", "order.completed"], [4, 5]),
    (["--tag", "order:o-1"], [1]),
    (["--tag", "order:o-1", "--tag", "vip"], [1]),
    (["--tag", "order:o-2", "--tag", "vip"], []),
    (["--actor", "ann"], [1]),
    (["--ip", "192.0.2.7"], [2]),
    (["--user-agent", "curl/8"], [2]),
    (["--correlation-id", CORRELATION], [4]),
    (["--causation-id", str(UUID(bytes=id_of(1)))], [3]),
    (["--since", "2026-01-01T00:00:04Z"], [5, 6]),
    (["--until", "2026-01-01T00:00:01Z"], [1, 2]),
    (["--since", "2026-01-01T00:00:02Z", "--until", "2026-01-01T00:00:03Z"], [3, 4]),
    (["--since", "-1d"], []),
    (["--until", "yesterday"], [1, 2, 3, 4, 5, 6]),
    (["--occurred-since", "2026-01-01T00:00:06Z"], [5]),
    (["--occurred-until", "2025-12-31"], [1]),
    (["--after", "4"], [5, 6]),
    (["--upto", "2"], [1, 2]),
    (["--actor", "ann", "--stream", "order-o-2"], []),
]


def positions(ran: Ran) -> list[int]:
    assert ran.code == 0, ran.err
    return [int(line["position"]) for line in ran.lines]


@pytest.mark.parametrize(("options", "met"), CONDITIONS, ids=lambda value: " ".join(map(str, value)))
@pytest.mark.parametrize(
    "command",
    [
        ["event", "list", "-o", "ndjson", "--raw"],
        ["event", "export"],
        ["audit", "list", "-o", "ndjson"],
        ["audit", "export"],
    ],
    ids=" ".join,
)
def test_a_condition_leaves_out_what_does_not_meet_it(
    diverse: Path, command: list[str], options: list[str], met: list[int]
) -> None:
    assert positions(here(*command, *options)) == met


@pytest.mark.parametrize("command", [["event", "list", "--raw"], ["audit", "list"]], ids=" ".join)
def test_a_list_can_be_turned_round_and_cut(diverse: Path, command: list[str]) -> None:
    assert positions(here(*command, "-o", "ndjson", "--backwards")) == [6, 5, 4, 3, 2, 1]
    assert positions(here(*command, "-o", "ndjson", "--limit", "2")) == [1, 2]
    assert positions(here(*command, "-o", "ndjson", "--limit", "2", "--backwards")) == [6, 5]


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_a_tenant_sees_its_own_and_only_all_tenants_sees_all(diverse: Path, command: list[str]) -> None:
    assert positions(here(*command, "--tenant", "acme")) == [7]
    assert positions(here(*command, "--tenant", "nobody")) == []
    assert set(positions(here(*command, "--all-tenants"))) >= {1, 2, 7}
    both = here(*command, "--all-tenants", "--tenant", "acme")
    assert (both.code, "exclude each other" in both.err) == (2, True)


def test_a_type_is_found_by_what_it_is_today_and_by_what_it_was_called(diverse: Path) -> None:
    shipped = here("event", "list", "-o", "ndjson", "--type", "order.shipped").lines
    assert [(line["position"], line["type"]) for line in shipped] == [("3", "order.shipped"), ("5", "order.shipped")]
    completed = here("event", "list", "-o", "ndjson", "--type", "order.completed").lines
    assert [(line["position"], line["type"]) for line in completed] == [("5", "order.paid"), ("5", "order.shipped")]


def test_a_limit_counts_what_is_shown_not_what_is_stored(diverse: Path) -> None:
    shown = here("event", "list", "-o", "ndjson", "--after", "4", "--limit", "2").lines
    assert [line["type"] for line in shown] == ["order.paid", "order.shipped"]


def test_events_are_listed_as_todays_code_reads_them_and_raw_as_they_were_stored(diverse: Path) -> None:
    today = here("event", "list", "-o", "ndjson").lines
    assert today[0]["data"] == {"order_id": "o-1", "cents": 100, "currency": "EUR"}
    assert "order.noted" not in {line["type"] for line in today}
    stored = here("event", "list", "-o", "ndjson", "--raw").lines
    assert stored[0]["data"] == {"order_id": "o-1", "cents": 100}
    assert "order.noted" in {line["type"] for line in stored}


def test_data_as_stored_keeps_every_digit(diverse: Path) -> None:
    assert '"data":{"n":1.10}' in here("event", "list", "-o", "ndjson", "--type", "stock.counted").out
    assert '"data":{"n":1.10}' in here("event", "export").out


def test_a_trail_for_a_spreadsheet_holds_no_formula(diverse: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(here("audit", "export", "--format", "csv").out)))
    assert [row["position"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert rows[0]["who"] == "ann"
    assert json.loads(rows[5]["details"]) == {"text": "=1+1"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--since", "soon"], "not a time"),
        (["--until", "2026-01-01T00:00:00"], "no time zone"),
        (["--occurred-since", "-7y"], "not a time"),
        (["--correlation-id", "x"], "--correlation-id"),
        (["--after", "-1"], "--after"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(diverse: Path, options: list[str], says: str) -> None:
    ran = here("event", "list", *options)
    assert ran.code == 2
    assert says in ran.err
