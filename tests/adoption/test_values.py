"""Cells become typed values exactly, or the line is rejected with the reason; nothing is rounded or guessed."""

import json
from typing import Any

import pytest

from tests.adoption.desk import Desk, rejects_of

CSV_VALUES: list[tuple[str, str, Any]] = [
    ("string", " as it is ", " as it is "),
    ("string", "007", "007"),
    ("integer", "-42", -42),
    ("integer", "9223372036854775807", 2**63 - 1),
    ("decimal", "12.30", "12.30"),
    ("decimal", "-0.00000000000000000000000000001", "-0.00000000000000000000000000001"),
    ("number", "42", 42),
    ("number", "2.5", 2.5),
    ("number", "1e3", 1000),
    ("boolean", "True", True),
    ("boolean", "no", False),
    ("boolean", "1", True),
    ("time", "2018-07-01T02:00:00+02:00", "2018-07-01T00:00:00.000000Z"),
    ("time", "2018-01-01T00:00:00.123456-05:00", "2018-01-01T05:00:00.123456Z"),
    ("json", '{"a": [1, null, "x"]}', {"a": [1, None, "x"]}),
    ("json", "7", 7),
]

CSV_REJECTS = [
    ("integer", "4.0", "'4.0' is not a whole number"),
    ("integer", "1_000", "'1_000' is not a whole number"),
    ("integer", " 7", "' 7' is not a whole number"),
    ("integer", "\u0661", "is not a whole number"),
    ("integer", "9223372036854775808", "is not a whole number of 64 bits"),
    ("integer", "9" * 5000, "is not a whole number"),
    ("decimal", "12,30", "'12,30' is not a decimal number"),
    ("decimal", "NaN", "'NaN' is not a decimal number"),
    ("decimal", "1e3", "'1e3' is not a decimal number"),
    ("number", "NaN", "NaN is not JSON"),
    ("number", "1e999", "too large"),
    ("number", '"5"', "is not a number"),
    ("number", "true", "is not a number"),
    ("boolean", "maybe", "'maybe' is neither true nor false"),
    ("time", "2018-07-01T00:00:00", "has no time zone"),
    ("time", "yesterday", "'yesterday' is not a time"),
    ("time", "0001-01-01T00:00:00+01:00", "outside the years 1 to 9999"),
    ("json", "{'a': 1}", "not JSON"),
    ("json", '{"a": 1, "a": 2}', "the key 'a' is there twice"),
    ("json", "[" * 64 + "]" * 64, "deeper than 64"),
    ("json", "[" * 100_000, "deeper than 64"),
]


def _field(kind: str, more: str = "") -> str:
    return f'stream = "s"\ntype = "t"\n[data]\nx = {{ type = "{kind}"{more} }}\n'


def _csv(cell: str) -> str:
    quoted = cell.replace('"', '""')
    return f'x,y\n"{quoted}",1\n'


@pytest.mark.parametrize(("kind", "cell", "value"), CSV_VALUES)
def test_a_cell_becomes_a_value(desk: Desk, kind: str, cell: str, value: Any) -> None:
    assert rejects_of(desk.load(_csv(cell), _field(kind))) == []
    assert desk.data() == [{"x": value}]


@pytest.mark.parametrize(("kind", "cell", "reason"), CSV_REJECTS)
def test_a_cell_that_is_no_such_value_is_a_reject(desk: Desk, kind: str, cell: str, reason: str) -> None:
    ((line, told),) = rejects_of(desk.load(_csv(cell), _field(kind)))
    assert line == 2
    assert told.startswith("`x`: ") or "JSON nested deeper" in told
    assert reason in told
    assert desk.events() == []


def test_a_number_keeps_the_digits_it_had(desk: Desk) -> None:
    desk.load(_csv("0.1000000000000000055511151231257827"), _field("number"))
    desk.load('{"x": 0.1000000000000000055511151231257828}', _field("json"), "in.ndjson")
    assert [event.data for event in desk.events()] == [
        b'{"x":0.1000000000000000055511151231257827}',
        b'{"x":0.1000000000000000055511151231257828}',
    ]


@pytest.mark.parametrize("kind", ["string", "integer", "decimal", "number", "boolean", "money", "time", "json"])
def test_an_empty_cell_is_a_reject_unless_the_field_is_optional(desk: Desk, kind: str) -> None:
    currency = ', currency = "EUR"' if kind == "money" else ""
    ((_, reason),) = rejects_of(desk.load(_csv(""), _field(kind, currency)))
    assert reason == "`x` is empty"
    ((_, reason),) = rejects_of(desk.load(_csv(""), _field(kind, currency + ", optional = false")))
    assert desk.load(_csv(""), _field(kind, currency + ", optional = true")).imported == 1
    for absent in ("{}", '{"x": null}'):
        assert rejects_of(desk.load(absent, _field(kind, currency), "in.ndjson")) == [(1, "`x` is empty")]
        assert desk.load(absent, _field(kind, currency + ", optional = true"), "in.ndjson").imported == 1
    assert desk.data() == [{}, {}, {}]


def test_optional_does_not_excuse_a_wrong_cell(desk: Desk) -> None:
    ((_, reason),) = rejects_of(desk.load(_csv("x"), _field("integer", ", optional = true")))
    assert "is not a whole number" in reason


MONEY = [
    ("12.30", "EUR", 1230),
    ("12.3", "EUR", 1230),
    ("-0.05", "EUR", -5),
    ("1.10000", "EUR", 110),
    ("90071992547409.93", "EUR", 9007199254740993),
    ("500", "JPY", 500),
    ("1.234", "BHD", 1234),
]


@pytest.mark.parametrize(("text", "currency", "minor"), MONEY)
def test_money_is_exact_to_the_last_unit(desk: Desk, text: str, currency: str, minor: int) -> None:
    fixed = _field("money", f', currency = "{currency}"')
    from_column = _field("money", ', currency = "{y}"')
    desk.load(f"x,y\n{text},{currency}\n", fixed)
    desk.load(f"x,y\n{text},{currency}\n", from_column.replace('"t"', '"u"').replace('"s"', '"s2"'))
    desk.load(json.dumps({"x": "@", "y": currency}).replace('"@"', text), fixed, "in.ndjson")
    assert desk.data() == [{"x": {"minor": minor, "currency": currency}}] * 3


@pytest.mark.parametrize(
    ("text", "currency", "reason"),
    [
        ("12.345", "EUR", "has more decimals than EUR has minor units"),
        ("12.5", "JPY", "has more decimals than JPY"),
        ("1.0000000000000000000000000000000001", "EUR", "has more decimals than EUR"),
        ("12e3", "EUR", "is not an amount"),
        ("1e999999999", "EUR", "is not an amount"),
        ("1.234,50", "EUR", "cells, where the header has"),
        ("12.30", "euro", "'euro' is not an ISO 4217 currency"),
        ("12.30", "", "`y` is empty"),
        ("999999999999999999999", "EUR", "is not an amount"),
    ],
)
def test_money_that_is_not_exact_is_a_reject(desk: Desk, text: str, currency: str, reason: str) -> None:
    ((_, told),) = rejects_of(desk.load(f"x,y\n{text},{currency}\n", _field("money", ', currency = "{y}"')))
    assert reason in told


def test_json_in_ndjson_is_the_value_itself_and_in_csv_the_text_of_one(desk: Desk) -> None:
    desk.load('{"x": "5"}\n{"x": {"a": [true]}}', _field("json"), "in.ndjson")
    desk.load("x\n5\n", _field("json").replace('"s"', '"s2"'))
    assert desk.data() == [{"x": "5"}, {"x": {"a": [True]}}, {"x": 5}]


def test_ndjson_values_are_taken_by_type(desk: Desk) -> None:
    toml = (
        'stream = "s-{n}"\ntype = "t"\n[data]\ns = "n"\ni = { column = "n", type = "integer" }\n'
        'd = { type = "decimal" }\nf = { column = "d", type = "number" }\nb = { type = "boolean" }\n'
    )
    assert rejects_of(desk.load('{"n": 17, "d": 0.0000001, "b": false}', toml, "in.ndjson")) == []
    assert desk.data() == [{"s": "17", "i": 17, "d": "0.0000001", "f": 1e-7, "b": False}]
    assert desk.events()[0].stream == "s-17"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("true", "`x` is true or false"),
        ("[1]", "`x` is a list"),
        ("{}", "`x` is an object"),
        ("1e-999999", "too small"),
    ],
)
def test_an_ndjson_value_that_is_no_text_is_a_reject(desk: Desk, value: str, reason: str) -> None:
    ((_, told),) = rejects_of(desk.load(f'{{"x": {value}}}', _field("string"), "in.ndjson"))
    assert reason in told


def test_summer_and_winter_offsets_are_honoured(desk: Desk) -> None:
    toml = 'stream = "s"\ntype = "t"\ntime = "{at}"\n'
    desk.load("at\n2018-07-01T02:00:00+02:00\n2018-01-01T01:00:00+01:00\n2018-01-01T00:00:00Z\n", toml)
    july, january = 1530403200_000000, 1514764800_000000
    assert [event.occurred_at for event in desk.events()] == [july, january, january]


def test_a_time_without_zone_is_a_reject_unless_the_map_names_one(desk: Desk) -> None:
    toml = 'stream = "s"\ntype = "t"\ntime = "{at}"\n[data]\nat = { type = "time" }\n'
    content = "at\n2018-07-01T02:00:00\n2018-01-01\n2018-07-01T00:00:00Z\n"
    assert [line for line, _ in rejects_of(desk.load(content, toml))] == [2, 3]
    assert desk.load(content, f'time_zone = "Europe/Amsterdam"\n{toml}').imported == 2
    assert sorted(data["at"] for data in desk.data()) == [
        "2017-12-31T23:00:00.000000Z",
        "2018-07-01T00:00:00.000000Z",
        "2018-07-01T00:00:00.000000Z",
    ]
    assert {event.occurred_at for event in desk.events()} == {1530403200_000000, 1514761200_000000}


def test_an_hour_that_the_clock_skips_or_repeats_is_a_reject(desk: Desk) -> None:
    toml = 'stream = "s"\ntype = "t"\ntime = "{at}"\ntime_zone = "Europe/Amsterdam"\n'
    report = desk.load("at\n2018-03-25T02:30:00\n2018-10-28T02:30:00\n2018-10-28T02:30:00+01:00\n", toml)
    assert rejects_of(report) == [
        (2, "2018-03-25T02:30:00 happened never in Europe/Amsterdam: add an offset"),
        (3, "2018-10-28T02:30:00 happened twice in Europe/Amsterdam: add an offset"),
    ]


def test_without_a_time_an_event_occurred_when_it_was_imported(desk: Desk) -> None:
    desk.load("a\n1\n", 'stream = "s"\ntype = "t"\n')
    ((event),) = desk.events()
    assert event.occurred_at == event.recorded_at


def test_an_optional_template_with_an_empty_column_is_absent(desk: Desk) -> None:
    toml = 'stream = "s-{n}"\ntype = "t"\n'
    content = "n,who,role,at,to\n1,ann,boss,2018-01-01T00:00:00Z,acme\n2,,boss,,\n"
    options = {"actor": "{who} ({role})", "time": "{at}", "id": "{at}", "tenant": "{to}"}
    for key, template in options.items():
        strict = f'{key} = {{ template = "{template}", optional = false }}\n{toml}'
        (rejected,) = rejects_of(desk.load(content, strict.replace("s-", f"{key}-")))
        assert rejected[0] == 3
        assert "is empty" in rejected[1]
    optional = "".join(f'{key} = {{ template = "{text}", optional = true }}\n' for key, text in options.items())
    assert desk.load(content, optional + toml.replace('"t"', '"last"'), tenant="other").imported == 2
    first, second = [event for event in desk.events() if event.type == "last"]
    assert (first.actor, first.occurred_at, first.tenant) == ("ann (boss)", 1514764800_000000, "acme")
    assert (second.actor, second.occurred_at, second.tenant) == (None, second.recorded_at, "other")


@pytest.mark.parametrize(
    ("key", "cell"),
    [
        ("stream", "a b"),
        ("stream", "../x"),
        ("stream", "x\n"),
        ("stream", "-x"),
        ("stream", "x" * 201),
        ("stream", "\0"),
        ("stream", "ü"),
        ("stream", "'; DROP TABLE everlog_event; --"),
        ("type", " padded "),
        ("type", "two\nlines"),
        ("type", "e\u0301"),
        ("type", "\u202eright to left"),
        ("type", "x" * 201),
        ("actor", "bell\x07"),
        ("tenant", "a b"),
        ("tenant", "a/b"),
        ("stream", ""),
        ("type", ""),
        ("actor", ""),
        ("tenant", ""),
        ("id", ""),
        ("time", ""),
    ],
)
def test_a_hostile_name_is_a_reject_and_stops_nothing(desk: Desk, key: str, cell: str) -> None:
    templates = {"stream": "s", "type": "t", "time": "2018-01-01T00:00:00Z", key: "{x}"}
    toml = "".join(f'{name} = "{template}"\n' for name, template in templates.items())
    good = {"time": "2018-01-01T00:00:00Z"}.get(key, "good")
    report = desk.load(f"{_csv(cell)}{good},2\n", toml)
    ((line, _),) = rejects_of(report)
    assert line == 2
    assert report.imported == 1


def test_types_may_hold_spaces_and_any_script(desk: Desk) -> None:
    desk.load("x\nDeclaration SUBMITTED by EMPLOYEE\nÄnderung übernommen\n", 'stream = "s"\ntype = "{x}"\n')
    assert [event.type for event in desk.events()] == ["Declaration SUBMITTED by EMPLOYEE", "Änderung übernommen"]


def test_data_beyond_the_event_limit_is_a_reject(desk: Desk) -> None:
    toml = 'stream = "s"\ntype = "t"\n[data]\na = "a"\nb = "b"\nc = "c"\n'
    big = "x" * 100_000
    report = desk.load(f"a,b,c\n{big},{big},{big}\n{big},{big},1\n", toml)
    ((line, reason),) = rejects_of(report)
    assert (line, reason) == (2, "the data has 300022 bytes, more than 262144")
    assert report.imported == 1
