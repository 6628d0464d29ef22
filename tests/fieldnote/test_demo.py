"""The demo: the same every time, told in full, and at home on a log that others use too."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from everlog import IncompatibleStore, LaneFilter, LaneOperator, Log, Misconfigured, Platform, Recorded, event
from everlog.fieldnote import story
from everlog.fieldnote.app import platform
from everlog.fieldnote.demo import run
from everlog.fieldnote.directory import directory
from everlog.fieldnote.post import post_office
from everlog.fieldnote.tenants import CreateTenant, tenants
from everlog.fieldnote.users import users
from tests.fieldnote.parts import PROCESSORS, stored


@event("note.written")
class NoteWritten:
    text: str


notes = Platform("memory:", NoteWritten)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/demo.db"


def everything(log: Log) -> Iterator[Recorded[Any]]:
    return log.admin().events()


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
        found = {
            (entry.when, entry.who, entry.ip, entry.user_agent)
            for entry in log.admin().audit()
            if entry.who not in PROCESSORS and not entry.what.startswith("incident.")
        }
    steps = [*story.first_year(), *story.this_year(), *story.mended()]
    assert found == {(f"{s.at:%Y-%m-%dT%H:%M:%S.%fZ}", s.who.actor, s.who.ip, s.who.user_agent) for s in steps}


def test_no_two_steps_share_a_moment_or_a_request() -> None:
    steps = [*story.first_year(), *story.this_year(), *story.mended()]
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
    "3 tenants, 12 users, 117 events",
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
    "resource-allocation  processor   3 events",
    "/outbox (EVERLOG_SMTP=host:port would name a mail server)",
    "welcome-mail parked the lane globex/user-u-6",
    "position 19 failed 3 times",
    "others went on: 11 mails were sent meanwhile",
    "114  2026-02-27 17:30  u-6  user.email_changed",
    "globex   pro      4             eu-central 3  0 welcomed  3 welcomed  4 welcomed",
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
    assert [line for line in story_told[1:] if len(line) > 80 and not line.startswith("Mails: ")] == []


def test_as_json_it_is_one_object_with_the_same_parts(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(url, wait=False, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [line["events"] for line in told["tenants"]] == [71, 31, 15]
    assert told["audit"][-1]["what"] == "tenant.closed"
    assert told["upcast"]["stored"]["version"] == 1
    assert {line["because"].split()[0] for line in told["refused"]} == {
        "locked", "email_taken", "last_owner", "tenant_closed",
    }  # fmt: skip
    role = next(line for line in told["change"]["fields"] if line["field"] == "role")
    assert (role["before"], role["after"], role["positions"]) == ("member", "admin", ["62"])
    assert all(hint["command"].startswith("everlog --app") for hint in told["look_further"])


def test_as_json_it_tells_what_the_worker_did(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(url, wait=False, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["followers"]] == [part.name for part in platform.follows()]
    incident = told["incident"]
    assert (incident["processor"], incident["lane"], incident["position"]) == ("welcome-mail", "globex/user-u-6", "19")
    assert (incident["attempts"], incident["error"].split(":")[0]) == (3, "Undeliverable")
    assert [one["position"] for one in incident["worked_off"]] == ["19", "114"]
    globex = told["overview"][1]
    assert [globex[then]["welcomed"] for then in ("told", "parked", "now")] == [0, 3, 4]
    assert [globex[then]["resources"] is None for then in ("told", "parked", "now")] == [True, False, False]


def test_nothing_is_left_in_a_lane_and_all_who_are_active_are_welcomed(url: str) -> None:
    run(url, wait=False)
    with platform.open(url) as log:
        lanes = LaneOperator(log.store, None)
        assert [lane for part in platform.processors for lane in lanes.find(LaneFilter(part.name))] == []
        entries = [entry for name in story.TENANTS for _, entry in log.tenant(name).all(directory)]
    assert [entry.name for entry in entries if entry.welcomed != (entry.status == "active")] == []
    assert len(entries) == 12


def test_the_mails_lie_beside_the_log(url: str, tmp_path: Path) -> None:
    run(url, wait=False)
    mails = [message_from_bytes(path.read_bytes()) for path in (tmp_path / "outbox").iterdir()]
    assert Counter(mail["Subject"].partition(":")[0] for mail in mails) == {
        "Welcome to Fieldnote": 10, "Your new address at Fieldnote": 3, "New customer": 3,
    }  # fmt: skip
    assert [mail["To"] for mail in mails if "farid" in mail["To"]] == ["Farid Haddad <farid@example.org>"] * 2


def test_a_mail_server_that_is_not_there_is_said_before_anything_happens(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("EVERLOG_SMTP", f"127.0.0.1:{port}")
    with pytest.raises(Misconfigured, match=rf"no mail server answers at 127\.0\.0\.1:{port}"):
        run(url, wait=False)
    assert not (tmp_path / "demo.db").exists()


@pytest.mark.parametrize("setting", ["localhost", "localhost:", ":25", "localhost:smtp"])
def test_a_setting_that_names_no_mail_server_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOG_SMTP", setting)
    with pytest.raises(Misconfigured, match="write host:port"):
        post_office(Path("outbox"))


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
