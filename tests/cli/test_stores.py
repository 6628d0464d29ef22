"""`store migrate` and `store copy` at a terminal."""

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from everlog.adapters.postgres import FORMAT
from tests.cli.conftest import PROGRAM, URL, event, fill, here, interrupted, process

# Migrating


def test_of_two_that_migrate_at_once_one_makes_the_tables(database: str) -> None:
    with ThreadPoolExecutor(2) as both:
        ran = list(both.map(lambda _: process("store", "migrate", "--store", database, "--json"), range(2)))
    assert [one.code for one in ran] == [0, 0], [one.err for one in ran]
    every = list(range(1, FORMAT + 1))
    assert sorted((one.data["steps"] for one in ran), key=len) == [[], every]
    assert {one.data["format"] for one in ran} == {FORMAT}
    assert here("event", "append", "s-1", "--type", "t", "--store", database).code == 0


def test_migrated_again_there_is_nothing_to_do(database: str) -> None:
    here("store", "migrate", "--store", database)
    again = here("store", "migrate", "--store", database)
    assert (again.code, f"nothing to do: the tables have format {FORMAT}" in again.err) == (0, True)


@pytest.mark.parametrize("line", [("store", "migrate"), ("event", "list"), ("event", "append", "s-1", "--type", "t")])
def test_what_a_newer_everlog_wrote_is_refused(database: str, line: tuple[str, ...]) -> None:
    here("store", "migrate", "--store", database)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE everlog_log SET format = 99")
    ran = here(*line, "--store", database, "--json")
    assert (ran.code, ran.json["diagnostics"][-1]["code"]) == (2, "incompatible_store")
    assert "format 99, this everlog reads up to" in ran.err


def test_a_file_needs_no_migrating(folder: Path) -> None:
    first = here("store", "migrate", "--store", URL, "--json")
    assert (first.data, (folder / "shop.db").exists()) == ({"format": 1, "steps": [1]}, True)
    again = here("store", "migrate", "--store", URL)
    assert "nothing to do: the tables have format 1" in again.err


def test_roles_are_made_where_they_are_named(database: str) -> None:
    roles = ("--engine-role", "test_engine", "--tenant-role", "test_tenants")
    assert here("store", "migrate", "--store", database, *roles).code == 0
    with psycopg.connect(database) as connection:
        may = "SELECT has_table_privilege(%s, 'everlog_event', %s)"
        allowed = [
            connection.execute(may, (role, privilege)).fetchone()
            for role in ("test_engine", "test_tenants")
            for privilege in ("SELECT", "INSERT")
        ]
    assert allowed == [(True,), (True,), (True,), (False,)]


def test_a_file_knows_no_roles(folder: Path) -> None:
    ran = here("store", "migrate", "--store", URL, "--tenant-role", "readers")
    assert (ran.code, "knows no roles" in ran.err) == (2, True)


def test_doctor_shows_no_password(database: str) -> None:
    here("store", "migrate", "--store", database)
    secret = database.replace("://postgres@", "://postgres:hunter2@")
    ran = here("doctor", "--store", secret)
    assert "hunter2" not in ran.out + ran.err
    assert ":…@" in ran.out


# Copying


def test_a_log_is_moved_and_both_say_so(diverse: Path, database: str) -> None:
    listed = ("event", "list", "-o", "ndjson", "--raw", "--all-tenants")
    before = here(*listed, "--store", URL).out
    ran = here("store", "copy", URL, database, "--json", "--progress", "json")
    assert ran.code == 0, ran.err
    assert set(ran.data) == {"events", "streams", "root", "log_id", "incarnation", "found"}
    assert (ran.data["events"], ran.data["streams"], ran.data["incarnation"]) == (7, 5, 2)
    assert json.loads(ran.err.splitlines()[0]).keys() == {"done", "total", "count", "rate", "seconds_left"}
    assert here(*listed, "--store", database).out == here(*listed, "--store", URL).out == before

    refused = here("event", "append", "s-1", "--type", "t", "--store", URL)
    assert (refused.code, "the log takes no appends: it was moved to postgresql://" in refused.err) == (5, True)
    doctor = here("doctor", "--store", URL, "--json")
    assert [one["level"] for one in doctor.data["findings"] if one["check"] == "appends"] == ["warning"]
    assert here("event", "append", "s-1", "--type", "t", "--store", database).code == 0
    again = here("store", "copy", URL, database, "--json")
    assert (again.code, again.data["root"]) == (0, ran.data["root"])
    assert "an earlier run had finished" in again.err


@pytest.mark.parametrize(
    ("source", "target", "code", "says"),
    [
        ("sqlite:///nowhere.db", "sqlite:///b.db", 3, "there is no log at"),
        (URL, URL, 2, "cannot be copied into itself"),
        (URL, "memory:", 2, "memory: is gone when this process ends"),
        (URL, "sqlite:///other.db", 2, "holds a log of its own"),
    ],
)
def test_what_cannot_be_moved_is_said(diverse: Path, source: str, target: str, code: int, says: str) -> None:
    fill(diverse / "other.db", [event()])
    ran = here("store", "copy", source, target)
    assert (ran.code, says in ran.err) == (code, True), ran.err
    assert here("event", "append", "s-1", "--type", "t", "--store", URL).code == 0


def test_a_log_whose_copy_is_given_up_takes_appends_again(diverse: Path, database: str) -> None:
    assert here("store", "copy", URL, database).code == 0
    worker = here("worker", "--once")
    assert (worker.code, "the log takes no appends: it was moved to" in worker.err) == (5, True)
    refused = here("store", "reopen", "--store", URL)
    assert (refused.code, "--force" in refused.err) == (2, True)
    opened = here("store", "reopen", "--store", URL, "--force", "--json")
    assert (opened.code, opened.data["was_closed"].startswith("it was moved to postgresql://")) == (0, True)
    assert here("event", "append", "s-1", "--type", "t", "--store", URL).code == 0
    assert "incarnation 3" in here("doctor", "--store", URL).out
    assert "nothing to do" in here("store", "reopen", "--store", URL, "--force").err
    assert here("store", "reopen", "--store", "sqlite:///nowhere.db", "--force").code == 3


def test_interrupted_it_says_how_far_it_is_and_goes_on(folder: Path) -> None:
    fill(folder / "shop.db", [event(f"order-{n}") for n in range(3000)])
    ran = interrupted(
        "store", "copy", URL, "sqlite:///moved.db", "--progress", "json", when=lambda told: "done" in told
    )
    assert (ran.code, "run it again to go on" in ran.err) == (130, True), ran.err
    done = here("store", "copy", URL, "sqlite:///moved.db", "--json")
    assert (done.code, done.data["events"], done.data["found"] >= 1000) == (0, 3000, True), done.err


def test_whoever_is_stopped_in_the_middle_of_moving_is_told_what_to_run(folder: Path) -> None:
    fill(folder / "shop.db", [event(f"order-{n}") for n in range(3000)])
    line = [*PROGRAM, "store", "copy", URL, "sqlite:///moved.db", "--progress", "json"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as copy:
        assert copy.stderr is not None
        copy.stderr.readline()
        copy.send_signal(signal.SIGKILL)
    refused = here("event", "append", "s-1", "--type", "t", "--store", "sqlite:///moved.db")
    assert (refused.code, "a copy of sqlite://" in refused.err) == (5, True), refused.err
    assert here("event", "append", "s-1", "--type", "t", "--store", URL).code == 0
