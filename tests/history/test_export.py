"""The trail written out: JSON Lines with the bytes that were stored, CSV no spreadsheet runs, both as flat streams."""

import csv
import io
import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pytest

from everlog import Log
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from everlog.history.audit import FIELDS, AuditEntry, csv_lines, entry, json_lines
from tests.command.sides import FAST
from tests.domain.stored import stored
from tests.history.ledger import Moved, platform

DANGERS = ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
FORMULAS = ["{}1+1", "{}cmd|' /C calc'!A0", '{}HYPERLINK("http://x")', "{}{}1", '{}"', "{}\n=1", "{}"]
HARMLESS = ["", "plain", "1-1", 'a "quoted" word', "a,b;c\td", "line\nbreak", "line\r\nbreak", "'=1", " =1", "Zoë 🎈"]


def shown(text: str) -> list[AuditEntry]:
    """An entry with a text in every field that holds one from outside."""
    client = msgspec.json.encode({"ip": text, "user_agent": text})
    return [entry(stored(text, 1, b"{}", actor=text, stream=text, tenant=text, client=client))]


OUTSIDE = ("who", "what", "tenant", "stream", "ip", "user_agent")


def cells(entries: Iterable[AuditEntry]) -> list[dict[str, str]]:
    """As a reader of RFC 4180 sees it."""
    return list(csv.DictReader(io.StringIO("".join(csv_lines(entries)), newline=""), strict=True))


@pytest.mark.parametrize("danger", DANGERS)
@pytest.mark.parametrize("formula", FORMULAS)
def test_a_cell_a_spreadsheet_would_run_gets_a_quote_mark(danger: str, formula: str) -> None:
    text = formula.replace("{}", danger)
    [row] = cells(shown(text))
    for name in OUTSIDE:
        assert row[name] == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    [row] = cells(shown(text))
    for name in OUTSIDE:
        assert row[name] == text


def test_every_cell_is_quoted_and_every_line_ends_as_rfc_4180_says() -> None:
    header, line = csv_lines(shown('a "b"'))
    assert header == ",".join(f'"{name}"' for name in FIELDS) + "\r\n"
    assert line.startswith('"2026-11-24T12:00:00.000002Z","a ""b""",')
    assert line.endswith(',"{}"\r\n')


def test_what_is_not_known_is_an_empty_cell_and_null() -> None:
    released = [entry(stored("thing.happened", 1, None))]
    [row] = cells(released)
    missing = ("who", "ip", "user_agent", "correlation_id", "causation_id", "details")
    assert {row[name] for name in missing} == {""}
    [line] = json_lines(released)
    assert {json.loads(line)[name] for name in missing} == {None}


def test_a_csv_of_nothing_has_its_header_and_json_lines_are_empty() -> None:
    assert len(list(csv_lines([]))) == 1
    assert list(json_lines([])) == []


def test_both_exports_say_the_same() -> None:
    with platform.open(f"memory:{FAST}") as log:
        acme = log.tenant("acme", actor="ann", ip="::1")
        acme.append("account-1", *[Moved(text) for text in HARMLESS])
        rows = cells(acme.audit())
        lines = [json.loads(line) for line in json_lines(acme.audit())]
    assert len(rows) == len(lines) == len(HARMLESS)
    for row, line in zip(rows, lines, strict=True):
        assert list(row) == list(line) == list(FIELDS)
        assert json.loads(row["details"]) == line["details"]
        assert all(row[name] == str(line[name] or "") for name in FIELDS if name != "details")


@pytest.mark.parametrize(
    "data",
    [
        b'{"city":"Bern"}',
        b'{ "city" : "B\\u00e9rn" }',
        b'{"n":1.0,"m":1e2,"big":123456789012345678901234567890,"deep":[[[]]]}',
        b'{"b":1,"a":2}',
        '{"text":"Zoë \u2028 🎈"}'.encode(),
        b'{"text":"line\\nbreak \\u0000"}',
    ],
)
def test_json_lines_hold_the_very_bytes_that_were_stored(data: bytes) -> None:
    [line] = json_lines([entry(stored("thing.happened", 1, data))])
    assert line.encode().endswith(b',"details":' + data + b"}\n")
    assert line.count("\n") == 1
    [row] = cells([entry(stored("thing.happened", 1, data))])
    assert row["details"].encode() == data


@pytest.mark.parametrize("data", [b'{\n  "city": "Bern"\n}', b'{\r\n"city":\r"Bern"}'])
def test_json_stored_on_several_lines_is_one_line_of_the_same_value(data: bytes) -> None:
    [line] = json_lines([entry(stored("thing.happened", 1, data))])
    assert (line.count("\n"), line.count("\r")) == (1, 0)
    assert json.loads(line)["details"] == {"city": "Bern"}


COUNT = 50_000
PEAK = 4 * 2**20


@pytest.fixture(scope="module")
def long_trail() -> Iterator[Log]:
    with platform.open(f"memory:{FAST}") as log:
        data = json.dumps({"city": "x" * 300}).encode()
        for _ in range(COUNT // 10_000):
            log.store.append_each([
                Append("acme", tuple(NewEvent(new_id(), "account-1", "account.moved", 1, data) for _ in range(500)))
                for _ in range(20)
            ])  # fmt: skip
        yield log


@pytest.mark.parametrize(("written", "count"), [(json_lines, COUNT), (csv_lines, COUNT // 5)])
def test_fifty_thousand_entries_are_written_in_flat_memory(
    long_trail: Log, written: Callable[[Iterable[Any]], Iterator[str]], count: int
) -> None:
    lines = size = 0
    tracemalloc.start()
    try:
        for line in written(long_trail.tenant("acme").audit(limit=count)):
            lines, size = lines + 1, size + len(line)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines in (count, count + 1)
    assert size > PEAK  # holding it all would be seen
    assert peak < PEAK
