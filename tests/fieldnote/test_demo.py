"""The demo: the same every time, told in full, and at home on a log that others use too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everlog import IncompatibleStore, Log, Misconfigured, Platform, Recorded, event
from everlog.fieldnote import story
from everlog.fieldnote.app import platform
from everlog.fieldnote.demo import run
from everlog.fieldnote.tenants import CreateTenant, tenants
from everlog.fieldnote.users import users


@event("note.written")
class NoteWritten:
    text: str


notes = Platform("memory:", NoteWritten)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/demo.db"


def everything(log: Log) -> Iterator[Recorded[Any]]:
    return log.admin().events()


def stored(url: str) -> list[object]:
    """Everything of the log that is ours to fix: ids, times and bytes."""
    with platform.open(url) as log:
        return [*(recorded.stored for recorded in everything(log)), *log.admin().streams()]


def test_two_fresh_logs_hold_the_same(tmp_path: Path) -> None:
    logs = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "other")]
    for url in logs:
        run(url, wait=False)
    one, other = map(stored, logs)
    assert one == other


def test_running_again_stores_nothing_and_tells_the_same(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(url, wait=False)
    before, told = stored(url), capsys.readouterr().out
    run(url, wait=False)
    assert stored(url) == before
    assert capsys.readouterr().out == told


def test_every_step_is_stored_at_its_own_time_by_who_took_it(url: str) -> None:
    run(url, wait=False)
    with platform.open(url) as log:
        found = {(entry.when, entry.who, entry.ip, entry.user_agent) for entry in log.admin().audit()}
    steps = [*story.first_year(), *story.this_year()]
    assert found == {(f"{s.at:%Y-%m-%dT%H:%M:%S.%fZ}", s.who.actor, s.who.ip, s.who.user_agent) for s in steps}


def test_no_two_steps_share_a_moment_or_a_request() -> None:
    steps = [*story.first_year(), *story.this_year()]
    assert len({step.request_id for step in steps}) == len(steps)
    assert len({(step.tenant, step.at) for step in steps}) == len(steps)
    assert [step.at for step in steps] == sorted(step.at for step in steps)


def test_it_is_large_enough_to_look_around_in(url: str) -> None:
    run(url, wait=False)
    with platform.open(url) as log:
        sessions = [log.tenant(name) for name in story.TENANTS]
        people = [head for session in sessions for head in session.streams("user")]
        kinds = {recorded.type for recorded in everything(log)}
        assert (len(sessions), len(people)) == (3, 12)
        assert 90 <= log.head().position <= 120
        assert kinds == set(platform.types.kinds)


def test_one_user_has_a_snapshot_and_loads_the_same_without(url: str) -> None:
    run(url, wait=False)
    with platform.open(url) as log:
        assert [kept.stream for kept in log.store.snapshots.all("acme")] == ["user-u-1"]
        with_it = log.tenant("acme").state(users, "u-1")
        log.store.snapshots.delete(None)
        assert log.tenant("acme").state(users, "u-1") == with_it


PARTS = [
    "3 tenants, 12 users, 99 events",
    "Audit trail of initech",
    "billing  tenant.suspended    192.0.2.2   billing/1.9",
    "stored as user.profile_updated v1",
    "reads as user.profile_updated v3",
    "reads as user.email_changed v1",
    "locked (until='2026-02-27T16:21:00+00:00')",
    "email_taken",
    "last_owner",
    "tenant_closed",
    "User u-2 of acme, 2026-01-15 00:00 and now",
    "role                       member                admin                 62",
    "62  2026-01-27 11:30  u-1  user.role_changed",
    "How to look further",
    "audit list --tenant",
    "doctor",
]


def test_it_tells_what_there_is_to_see(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(url, wait=False)
    told = capsys.readouterr().out
    assert [part for part in PARTS if part not in told] == []


def test_what_it_tells_fits_a_terminal_but_for_what_is_to_be_copied(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(url, wait=False)
    story_told = capsys.readouterr().out.partition("How to look further")[0].splitlines()
    assert [line for line in story_told[1:] if len(line) > 80] == []


def test_as_json_it_is_one_object_with_the_same_parts(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(url, wait=False, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [line["events"] for line in told["tenants"]] == [64, 22, 13]
    assert told["audit"][-1]["what"] == "tenant.closed"
    assert told["upcast"]["stored"]["version"] == 1
    assert {line["because"].split()[0] for line in told["refused"]} == {
        "locked", "email_taken", "last_owner", "tenant_closed",
    }  # fmt: skip
    role = next(line for line in told["change"]["fields"] if line["field"] == "role")
    assert (role["before"], role["after"], role["positions"]) == ("member", "admin", ["62"])
    assert all(hint["command"].startswith("everlog --app") for hint in told["look_further"])


def test_what_the_business_refuses_is_in_no_log(url: str) -> None:
    run(url, wait=False)
    with platform.open(url) as log:
        assert "user-u-13" not in [head.stream for head in log.admin().streams()]


def test_the_folder_is_made(tmp_path: Path) -> None:
    run(f"sqlite:///{tmp_path}/not/yet there/demo.db", wait=False)
    assert (tmp_path / "not" / "yet there" / "demo.db").is_file()


def test_an_escaped_folder_is_made_where_the_log_will_be(tmp_path: Path) -> None:
    run(f"sqlite:///{tmp_path}/100%25/demo.db?lock_timeout=5", wait=False)
    assert (tmp_path / "100%" / "demo.db").is_file()


def test_a_log_of_others_is_shared_and_said_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with notes.open(url) as log:
        log.tenant("mine").append("note-1", NoteWritten("first"), NoteWritten("second"))
    run(url, wait=False)
    assert "The log also holds 2 events of other tenants; they were left alone." in capsys.readouterr().out
    with notes.open(url) as log:
        assert [recorded.data.text for recorded in log.tenant("mine").events(NoteWritten)] == ["first", "second"]


def test_a_tenant_of_that_name_that_is_not_the_demos_is_refused(url: str) -> None:
    other = story.first_year()[0].what
    assert isinstance(other, CreateTenant)
    with platform.open(url) as log:
        log.tenant("acme").execute(tenants, "acme", other)
    with pytest.raises(IncompatibleStore, match=r"tenant 'acme' of this log is another's.*slug_taken.*its own"):
        run(url, wait=False)


def test_a_log_that_is_gone_when_closed_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"give it sqlite:///demo\.db"):
        run("memory:", wait=False)
