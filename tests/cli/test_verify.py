"""`everlog projection verify` at a terminal: a test fails if its option is passed over, or an exit code is another."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from everlog.cli import verify as cli_verify
from tests.cli.conftest import Ran, here
from tests.cli.test_following import append, followed, log, placed, signals, sql, told

__all__ = ["followed", "log", "signals"]


def verify(*line: str) -> Ran:
    return here("projection", "verify", *line)


def found(*line: str, code: int = 1) -> list[Any]:
    ran = verify(*line, "-o", "ndjson")
    assert ran.code == code, ran.err
    return ran.lines


@pytest.fixture
def wrong(followed: Path) -> Path:
    """Revenue of a and b in the default tenant, and of a in acme's; a placed order too few, another too many."""
    sql(followed, "UPDATE everlog_fold SET state = x'38' WHERE projection = 'revenue' AND key = 'a'")
    sql(followed, "DELETE FROM everlog_fold WHERE projection = 'revenue' AND key = 'b'")
    sql(followed, "DELETE FROM placed WHERE id = 'b2'")
    sql(followed, "INSERT INTO placed VALUES ('z9')")
    return followed


def keys(rows: list[Any]) -> list[tuple[str, str, str]]:
    return [(row["key"]["tenant"], row["key"]["key"], row["fault"]) for row in rows]


A, OTHERS_A, B = ("default", "a", "edited"), ("acme", "a", "edited"), ("default", "b", "missing")


def test_what_is_as_the_log_has_it_is_said_and_exits_with_0(followed: Path) -> None:
    for name in ("revenue", "parcels", "placed-table"):
        ran = verify(name, "--json")
        assert (ran.code, ran.json["data"], ran.json["status"]) == (0, [], "ok")
        assert f"{name}: " in ran.err
        assert "compared up to position 8, 0 found to differ" in ran.err


def test_rows_that_differ_are_listed_and_exit_with_1(wrong: Path) -> None:
    rows = found("revenue", "--full")
    assert rows == found("revenue")
    assert sorted(keys(rows)) == sorted([OTHERS_A, A, B])
    [one] = [row for row in rows if row["key"] == {"tenant": "default", "key": "a"}]
    assert one == {
        "of": "revenue",
        "fault": "edited",
        "key": {"tenant": "default", "key": "a"},
        "fields": [{"path": "state", "stored": 8, "expected": 100}],
        "position": "8",
        "events": 1,
        "positions": ["3"],
        "positions_cut": False,
        "repaired": False,
    }
    assert (verify("revenue", "--json").json["status"], len(verify("revenue", "--json").data)) == ("findings", 3)
    table = verify("revenue").out
    assert "state: 8, not 100" in table
    assert "state: <missing>, not 50" in table


def test_of_a_table_without_a_key_rows_are_counted(wrong: Path) -> None:
    rows = found("placed-table")
    assert sorted((row["key"]["id"], row["fault"], row["events"]) for row in rows) == [
        ("b2", "missing", 1),
        ("z9", "invented", 0),
    ]
    assert verify("placed-table", "--repair").code == 0
    assert found("placed-table", code=0) == []
    assert sorted(sql(wrong, "SELECT id FROM placed")) == [("a1",), ("a1",), ("b2",), ("c3",)]


def test_one_tenant_or_some_keys_are_compared(wrong: Path) -> None:
    assert keys(found("revenue", "--tenant", "acme")) == [OTHERS_A]
    assert keys(found("revenue", "--key", "a")) == [A]
    assert keys(found("revenue", "--key", "a", "--key", "b", "--key", "c")) == [A, B]
    assert keys(found("revenue", "--key", "a", "--tenant", "acme")) == [OTHERS_A]
    assert found("revenue", "--key", "c", code=0) == []


def test_rows_are_drawn_by_a_seed_that_is_told(wrong: Path) -> None:
    ran = verify("revenue", "--sample", "1")
    said = re.search(
        r"1 row compared up to position 8, (\d) found.*with 95% confidence (.*) of all rows.*--seed (\d+)", ran.err
    )
    assert said, ran.err
    assert int(said[1]) == ran.code
    assert said[2] == ("at most 95 %" if ran.code == 0 else "2.5 % to 100 %")
    again = {verify("revenue", "--sample", "1", "--seed", said[3]).out for _ in range(3)}
    assert again == {ran.out}
    assert len({verify("revenue", "--sample", "1", "--seed", str(seed)).out for seed in range(12)}) > 1
    assert len({verify("revenue", "--sample", "1").err for _ in range(3)}) == 3
    assert "these are all there are" in verify("revenue", "--sample", "100").err


def test_only_so_many_events_are_named(followed: Path) -> None:
    append(followed, placed("a2", 1), placed("a3", 1))
    assert here("worker", "--once").code == 0
    sql(
        followed,
        "UPDATE everlog_fold SET state = x'37' WHERE projection = 'revenue' AND tenant = 'default' AND key = 'a'",
    )
    for events, positions in (("2", ["9", "10"]), ("3", ["3", "9", "10"]), ("0", [])):
        [row] = found("revenue", "--events", events)
        assert (row["events"], row["positions"], row["positions_cut"]) == (3, positions, events != "3")
    assert "3: … 10" in verify("revenue", "--events", "1").out


def test_rows_are_mended_and_then_exit_with_0(wrong: Path) -> None:
    rows = found("revenue", "--key", "a", "--repair", code=0)
    assert [(row["fault"], row["repaired"]) for row in rows] == [("edited", True)]
    assert sorted(keys(found("revenue"))) == sorted([OTHERS_A, B])
    ran = verify("revenue", "--repair")
    assert (ran.code, "2 found to differ, 2 of them mended" in ran.err) == (0, True)
    assert found("revenue", code=0) == []
    [states] = sql(wrong, "SELECT group_concat(state, ' ') FROM everlog_fold WHERE projection = 'revenue'")
    assert sorted(states[0].split()) == ["100", "5", "50", "7"]


def test_an_inline_fold_is_compared_and_mended_too(log: Path) -> None:
    with_today = "--app", "shop:with_today"
    assert (
        here(
            *with_today,
            "event",
            "append",
            "order-d4",
            "--type",
            "order.placed",
            "--data",
            '{"order_id":"d4","cents":9}',
        ).code
        == 0
    )
    sql(log, "UPDATE everlog_fold SET state = x'3939' WHERE projection = 'today' AND tenant = 'default'")
    [row] = here(*with_today, "projection", "verify", "today", "-o", "ndjson").lines
    assert (row["fields"], row["positions"]) == ([{"path": "state", "stored": 99, "expected": 4}], ["3", "5", "8", "9"])
    assert here(*with_today, "projection", "verify", "today", "--repair").code == 0
    assert here(*with_today, "projection", "verify", "today").code == 0


def test_more_differences_than_a_table_shows_are_mended_all_the_same(
    followed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(followed, *[placed(f"{letter}1", 1) for letter in "defghijk"])
    assert here("worker", "--once").code == 0
    sql(followed, "UPDATE everlog_fold SET state = x'3939' WHERE projection = 'revenue'")
    from everlog.cli import output

    monkeypatch.setattr(output, "TABLE_ROWS", 3)
    ran = verify("revenue", "--repair")
    assert (ran.code, len(ran.out.splitlines())) == (0, 4)
    assert "only the first 3 are shown" in ran.err
    assert verify("revenue").code == 0


def test_it_goes_on_again_and_again_until_it_is_told_to_stop(wrong: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def told_to_stop(stopping: threading.Event, seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 2:
            sql(wrong, "UPDATE everlog_subscription SET anew = 1 WHERE name = 'revenue'")
        return len(pauses) == 3

    monkeypatch.setattr(cli_verify, "told_to_stop", told_to_stop)
    ran = verify("revenue", "--every", "15m", "--repair")
    assert (ran.code, pauses) == (0, [900.0] * 3)
    assert [line.split("\t")[1] for line in ran.out.splitlines()] == ["acme/a", "default/a", "default/b"]
    assert "4 rows compared up to position 8, 3 found to differ, 3 of them mended" in ran.err
    assert "4 rows compared up to position 8, 0 found to differ" in ran.err
    assert "warning: revenue was not verified: 'revenue' was sent back" in ran.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("--full", "--sample", "3"), "exclude each other"),
        (("--sample", "3", "--key", "a"), "exclude each other"),
        (("--seed", "3"), "add --sample N"),
        (("--every", "soon"), "'soon' is no length of time"),
        (("--every", "0s"), "'0s' is no length of time"),
        (("--sample", "0"), "--sample"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(followed: Path, line: tuple[str, ...], message: str) -> None:
    ran = verify("revenue", *line)
    assert (ran.code, message in ran.err) == (2, True), ran.err


def test_what_is_not_there_is_said(log: Path) -> None:
    assert told(verify("revenue", "--json"))[:2] == (3, "not_found")
    assert told(verify("revenues", "--json"))[:2] == (2, "misconfigured")
    assert told(verify("placed-table", "--json"))[:2] == (2, "misconfigured")


def test_how_far_it_is_is_shown(wrong: Path) -> None:
    ran = verify("revenue", "--progress", "json")
    assert any('"total":8' in line for line in ran.err.splitlines()), ran.err
