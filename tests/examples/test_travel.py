"""The travel log tells on every day what was true then: the published one, and one made up here."""

import csv
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from everlog import Platform
from everlog.app.copying import copy_log
from examples.travel import PAID, SUBMITTED, time_travel
from examples.travel.__main__ import BAD_LINES, MAP, TENANT, main
from examples.travel.read_model import ACTIVITIES, STEPS, first_times, read_model
from tests.postgres.server import empty_database

ROOT = Path(__file__).parents[2]
PLATFORM = Platform("memory:", first_times, *STEPS)
HEADER = [
    *("time", "declaration", "organisation_unit", "permit", "requested_amount"),
    *("amount", "activity", "step_id", "resource", "role"),
]
Rows = list[dict[str, str]]
Ask = Callable[..., dict[str, int]]


def _published() -> Path:
    """The real log, which is not ours to copy."""
    given = os.environ.get("EVERLOG_TRAVEL")
    path = Path(given) if given else ROOT.parent / "shared" / "data" / "travel_declarations.csv.gz"
    if given or path.is_file():
        return path
    pytest.skip(f"THE REAL TRAVEL LOG WAS NOT TESTED: {path} is not there; set EVERLOG_TRAVEL to its place")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A log that the published file is imported into once; each test imports it again, which finds nothing to do."""
    return f"sqlite:///{tmp_path_factory.mktemp('travel') / 'travel.db'}"


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """Runs the program in this process and gives its answer, on which both of its ways agree."""

    def run(file: Path, *arguments: str, store: str = "memory:", code: int = 0) -> dict[str, int]:
        rejects = ["--rejects", str(tmp_path / "rejects.ndjson")]
        assert main([str(file), "--store", store, "--json", *rejects, *arguments]) == code
        answers = json.loads(capsys.readouterr().out)
        assert list(answers) == ["read_model", "time_travel"]
        assert answers["read_model"] == answers["time_travel"]
        return dict(answers["time_travel"])

    return run


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2018-07-01T00:00:00Z", {"exist": 4804, "submitted": 3639, "paid": 3275, "open": 364}),
        ("2018-07-01T02:00:00+02:00", {"exist": 4804, "submitted": 3639, "paid": 3275, "open": 364}),
        (None, {"exist": 6449, "paid": 6187, "paid_total": 494_069_900}),
        ("2016-10-04T21:59:59.999999Z", {"exist": 0, "submitted": 0, "paid": 0, "open": 0, "paid_total": 0}),
        ("2016-10-04T22:00:00Z", {"exist": 1, "submitted": 0, "paid": 0, "open": 0, "paid_total": 0}),
    ],
)
def test_the_published_log_gives_the_known_numbers(
    ask: Ask, imported: str, at: str | None, expected: dict[str, int]
) -> None:
    answer = ask(_published(), *(["--at", at] if at else []), store=imported)
    assert {name: answer[name] for name in expected} == expected
    assert (answer["events"], answer["streams"]) == (72_151, 6_449)


def test_the_published_log_agrees_with_a_plain_count_on_other_dates_and_cuts(ask: Ask, tmp_path: Path) -> None:
    """Cut in the middle of a declaration's life, then whole, in one log."""
    with gzip.open(_published(), "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    log = f"sqlite:///{tmp_path / 'travel.db'}"
    for cut, at in [
        (20_000, "2017-12-31T23:30:00Z"),
        (50_000, "2018-03-25T01:00:00Z"),
        (len(rows), "2019-01-01T00:00:00Z"),
    ]:
        assert ask(_written(tmp_path, rows[:cut]), "--at", at, store=log) == _plain_count(rows[:cut], at)


def test_the_published_log_has_one_answer_on_any_date_however_it_is_asked(imported: str, ask: Ask) -> None:
    ask(_published(), store=imported)
    first, random = datetime(2016, 10, 1, tzinfo=UTC), Random(7)
    dates = [first + timedelta(seconds=random.randrange(1_000 * 86_400)) for _ in range(12)]
    with PLATFORM.open(imported) as log:
        university = log.tenant(TENANT)
        rows, events = [state for _, state in university.all(first_times)], list(university.events())
    assert [read_model(rows, at) for at in dates] == [time_travel(events, at) for at in dates]


def test_each_activity_of_the_published_log_is_one_that_the_read_model_knows() -> None:
    with gzip.open(_published(), "rt", newline="") as file:
        assert {row["activity"] for row in csv.DictReader(file)} <= set(ACTIVITIES)


def _made_up(seed: int, declarations: int = 60) -> Rows:
    """Declarations of every fate, with repeats, gaps, both offsets, and times that differ by a microsecond."""
    random = Random(seed)
    rows: Rows = []
    for number in range(declarations):
        amount = f"{random.randrange(100_000)}.{random.randrange(100):02}"
        fate = [
            "Start trip",
            "End trip",
            SUBMITTED,
            "Declaration REJECTED by EMPLOYEE",
            SUBMITTED,
            "Request Payment",
            PAID,
        ]
        at = datetime(2018, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(700))
        for step, activity in enumerate(
            fate[: random.randrange(1, len(fate) + 1)] + random.choices([[], [PAID]], [4, 1])[0]
        ):
            at += timedelta(hours=random.randrange(72), microseconds=random.randrange(3))
            offset = timezone(timedelta(hours=random.choice([1, 2])))
            rows.append({
                "time": at.astimezone(offset).isoformat(),
                "declaration": f"declaration-{number}",
                "organisation_unit": random.choice(["", "unit, with comma", 'unit "7"']),
                "permit": random.choice(["", f"permit-{number // 2}"]),
                "requested_amount": random.choice(["", amount]),
                "amount": amount,
                "activity": activity,
                "step_id": f"step {number // 2} {step}",
                "resource": random.choice(["STAFF MEMBER", "SYSTEM"]),
                "role": random.choice(["EMPLOYEE", "two\nlines", ""]).replace("\n", " "),
            })  # fmt: skip
    random.shuffle(rows)
    return rows


def _written(folder: Path, rows: Sequence[dict[str, str]], name: str = "made-up.csv.gz") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER)
    writer.writeheader()
    writer.writerows(rows)
    (folder / name).write_bytes(gzip.compress(text.getvalue().encode()))
    return folder / name


def _plain_count(rows: Rows, at: str) -> dict[str, int]:
    """The same questions put to the file itself."""
    then = [row for row in rows if datetime.fromisoformat(row["time"]) <= datetime.fromisoformat(at)]
    submitted = {row["declaration"] for row in then if row["activity"] == SUBMITTED}
    amounts = {row["declaration"]: Decimal(row["amount"]) for row in then if row["activity"] == PAID}
    return {
        "exist": len({row["declaration"] for row in then}),
        "submitted": len(submitted),
        "paid": len(amounts),
        "open": len(submitted - amounts.keys()),
        "paid_total": int(sum(amounts.values()) * 100),
        "events": len(rows),
        "streams": len({row["declaration"] for row in rows}),
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_made_up_log_agrees_with_a_plain_count_on_any_day(ask: Ask, tmp_path: Path, seed: int) -> None:
    rows = _made_up(seed)
    file, log = _written(tmp_path, rows), f"sqlite:///{tmp_path / 'log.db'}"
    times = sorted(row["time"] for row in rows)
    for at in ["2018-01-01T00:00:00Z", *times[:: len(times) // 5], "2030-01-01T00:00:00+02:00"]:
        assert ask(file, "--at", at, store=log) == _plain_count(rows, at)


@pytest.mark.parametrize("seed", range(4))
def test_on_any_date_the_read_model_says_what_the_log_says(tmp_path: Path, ask: Ask, seed: int) -> None:
    """Amounts that change on the way, payments without one, and days in another order than the log."""
    random, log = Random(seed), f"sqlite:///{tmp_path / 'log.db'}"
    rows = [
        row | {"amount": random.choice(["", row["amount"], f"{random.randrange(9)}.00"])} for row in _made_up(seed, 30)
    ]
    ask(_written(tmp_path, rows), store=log)
    dates = [datetime(2018, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(800 * 86_400)) for _ in range(40)]
    moments = [datetime.fromisoformat(row["time"]) for row in random.sample(rows, 40)]
    with PLATFORM.open(log) as opened:
        university = opened.tenant(TENANT)
        known, events = [state for _, state in university.all(first_times)], list(university.events())
    for at in [None, *dates, *moments, *(moment - timedelta(microseconds=1) for moment in moments)]:
        assert read_model(known, at) == time_travel(events, at)


def test_an_activity_that_the_read_model_does_not_know_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _made_up(1)
    file = _written(tmp_path, [rows[0] | {"activity": "Hotel booked"}, *rows[1:]])
    assert main([str(file), "--json"]) == 1
    captured = capsys.readouterr()
    answers = json.loads(captured.out)
    assert answers["time_travel"]["events"] == answers["read_model"]["events"] + 1
    assert "add them to ACTIVITIES" in captured.err


def test_the_read_model_is_kept_from_run_to_run(tmp_path: Path, ask: Ask) -> None:
    rows, log = _made_up(8), f"sqlite:///{tmp_path / 'log.db'}"
    for cut in (10, 10, len(rows)):
        assert ask(_written(tmp_path, rows[:cut]), store=log)["events"] == cut
        with PLATFORM.open(log) as opened:
            [lag] = opened.lags()
            assert (lag.progress.name, lag.progress.position, lag.events) == ("first-times", cut, 0)
            assert sum(state.events for _, state in opened.tenant(TENANT).all(first_times)) == cut


def test_the_moment_itself_belongs_to_what_was_true(ask: Ask, tmp_path: Path) -> None:
    rows = [row | {"time": "2018-06-01T12:00:00.000001+02:00"} for row in _made_up(1)[:1]]
    file = _written(tmp_path, rows)
    assert ask(file, "--at", "2018-06-01T10:00:00.000001Z")["exist"] == 1
    assert ask(file, "--at", "2018-06-01T10:00:00Z")["exist"] == 0


def test_a_log_that_grows_is_imported_once(ask: Ask, tmp_path: Path) -> None:
    rows, log = _made_up(5), f"sqlite:///{tmp_path / 'log.db'}"
    for cut in (0, 17, 60, len(rows), len(rows)):
        assert ask(_written(tmp_path, rows[:cut]), store=log)["events"] == cut
    assert ask(_written(tmp_path, list(reversed(rows))), store=log) == _plain_count(rows, "2030-01-01T00:00:00Z")
    other = [row | {"declaration": "new-" + row["declaration"]} for row in rows]
    assert ask(_written(tmp_path, other), store=log)["events"] == 2 * len(rows)


def _payments(*amounts: str) -> Rows:
    """One declaration: submitted with the first amount, then a payment with each of the others."""
    row = _made_up(1)[0] | {"declaration": "d", "time": "2018-06-01T12:00:00+02:00", "activity": PAID}
    rows = [row | {"amount": amount, "step_id": str(step)} for step, amount in enumerate(amounts)]
    return [rows[0] | {"activity": SUBMITTED}, *rows[1:]]


@pytest.mark.parametrize(
    ("amounts", "cents"),
    [
        (("10.00", "10.00", "10.00"), 1000),
        (("10.00", "12.34", "99.00"), 1234),
        (("10.00", ""), 1000),
        (("", "", "7.05"), 705),
        (("", ""), 0),
        (("10.00",), 0),
    ],
)
def test_a_declaration_is_paid_once_for_the_first_amount_on_a_payment(
    ask: Ask, tmp_path: Path, amounts: tuple[str, ...], cents: int
) -> None:
    assert ask(_written(tmp_path, _payments(*amounts)))["paid_total"] == cents


def test_a_step_without_an_id_is_told_apart_by_its_content(ask: Ask, tmp_path: Path) -> None:
    rows = [row | {"step_id": ""} for row in _made_up(3)]
    log = f"sqlite:///{tmp_path / 'log.db'}"
    for _ in range(2):
        assert ask(_written(tmp_path, rows), store=log)["events"] == len(rows)


def test_a_bad_line_stops_nothing_and_is_told(ask: Ask, tmp_path: Path) -> None:
    rows = _made_up(2)
    bad = [*rows[:10], rows[10] | {"time": "yesterday"}, *rows[11:], rows[11] | {"amount": "much", "step_id": "x"}]
    answer = ask(_written(tmp_path, bad), code=BAD_LINES)
    assert answer["events"] == len(rows) - 1
    rejects = [json.loads(line) for line in (tmp_path / "rejects.ndjson").read_text().splitlines()]
    assert [reject["line"] for reject in rejects] == [12, len(bad) + 1]


def test_type_actor_and_stream_come_from_their_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _made_up(4)
    log = f"sqlite:///{tmp_path / 'log.db'}"
    assert main([str(_written(tmp_path, rows)), "--store", log]) == 0
    with Platform(log).open() as opened:
        events = list(opened.tenant(TENANT).events())
    actors = [f"{row['resource']} / {row['role']}" if row["role"] else None for row in rows]
    assert [event.actor for event in events] == actors
    assert [(event.stream, event.type) for event in events] == [(row["declaration"], row["activity"]) for row in rows]
    assert [event.json()["amount"] for event in events] == [
        {"minor": int(Decimal(row["amount"]) * 100), "currency": "EUR"} for row in rows
    ]


def test_it_runs_as_a_program_on_a_plain_file_in_memory(tmp_path: Path) -> None:
    rows = _made_up(6)
    file = tmp_path / "made-up.csv"
    file.write_bytes(gzip.decompress(_written(tmp_path, rows).read_bytes()))
    command = [sys.executable, "-m", "examples.travel", str(file), "--at", "2019-01-01T00:00:00Z"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    expected = _plain_count(rows, "2019-01-01T00:00:00Z")
    assert json.loads(done.stdout) == {"read_model": expected, "time_travel": expected}
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout
    header, *lines = told.replace(",", "").splitlines()
    assert header.split() == ["read_model", "time_travel"]
    assert [line.split() for line in lines] == [[name, str(value), str(value)] for name, value in expected.items()]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nowhere.csv"], 1, "not_found: nowhere.csv cannot be read"),
        (["nowhere.csv", "--store", "mysql://x"], 1, "misconfigured"),
        (["nowhere.csv", "--at", "2018-07-01T00:00:00"], 2, "has no time zone: write 2018-07-01T00:00:00Z"),
        (["nowhere.csv", "--at", "yesterday"], 2, "--at"),
        ([str(MAP)], 1, "misconfigured: `stream` reads the column"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if code == 2:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    else:
        assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err


def test_an_empty_log_is_answered_too(ask: Ask, tmp_path: Path) -> None:
    answer: dict[str, Any] = ask(_written(tmp_path, []))
    assert set(answer.values()) == {0}


def test_the_published_log_answers_the_same_on_postgresql_copied_or_imported(
    ask: Ask, imported: str, database: str, tmp_path: Path
) -> None:
    """Copied there the importer finds nothing to do; what it imports itself gives the same numbers."""
    at = ("--at", "2018-07-01T00:00:00Z")
    known = ask(_published(), *at, store=imported)
    assert (known["exist"], known["paid"], known["events"]) == (4804, 3275, 72_151)
    moving = f"sqlite:///{tmp_path / 'moving.db'}"
    with closing(sqlite3.connect(imported.removeprefix("sqlite:///"))) as before:
        before.execute("VACUUM INTO ?", (str(tmp_path / "moving.db"),))
    copied = copy_log(moving, database)
    assert (copied.events, copied.streams) == (72_151, 6_449)
    with PLATFORM.open(database) as log:
        assert log.head().position == 72_151
    assert ask(_published(), *at, store=database) == known
    with empty_database() as other:
        assert ask(_published(), *at, store=other) == known
