"""Following the log at a terminal: a test fails if its option is passed over, or an exit code is another."""

import json
import math
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from everlog.adapters.sqlite.checkpoints import boot_clock
from everlog.cli import worker as cli_worker
from everlog.core.ids import new_id
from tests.cli.conftest import Ran, ended, event, fill, here, running, store, until_told
from tests.cli.test_filters import CONDITIONS, positions
from tests.following.parts import eventually

SHOP = Path(__file__).with_name("test_following_shop.py")
DEAD = "mail", "default/order-b2"


def placed(order_id: str, cents: int) -> Any:
    data = json.dumps({"order_id": order_id, "cents": cents}).encode()
    return event(f"order-{order_id}", "order.placed", data)


def shipped(order_id: str) -> Any:
    return event(f"order-{order_id}", "order.shipped", json.dumps({"order_id": order_id}).encode())


@pytest.fixture
def signals() -> Iterator[None]:
    """Commands that run here instead of in a process of their own leave their signal handlers behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def log(folder: Path, signals: None) -> Path:
    """Two tenants; nothing has followed them yet. Recorded at 0 s to 5 s of 2026, acme's at 0 s and 1 s."""
    shutil.copy(SHOP, folder / "shop.py")
    (folder / "everlog.toml").write_text('app = "shop:platform"\n')
    (folder / "trouble").touch()
    (folder / "mails").touch()
    path = folder / "shop.db"
    fill(path, [placed("a1", 7), shipped("a1")], "acme")  # positions 1 and 2
    fill(path, [placed("a1", 100), shipped("a1"), placed("b2", 50), shipped("b2"), shipped("b2"), placed("c3", 5)])
    return folder


@pytest.fixture
def followed(log: Path) -> Path:
    """A worker has caught up."""
    ran = here("worker", "--once")
    assert ran.code == 0, ran.err
    return log


@pytest.fixture
def parked(log: Path) -> Path:
    """Three lanes: of mail b2 with two events in the default tenant and x9 of acme, of ledger c3."""
    append(log, shipped("x9"), tenant="acme")
    trouble(log, "b2 no such mailbox", "x9 time-out", "ledger/c3 no such account")
    assert here("worker", "--once").code == 0
    return log


def trouble(folder: Path, *lines: str) -> None:
    (folder / "trouble").write_text("\n".join(lines))


def append(folder: Path, *events: Any, tenant: str = "default") -> None:
    fill(folder / "shop.db", events, tenant)


def mails(folder: Path) -> list[str]:
    return (folder / "mails").read_text().splitlines()


def lines(*line: str) -> list[Any]:
    ran = here(*line, "-o", "ndjson")
    assert ran.code == 0, ran.err
    return ran.lines


def told(ran: Ran) -> tuple[int, str, str]:
    """The code of a command that failed, and the code and text of its error."""
    [error] = [one for one in ran.json["diagnostics"] if one["level"] == "error"]
    return ran.code, error["code"], error["message"]


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


# Projections


def test_projections_are_listed_with_how_far_they_are(followed: Path) -> None:
    found = lines("projection", "list")
    assert [(one["name"], one["status"], one["position"], one["lag"]) for one in found] == [
        (name, "running", "8", 0) for name in ("parcels", "placed-table", "revenue")
    ]
    append(followed, placed("d4", 1))
    assert [one["lag"] for one in lines("projection", "list")] == [1, 1, 1]
    assert here("projection", "list").out.splitlines()[0].split()[:5] == [
        "name",
        "version",
        "status",
        "position",
        "lag",
    ]


def test_before_a_worker_ran_there_is_nothing_to_list(log: Path) -> None:
    for noun in ("projection", "processor", "dlq"):
        assert lines(noun, "list") == []
    assert told(here("projection", "status", "revenue", "--json"))[:2] == (3, "not_found")


def test_the_status_of_a_projection_says_what_stopped_it(log: Path) -> None:
    trouble(log, "revenue/b2 too cheap")
    here("worker", "--once")
    ran = here("projection", "status", "revenue", "--json")
    assert (ran.code, ran.data["status"], ran.data["failed_position"]) == (1, "failed", "5")
    assert "too cheap" in ran.data["error"]
    assert here("projection", "status", "parcels").code == 0
    assert told(here("projection", "status", "mail", "--json"))[:2] == (3, "not_found")
    assert "did you mean 'revenue'" in here("projection", "status", "revenues").err

    trouble(log)
    here("worker", "--once")
    assert here("projection", "status", "revenue").code == 0


def test_the_states_of_a_fold_are_shown_by_key_tenant_and_number(followed: Path) -> None:
    def states(*options: str) -> list[tuple[str, str, int]]:
        return [(one["tenant"], one["key"], one["state"]) for one in lines("projection", "get", "revenue", *options)]

    assert states() == [("default", "a", 100), ("default", "b", 50), ("default", "c", 5)]
    assert states("b") == [("default", "b", 50)]
    assert states("--tenant", "acme") == [("acme", "a", 7)]
    assert states("--all-tenants") == [("acme", "a", 7), *states()]
    assert states("--limit", "2") == states()[:2]
    assert here("projection", "get", "revenue", "b", "--json").data["position"] == "5"


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        (["get", "revenue", "z"], 3, "no key 'z'"),
        (["get", "revenue", "a", "--all-tenants"], 2, "a key is inside its tenant"),
        (["get", "placed-table"], 2, "query them with SQL"),
        (["get", "revenues"], 2, "did you mean 'revenue'"),
        (["rebuild", "mail"], 2, "no projection 'mail'"),
        (["rebuild", "today", "--app", "shop:with_today"], 2, "is inline"),
        (["wait", "revenues"], 2, "did you mean 'revenue'"),
    ],
)
def test_what_a_projection_cannot_do_is_said(followed: Path, line: list[str], code: int, error: str) -> None:
    ran_code, _, message = told(here("projection", *line, "--json"))
    assert ran_code == code
    assert error in message


@pytest.mark.parametrize(
    "line",
    [["projection", "get", "revenue"], ["worker"], ["time", "state", "--at", "1"], ["time", "compare", "--from", "1"]],
    ids=" ".join,
)
def test_without_the_application_it_is_said_what_is_missing(log: Path, line: list[str]) -> None:
    (log / "everlog.toml").unlink()
    assert told(here("--store", "sqlite:///shop.db", *line, "--json"))[:2] == (2, "misconfigured")


def test_a_rebuild_begins_anew_and_resume_goes_on(followed: Path) -> None:
    sql(followed, "UPDATE everlog_fold SET state = ? WHERE projection = 'revenue' AND tenant = 'acme'", b"1000")
    sql(followed, "DELETE FROM placed")

    ran = here("projection", "rebuild", "revenue", "--resume", "--json")
    assert (ran.code, ran.data) == (0, {"projection": "revenue", "position": "8"})
    assert here("projection", "get", "revenue", "a", "--tenant", "acme", "--json").data["state"] == 1000
    assert here("projection", "rebuild", "revenue", "--json").data == {"projection": "revenue", "position": "8"}
    assert here("projection", "get", "revenue", "a", "--tenant", "acme", "--json").data["state"] == 7

    assert here("projection", "rebuild", "placed-table").code == 0
    assert sorted(sql(followed, "SELECT id FROM placed")) == [("a1",), ("a1",), ("b2",), ("c3",)]
    assert len(mails(followed)) == 4  # no processor ran


def test_a_rebuild_that_meets_trouble_says_where(followed: Path) -> None:
    trouble(followed, "revenue/b2 too cheap")
    code, error, message = told(here("projection", "rebuild", "revenue", "--json"))
    assert (code, error) == (1, "subscription_failed")
    assert "position 5" in message
    trouble(followed)
    assert here("projection", "rebuild", "revenue", "--resume").code == 0
    assert here("projection", "get", "revenue", "b", "--json").data["state"] == 50


def test_a_rebuild_tells_how_far_it_is_as_asked(followed: Path) -> None:
    with_json = here("projection", "rebuild", "revenue", "--progress", "json")
    [step] = [json.loads(line) for line in with_json.err.splitlines() if line.startswith("{")][-1:]
    assert (step["done"], step["total"]) == (8, 8)
    without = here("projection", "rebuild", "revenue", "--progress", "none")
    assert [line for line in without.err.splitlines() if line.startswith("{")] == []


def test_a_rebuild_that_is_interrupted_says_how_to_go_on(log: Path) -> None:
    append(log, placed("slow", 1))
    os.mkfifo(log / "gate")
    with running("projection", "rebuild", "revenue") as rebuild:
        with (log / "gate").open("w"):  # opens when it is inside a page, and lets it end
            rebuild.send_signal(signal.SIGINT)
        code, _, err = ended(rebuild)
    assert (code, "--resume` goes on" in err) == (130, True)
    os.unlink(log / "gate")
    assert here("projection", "rebuild", "revenue", "--resume").code == 0
    assert here("projection", "get", "revenue", "s", "--json").data["state"] == 1


def test_waiting_for_a_projection_ends_when_it_is_there(followed: Path) -> None:
    assert here("projection", "wait", "revenue", "--json").data == {"projection": "revenue", "position": "8"}
    append(followed, placed("d4", 1))
    began = time.monotonic()
    assert told(here("projection", "wait", "revenue", "--timeout", "0.2", "--json"))[:2] == (6, "wait_timeout")
    assert time.monotonic() - began < 8  # not the 10 s that it would wait else
    there = here("projection", "wait", "revenue", "--position", "8", "--timeout", "0", "--json")
    assert (there.code, there.data["position"]) == (0, "8")
    assert here("projection", "wait", "parcels", "--timeout", "0").code == 0  # nothing of its kind was appended


def test_waiting_for_a_projection_that_failed_ends_at_once(log: Path) -> None:
    trouble(log, "revenue/b2 too cheap")
    here("worker", "--once")
    assert told(here("projection", "wait", "revenue", "--json"))[:2] == (1, "subscription_failed")
    assert here("projection", "wait", "revenue", "--position", "4").code == 0


# Processors


def test_processors_are_listed_and_shown(followed: Path) -> None:
    found = lines("processor", "list")
    assert [(one["name"], one["position"], one["lag"]) for one in found] == [("ledger", "8", 0), ("mail", "8", 0)]
    ran = here("processor", "status", "mail", "--json")
    assert (ran.code, ran.data["status"], ran.data["owner"]) == (0, "running", "")
    assert told(here("processor", "status", "revenue", "--json"))[:2] == (3, "not_found")
    assert "did you mean 'mail'" in here("processor", "status", "mails").err


def test_a_paused_processor_handles_nothing_until_it_is_resumed(followed: Path) -> None:
    before = mails(followed)
    assert here("processor", "pause", "mail", "--json").data == {"processor": "mail", "status": "paused"}
    append(followed, shipped("c3"))
    here("worker", "--once")
    assert mails(followed) == before
    assert here("processor", "status", "mail", "--json").data["status"] == "paused"

    assert here("processor", "resume", "mail", "--json").data == {"processor": "mail", "status": "running"}
    here("worker", "--once")
    assert mails(followed) == [*before, "9 default c3"]


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("name", ["mails", "revenue"])
def test_only_a_processor_that_has_run_can_be_held(followed: Path, verb: str, name: str) -> None:
    assert told(here("processor", verb, name, "--json"))[:2] == (3, "not_found")


def test_a_processor_that_parked_all_it_may_has_stopped(log: Path) -> None:
    append(log, shipped("d4"), shipped("e5"), shipped("f6"))
    trouble(log, *(f"{order} broken" for order in ("a1", "b2", "d4", "e5", "f6")))
    here("worker", "--once")
    ran = here("processor", "status", "mail", "--json")
    assert (ran.code, ran.data["status"]) == (1, "stopped")
    trouble(log)
    ran = here("dlq", "retry", "mail", "--all")
    assert (ran.code, "mail is stopped: `everlog processor resume mail` lets the worker try them" in ran.err) == (
        0,
        True,
    )
    here("processor", "resume", "mail")
    here("worker", "--once")
    assert here("processor", "status", "mail").code == 0
    assert sorted(mails(log), key=lambda line: int(line.split()[0]))[-1] == "11 default f6"


# Lanes


def keys(*options: str) -> list[str]:
    return [f"{one['processor']} {one['key']} {one['status']}" for one in lines("dlq", "list", *options)]


def test_lanes_are_listed_by_processor_error_tenant_and_number(parked: Path) -> None:
    of_ledger = "ledger default/order-c3 parked"
    acme, b2 = "mail acme/order-x9 parked", "mail default/order-b2 parked"
    assert keys() == [of_ledger, acme, b2]
    assert keys("mail") == [acme, b2]
    assert keys("ledger") == [of_ledger]
    assert keys("--error", "no such") == [of_ledger, b2]
    assert keys("mail", "--error", "time-out") == [acme]
    assert keys("--of-tenant", "acme") == [acme]
    assert keys("--limit", "2") == [of_ledger, acme]
    [lane] = lines("dlq", "list", "mail", "--error", "mailbox")
    assert (lane["attempts"], lane["events"], lane["first"]) == (2, 2, "6")
    assert lane["error"].startswith("ValueError: no such mailbox")


def test_a_lane_is_shown_with_its_events_in_order(parked: Path) -> None:
    shown = here("dlq", "show", *DEAD, "--json").data
    assert shown["lane"]["key"] == DEAD[1]
    assert [one["position"] for one in shown["events"]] == ["6", "7"]
    assert len(here("dlq", "show", *DEAD, "--limit", "1", "--json").data["events"]) == 1
    table = here("dlq", "show", *DEAD).out
    assert "Lane" in table
    assert "order.shipped" in table
    assert told(here("dlq", "show", "mail", "default/order-a1", "--json"))[:2] == (3, "not_found")
    assert "only the first" not in here("dlq", "show", *DEAD).err


def test_of_a_long_lane_the_first_are_shown_and_it_is_said(parked: Path) -> None:
    append(parked, *(shipped("b2") for _ in range(60)))
    here("worker", "--once")
    ran = here("dlq", "show", *DEAD, "--json")
    assert len(ran.data["events"]) == 50
    assert "only the first 50 of 62 are shown: add --limit 62" in ran.err
    assert len(here("dlq", "show", *DEAD, "--limit", "62", "--json").data["events"]) == 62


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        (["default/order-b2"], ["default/order-b2"]),
        (["--error", "time-out"], ["acme/order-x9"]),
        (["--of-tenant", "default"], ["default/order-b2"]),
        (["--all"], ["acme/order-x9", "default/order-b2"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_lanes_are_tried_again_when_asked(parked: Path, options: list[str], tried: list[str]) -> None:
    before = mails(parked)
    trouble(parked)
    ran = here("dlq", "retry", "mail", *options, "--json")
    assert (ran.code, ran.data) == (0, {"processor": "mail", "lanes": len(tried), "canary": False})
    assert "no worker runs this processor now" in ran.err
    assert [one["key"] for one in lines("dlq", "list", "mail") if one["status"] == "retrying"] == tried
    here("worker", "--once")
    assert [one["key"] for one in lines("dlq", "list", "mail")] == [
        key for key in ("acme/order-x9", "default/order-b2") if key not in tried
    ]
    came = [line for line in mails(parked) if line not in before]
    assert [line for line in came if line.endswith("b2")] == (
        ["6 default b2", "7 default b2"] if "default/order-b2" in tried else []
    )


@pytest.mark.parametrize(
    "line",
    [
        ["projection", "list"],
        ["projection", "status", "revenue"],
        ["processor", "list"],
        ["processor", "status", "mail"],
        ["processor", "pause", "mail"],
        ["processor", "resume", "mail"],
        ["dlq", "list"],
        ["dlq", "retry", "mail", "--all"],
        ["stream", "list"],
        ["event", "list", "--raw"],
    ],
    ids=" ".join,
)
def test_what_needs_no_code_runs_though_the_application_is_broken(parked: Path, line: list[str]) -> None:
    (parked / "everlog.toml").write_text('app = "broken:platform"\n')
    (parked / "broken.py").write_text("1 / 0\n")
    ran = here("--store", "sqlite:///shop.db", *line)
    assert ran.code == 0, ran.err


def test_with_a_canary_the_others_wait_for_the_first(parked: Path) -> None:
    assert here("dlq", "retry", "mail", "--all", "--canary", "--json").data["canary"] is True
    assert keys("mail") == ["mail acme/order-x9 retrying", "mail default/order-b2 waiting"]
    here("worker", "--once")  # the canary fails again
    assert keys("mail") == ["mail acme/order-x9 parked", "mail default/order-b2 parked"]
    trouble(parked, "b2 no such mailbox")
    here("dlq", "retry", "mail", "--all", "--canary")
    here("worker", "--once")
    assert keys("mail") == ["mail default/order-b2 parked"]


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        (["retry", "mail"], 2, "say which lanes"),
        (["retry", "mail", "--all", "--error", "x"], 2, "say which lanes"),
        (["retry", "mail", "default/order-zz"], 3, "no such lane"),
        (["retry", "mial", "--all"], 3, "did you mean 'mail'"),
        (["skip", "mail", "default/order-zz", "--reason", "x"], 3, "has no lane"),
        (["skip", *DEAD, "--reason", "  "], 2, "needs a reason"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_to_a_lane_is_said(parked: Path, line: list[str], code: int, error: str) -> None:
    before = keys()
    ran_code, _, message = told(here("dlq", *line, "--json"))
    assert ran_code == code
    assert error in message
    assert keys() == before


def test_a_skip_needs_its_reason(parked: Path) -> None:
    assert here("dlq", "skip", *DEAD).code == 2


def test_a_skipped_event_is_never_handled_and_the_rest_is(parked: Path) -> None:
    trouble(parked)
    ran = here("dlq", "skip", *DEAD, "--reason", "sent by hand", "--actor", "ann", "--json")
    assert ran.data == {"processor": "mail", "key": DEAD[1], "skipped": "6", "reason": "sent by hand"}
    [entry] = lines("audit", "list", "--type", "everlog.event_skipped")
    assert (entry["who"], entry["details"]["reason"], entry["details"]["position"]) == ("ann", "sent by hand", "6")
    [lane] = lines("dlq", "list", "mail", "--of-tenant", "default")
    assert (lane["status"], lane["events"], lane["first"]) == ("retrying", 1, "7")
    assert told(here("dlq", "skip", *DEAD, "--reason", "again", "--json"))[0] == 2
    here("worker", "--once")
    assert [line for line in mails(parked) if line.endswith("b2")] == ["7 default b2"]


# The worker


def owners(folder: Path) -> dict[str, str]:
    return {one["name"]: one["owner"] for noun in ("projection", "processor") for one in lines(noun, "list")}


EVERYTHING = ["3 acme a1", "4 default a1"]


def test_once_stops_when_all_is_done_and_lists_it(log: Path) -> None:
    ran = here("worker", "--once", "--json")
    assert ran.code == 0
    assert {(one["name"], one["lag"], one["owner"]) for one in ran.data} == {
        (name, 0, "") for name in ("ledger", "mail", "parcels", "placed-table", "revenue")
    }
    assert sorted(mails(log)) == ["2 acme a1", "4 default a1", "6 default b2", "7 default b2"]
    assert here("worker", "--once").code == 0
    assert len(mails(log)) == 4


def test_once_does_what_a_dead_worker_left_when_its_lease_has_ended(followed: Path) -> None:
    append(followed, shipped("c3"), placed("d4", 1))
    dead = store(followed / "shop.db")
    for one in dead.checkpoints.progress():
        assert dead.checkpoints.claim(one.name, "dead", 1.5)
    dead.close()
    ran = here("worker", "--once", "--lease", "0.4")
    assert ran.code == 0
    assert "waiting for another worker to get on with revenue, parcels" in ran.err
    assert {(one["lag"], one["owner"]) for one in lines("projection", "list")} == {(0, "")}
    assert "9 default c3" in mails(followed)


def test_once_says_what_failed_and_is_done_in_part(log: Path) -> None:
    trouble(log, "revenue/b2 too cheap")
    ran = here("worker", "--once")
    assert (ran.code, "revenue failed at position 5" in ran.err) == (7, True)
    trouble(log)
    assert here("worker", "--once").code == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_what_is_in_hand(log: Path, sign: signal.Signals) -> None:
    append(log, shipped("slow"))
    os.mkfifo(log / "gate")
    with running("worker", "--report", "0") as worker:
        with (log / "gate").open("w"):  # opens when the handler stands before it
            worker.send_signal(sign)
        code, out, _ = ended(worker)
    assert code == 0
    assert "mail" in out
    assert "9 default slow" in mails(log)
    assert here("processor", "status", "mail", "--json").data["owner"] == ""


def test_what_takes_longer_than_drain_is_left_and_said_so(log: Path) -> None:
    append(log, shipped("slow"))
    os.mkfifo(log / "gate")
    with running("worker", "--report", "0", "--lease", "0.5", "--drain", "0.2") as worker, (log / "gate").open("w"):
        worker.terminate()
        began = time.monotonic()
        code, _, err = ended(worker)
    assert time.monotonic() - began < 9
    assert (code, "not all was finished within 0.2 s: it will be handled again" in err) == (7, True)
    assert "9 default slow" not in mails(log)
    os.unlink(log / "gate")
    with running("worker", "--lease", "0.5") as worker:
        eventually(lambda: "9 default slow" in mails(log))
        worker.terminate()
        assert ended(worker)[0] == 0


def test_it_tells_the_lag_as_often_as_asked(log: Path) -> None:
    with running("worker", "--report", "0.05") as worker:
        assert "worker " in until_told(worker, lambda line: "runs " in line)
        began = time.monotonic()
        assert "mail running, " in until_told(worker, lambda line: "mail running" in line)
        assert "mail running, " in until_told(worker, lambda line: "mail running" in line)
        assert time.monotonic() - began < 9
        worker.terminate()
        assert ended(worker)[0] == 0


def test_it_tells_no_lag_when_asked_for_none(log: Path) -> None:
    with running("worker", "--report", "0") as worker:
        eventually(lambda: len(mails(log)) == 4)
        worker.terminate()
        code, _, err = ended(worker)
    assert (code, "behind" in err) == (0, False)


@pytest.mark.parametrize(("report", "seconds"), [("0", math.inf), ("0.05", 0.05), ("7", 7.0)])
def test_zero_is_never_and_not_all_the_time(
    log: Path, monkeypatch: pytest.MonkeyPatch, report: str, seconds: float
) -> None:
    asked: list[float] = []

    def told(stopping: threading.Event, between: float) -> bool:
        asked.append(between)
        return True

    monkeypatch.setattr(cli_worker, "told_to_stop", told)
    assert here("worker", "--report", report).code == 0
    assert asked == [seconds]


def test_the_lease_is_as_long_as_asked(log: Path) -> None:
    with running("worker", "--lease", "77") as worker:
        until_told(worker, lambda line: "runs " in line)
        [(until,)] = eventually(
            lambda: sql(log, "SELECT lease_until FROM everlog_subscription WHERE name = 'mail' AND owner <> ''")
        )
        worker.terminate()
        assert ended(worker)[0] == 0
    _, now = boot_clock()
    assert 10 < (until - now) / 1_000_000 <= 77


def test_what_a_killed_worker_had_another_takes_over(log: Path) -> None:
    append(log, shipped("slow"))
    os.mkfifo(log / "gate")
    with running("worker", "--lease", "0.5") as killed, (log / "gate").open("w"):
        killed.kill()
        assert ended(killed)[0] == -signal.SIGKILL
    os.unlink(log / "gate")
    with running("worker", "--lease", "0.5") as worker:
        eventually(lambda: "9 default slow" in mails(log))
        eventually(lambda: here("projection", "wait", "revenue", "--timeout", "0").code == 0)
        worker.terminate()
        assert ended(worker)[0] == 0
    assert {line.split()[0] for line in mails(log)} == {"2", "4", "6", "7", "9"}


def test_two_workers_share_the_work_and_one_goes_on_alone(log: Path) -> None:
    with running("worker", "--lease", "1") as one, running("worker", "--lease", "1") as other:
        for worker in (one, other):
            until_told(worker, lambda line: "runs " in line)
        eventually(lambda: len(mails(log)) == 4)
        eventually(lambda: len(owners(log)) == 5 and all(owners(log).values()))
        one.terminate()
        assert ended(one)[0] == 0
        append(log, shipped("c3"), placed("d4", 1))
        eventually(lambda: len(mails(log)) == 5)
        for name in ("revenue", "placed-table"):
            assert here("projection", "wait", name).code == 0
        other.terminate()
        assert ended(other)[0] == 0
    assert len(set(mails(log))) == len(mails(log)) == 5
    assert len(sql(log, "SELECT id FROM placed")) == 5


def test_a_retry_reaches_a_worker_that_runs(parked: Path) -> None:
    trouble(parked)
    with running("worker", "--lease", "1") as worker:
        eventually(lambda: owners(parked)["mail"])
        ran = here("dlq", "retry", *DEAD)
        assert "no worker runs" not in ran.err
        eventually(lambda: "7 default b2" in mails(parked))
        worker.terminate()
        assert ended(worker)[0] == 0


# The end of the log


@pytest.mark.parametrize(("options", "met"), CONDITIONS, ids=lambda value: " ".join(map(str, value)))
def test_tail_takes_every_condition(diverse: Path, options: list[str], met: list[int]) -> None:
    upto = [] if "--upto" in options else ["--upto", "6"]
    assert positions(here("event", "tail", "--from-start", "--raw", "-o", "ndjson", *upto, *options)) == met


def test_tail_begins_where_it_is_told(diverse: Path) -> None:
    def tail(*options: str) -> list[int]:
        return positions(here("event", "tail", "--upto", "7", "--all-tenants", "--raw", "-o", "ndjson", *options))

    assert tail() == []  # the head is there already
    assert tail("--from-start") == [1, 2, 3, 4, 5, 6, 7]
    assert tail("--from-start", "--limit", "2") == [1, 2]
    assert tail("--after", "5") == [6, 7]
    assert tail("--after", "0") == [1, 2, 3, 4, 5, 6, 7]


def test_tail_is_of_one_tenant_unless_it_is_of_all(diverse: Path) -> None:
    line = ["event", "tail", "--from-start", "--upto", "7", "--raw", "-o", "ndjson"]
    assert positions(here(*line)) == [1, 2, 3, 4, 5, 6]
    assert positions(here(*line, "--tenant", "acme")) == [7]
    assert positions(here(*line, "--all-tenants")) == [1, 2, 3, 4, 5, 6, 7]


def test_tail_shows_events_as_they_read_today_or_raw(diverse: Path) -> None:
    line = ["event", "tail", "--from-start", "--stream", "order-o-3", "--upto", "6", "-o", "ndjson"]
    assert [one["type"] for one in here(*line).lines] == ["order.paid", "order.shipped"]
    assert [one["type"] for one in here(*line, "--raw").lines] == ["order.completed"]


def test_tail_prints_each_event_as_it_comes_until_it_has_enough(log: Path) -> None:
    with running("event", "tail", "--after", "7", "--limit", "3", "--type", "order.placed") as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline().split("\t")[0] == "8"
        for number in (9, 11):
            append(log, placed("d4", 1), shipped("d4"))
            assert tail.stdout.readline().split("\t")[0] == str(number)
        assert ended(tail)[:2] == (0, "")


def test_tail_ends_with_ctrl_c(log: Path) -> None:
    with running("event", "tail", "--from-start", "-o", "ndjson") as tail:
        assert tail.stdout is not None
        shown = [json.loads(tail.stdout.readline())["position"] for _ in range(6)]
        tail.send_signal(signal.SIGINT)
        assert ended(tail)[:2] == (130, "")
    assert shown == ["3", "4", "5", "6", "7", "8"]


# The past


def states(*options: str) -> list[tuple[str, str, str, Any]]:
    return [(one["tenant"], one["kind"], one["name"], one["state"]) for one in lines("time", "state", *options)]


AT = ["--at", "position:5", "--of", "revenue"]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("position:8", {"a": 100, "b": 50, "c": 5}),
        ("5", {"a": 100, "b": 50}),
        ("position:4", {"a": 100}),
        ("position:2", {}),
        ("recorded:2026-01-01T00:00:02Z", {"a": 100, "b": 50}),
        ("recorded:2026-01-01T00:00:01.5Z", {"a": 100}),
        ("occurred:2026-01-01T00:00:01Z", {"a": 100}),
    ],
)
def test_the_states_of_a_fold_at_a_moment(log: Path, at: str, expected: dict[str, int]) -> None:
    assert {name: state for _, _, name, state in states("--at", at, "--of", "revenue")} == expected


def test_the_past_is_shown_of_what_is_named(log: Path) -> None:
    whole = states("--at", "5")
    assert {kind for _, kind, _, _ in whole} == {"order", "parcels", "revenue"}
    assert states("--at", "5", "--of", "revenue", "--of", "order") == [
        ("default", "revenue", "a", 100),
        ("default", "revenue", "b", 50),
        ("default", "order", "order-a1", "shipped"),
        ("default", "order", "order-b2", "placed"),
    ]
    assert states(*AT, "--tenant", "acme") == [("acme", "revenue", "a", 7)]
    assert states(*AT, "--all-tenants") == [("acme", "revenue", "a", 7), *states(*AT)]
    assert states(*AT, "--limit", "1") == states(*AT)[:1]
    assert here("time", "state", *AT, "--all-tenants").out.split()[0] == "tenant"


def changes(*options: str) -> list[tuple[str, str, Any, Any]]:
    return [
        (one["tenant"], one["name"], one.get("before"), one.get("after")) for one in lines("time", "compare", *options)
    ]


def test_two_moments_are_compared(log: Path) -> None:
    append(log, placed("a7", 1))
    of = ["--of", "revenue"]
    now = [("default", "a", 100, 101), ("default", "b", None, 50), ("default", "c", None, 5)]
    assert changes("--from", "4", *of) == now
    assert changes("--from", "4", "--to", "8", *of) == now[1:]
    assert changes("--from", "7", "--to", "recorded:2026-01-01T00:00:04Z", *of) == []
    assert changes("--from", "4", *of, "--limit", "2") == now[:2]
    assert changes("--from", "0", *of, "--tenant", "acme") == [("acme", "a", None, 7)]
    assert changes("--from", "1", *of, "--all-tenants", "--to", "3") == [("default", "a", None, 100)]
    assert changes("--from", "0", *of, "--all-tenants", "--to", "3") == [
        ("acme", "a", None, 7),
        ("default", "a", None, 100),
    ]
    assert changes("--from", "3", "--to", "4", "--of", "order") == [("default", "order-a1", "placed", "shipped")]
    assert {one["kind"] for one in lines("time", "compare", "--from", "0")} == {"order", "parcels", "revenue"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["state", "--at", "version:1", "--of", "revenue"], "a version is a place in one stream"),
        (["state", "--at", "tomorrow"], "is not a position"),
        (["state", "--at", "1", "--of", "revenues"], "did you mean 'revenue'"),
        (["compare", "--from", "1", "--of", "mail"], "no fold or decider 'mail'"),
        (["compare", "--from", "1", "--to", "soon"], "is not a position"),
        (["state", "--at", "1", "--tenant", "acme", "--all-tenants"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_moment_that_is_none_is_said(log: Path, line: list[str], error: str) -> None:
    code, _, message = told(here("time", *line, "--json"))
    assert code == 2
    assert error in message


@pytest.mark.parametrize("verb", [["state"], ["compare", "--to", "1"]], ids=" ".join)
def test_a_moment_must_be_given(log: Path, verb: Sequence[str]) -> None:
    assert here("time", *verb).code == 2


# Measuring


def test_bench_takes_as_long_and_as_many_as_asked_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "disk").mkdir()
    used: list[Path] = []
    open_log = sqlite3.connect

    def connect(path: Any, *arguments: Any, **more: Any) -> Any:
        used.append(Path(str(path).removeprefix("file:")))
        return open_log(path, *arguments, **more)

    writers = set[str]()

    def made() -> bytes:
        writers.add(threading.current_thread().name)
        return new_id()

    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setattr("everlog.cli.bench.new_id", made)
    began = time.monotonic()
    ran = here("bench", "--seconds", "0.6", "--writers", "40", "--folder", "disk", "--json")
    taken = time.monotonic() - began
    assert ran.code == 0
    assert ran.data["writers"] == len(writers) == 40
    assert ran.data["events"] >= 40
    assert 0 < ran.data["p50_ms"] <= ran.data["p99_ms"] <= ran.data["longest_ms"]
    assert taken >= 0.6
    assert any("disk" in path.parts for path in used)
    assert list((folder / "disk").iterdir()) == []


def test_bench_measures_here_with_eight_writers_unless_told(folder: Path) -> None:
    ran = here("bench", "--seconds", "0.1", "--json")
    assert (ran.code, ran.data["writers"]) == (0, 8)
    assert list(folder.iterdir()) == []


def test_bench_on_a_disk_that_is_not_there_is_said(folder: Path) -> None:
    assert told(here("bench", "--folder", "nowhere", "--json"))[0] == 3


@pytest.mark.parametrize(
    "line", [["projection", "rebuild", "revenue"], ["dlq", "retry", "mail", "--all"], ["dlq", "list"]]
)
def test_what_is_about_all_tenants_is_not_done_for_who_names_one(parked: Path, line: list[str]) -> None:
    ran = here(*line, "--tenant", "acme")
    assert (ran.code, "this is about all tenants: leave --tenant out, or say --of-tenant" in ran.err) == (2, True)
    assert here(*line, env={"EVERLOG_TENANT": "acme"}).code == 0  # a setting for all lines says nothing of this one
