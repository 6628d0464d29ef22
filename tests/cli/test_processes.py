"""Processes that wait, at a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from everlog import Platform
from tests.cli.conftest import here
from tests.process.parts import NOON, Cancelled, Clock, Placed, TakenIn, Waited, boxes, parcels, quiet

APP = """
from everlog import Platform, Schedule
from tests.process.parts import Cancelled, Placed, TakenIn, boxes, parcels

nightly = Schedule("nightly", cron="0 2 * * *", zone="Europe/Berlin", tenant="acme")
platform = Platform("sqlite:///shop.db", boxes, parcels(), Placed, TakenIn, Cancelled, nightly)
"""


@pytest.fixture
def waiting(folder: Path) -> Path:
    """A process of acme that has set its timers, and one of globex; their time is long past."""
    (folder / "waiting.py").write_text(APP)
    (folder / "everlog.toml").write_text('app = "waiting:platform"\ntenant = "acme"\n')
    from everlog.cli.opening import load_platform

    clock = Clock()
    with load_platform("waiting:platform").open(worker=True, lease_seconds=0.4, clock=clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        log.tenant("globex").append("order-q", Placed("q"))
        quiet(log, clock)
    return folder


def test_list_says_what_each_follows_and_commands_and_how_far_it_is(waiting: Path) -> None:
    [one] = here("process", "list", "--json").data
    assert one["name"] == "parcel"
    assert one["follows"] == "order.cancelled, order.placed, order.taken_in"
    assert (one["commands"], one["status"], one["lag"], one["lanes"]) == ("box", "running", 0, 0)
    assert "parcel" in here("process", "list").out


def test_show_has_the_state_the_timers_and_the_events(waiting: Path) -> None:
    told = here("process", "show", "parcel", "p", "--json").data
    assert (told["status"], told["state"], told["version"]) == ("under way", 0, 1)
    assert [one["name"] for one in told["timers"]] == ["ask", "taken in"]
    assert [one["type"] for one in told["events"]] == ["process.reacted"]
    for text in ("under way", "taken in", "process.reacted"):
        assert text in here("process", "show", "parcel", "p").out


def test_show_says_when_there_are_more_events(waiting: Path) -> None:
    with Platform("sqlite:///shop.db", boxes, parcels(), Placed, TakenIn, Cancelled).open() as log:
        for _ in range(60):
            log.tenant("acme").append("parcel-p", Waited(1))
    ran = here("process", "show", "parcel", "p", "--json")
    assert len(ran.data["events"]) == 50
    assert "only the last 50 of 61 events are shown: add --limit 61" in ran.err
    assert len(here("process", "show", "parcel", "p", "--limit", "61", "--json").data["events"]) == 61


def test_show_says_what_there_is_instead(waiting: Path) -> None:
    assert here("process", "show", "parcell", "p").err.count("did you mean 'parcel'") == 1
    missing = here("process", "show", "parcel", "nobody")
    assert (missing.code, "has no process parcel nobody" in missing.err) == (3, True)


def test_timers_are_listed_by_due_time_of_one_tenant_or_all(waiting: Path) -> None:
    ours = here("process", "timers", "--json").data
    assert [(one["due_at"], one["process"], one["name"], one["kind"]) for one in ours] == [
        ("2026-03-02T12:10:00.000000Z", "parcel-p", "ask", "timer"),
        ("2026-03-02T12:15:00.000000Z", "parcel-p", "taken in", "expectation"),
    ]
    everybodys = here("process", "timers", "--all-tenants", "-o", "ndjson").lines
    assert [one["tenant"] for one in everybodys] == ["acme", "globex", "acme", "globex"]
    assert len(here("process", "timers", "--limit", "1", "--json").data) == 1


def test_due_shows_only_those_whose_time_has_come(waiting: Path) -> None:
    due_then = len(here("process", "timers", "--due", "--json").data)
    assert due_then == (2 if datetime.now(UTC) > NOON else 0)


def test_timers_are_made_anew_by_the_worker(waiting: Path) -> None:
    assert here("process", "timers", "--rebuild", "--json").data == {"rebuild": "everlog-timers"}
    status = here("projection", "status", "everlog-timers", "--json").data
    assert status["position"] == "0"


def test_schedules_say_when_they_come_next(waiting: Path) -> None:
    [one] = here("process", "schedules", "--json").data
    assert (one["name"], one["zone"], one["tenant"], one["last"]) == ("nightly", "Europe/Berlin", "acme", "")
    assert one["next"].endswith(("T00:00:00.000000Z", "T01:00:00.000000Z"))
