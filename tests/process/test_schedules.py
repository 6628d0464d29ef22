"""Schedules: which moments they have, and that each becomes an event once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from everlog import (
    Action,
    Log,
    Misconfigured,
    Platform,
    ProcessManager,
    Recorded,
    Schedule,
    ScheduleOccurred,
    Timer,
    event,
    processor,
)
from everlog.core.clock import micros
from everlog.process.schedule import Calendar, ScheduleBegun
from tests.following.parts import LEASE, SECONDS, eventually, on_both, settled
from tests.process.parts import DAY, MINUTE, NOON, Clock, Placed

BERLIN = ZoneInfo("Europe/Berlin")


def local(cron: str, after: datetime, count: int, zone: str = "Europe/Berlin") -> Sequence[str]:
    moments = Schedule("report", cron=cron, zone=zone).moments(after)
    return [at.astimezone(ZoneInfo(zone)).strftime("%d. %H:%M%z") for at in islice(moments, count)]


NIGHT_IN_SPRING = datetime(2026, 3, 29, 0, 10, tzinfo=BERLIN)
NIGHT_IN_AUTUMN = datetime(2026, 10, 25, 0, 10, tzinfo=BERLIN)


def test_a_moment_the_clocks_skip_comes_right_after_the_gap() -> None:
    assert local("30 2 * * *", NIGHT_IN_SPRING, 2) == ["29. 03:00+0200", "30. 02:30+0200"]


def test_a_moment_the_clocks_repeat_comes_once_the_first_time() -> None:
    assert local("30 2 * * *", NIGHT_IN_AUTUMN, 2) == ["25. 02:30+0200", "26. 02:30+0100"]


def test_what_comes_every_hour_follows_the_true_time() -> None:
    assert local("30 * * * *", NIGHT_IN_SPRING, 3) == ["29. 00:30+0100", "29. 01:30+0100", "29. 03:30+0200"]
    assert local("30 * * * *", NIGHT_IN_AUTUMN, 4)[1:] == ["25. 01:30+0200", "25. 02:30+0200", "25. 02:30+0100"]


def test_going_on_from_any_moment_gives_the_same_moments() -> None:
    for cron in ("30 2 * * *", "30 * * * *", "*/20 1,2,3 * * *"):
        for start in (NIGHT_IN_SPRING, NIGHT_IN_AUTUMN):
            schedule = Schedule("report", cron=cron, zone="Europe/Berlin")
            at_once = list(islice(schedule.moments(start), 12))
            one_by_one, at = list[datetime](), start
            for _ in range(12):
                at = next(schedule.moments(at))
                one_by_one.append(at)
            assert one_by_one == at_once


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cron": "61 * * * *"}, "names no moment"),
        ({"cron": "0 0 31 2 *"}, "names no moment"),
        ({"zone": "Europe/Atlantis"}, "there is no time zone 'Europe/Atlantis'"),
        ({"zone": "../passwd"}, "there is no time zone"),
        ({"catch_up": "all"}, "neither 'each' nor 'latest'"),
        ({"name": "two words"}, "cannot name"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        Schedule(**({"name": "report", "cron": "0 2 * * *"} | wrong))  # type: ignore[arg-type]


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(Misconfigured, match="two schedules are named 'report'"):
        Platform("memory:", *[Schedule("report", cron="0 2 * * *")] * 2)


@event("report.due")
class ReportDue:
    at: datetime


@event("report.noted")
class Noted:
    text: str


def due(log: Log, tenant: str = "acme") -> list[datetime]:
    return [e.data.due_at for e in log.tenant(tenant).events(ScheduleOccurred)]


def begun(log: Log, tenant: str = "acme") -> None:
    """Wait until its moments count."""
    eventually(lambda: list(log.tenant(tenant).events(ScheduleBegun)))


def hourly(catch_up: Literal["each", "latest"], url: str, clock: Clock) -> Log:
    schedule = Schedule("report", cron="0 * * * *", tenant="acme", catch_up=catch_up)
    return Platform("memory:", schedule).open(url, worker=True, lease_seconds=LEASE, clock=clock)


@on_both
@pytest.mark.parametrize("catch_up", ["each", "latest"])
def test_after_a_downtime_each_missed_moment_comes_or_the_latest(url: str, catch_up: Literal["each", "latest"]) -> None:
    clock = Clock(NOON + MINUTE)
    with hourly(catch_up, url, clock) as log:
        begun(log)
        clock.now = NOON + timedelta(hours=1)
        eventually(lambda: due(log))
    clock.now = NOON + 30 * DAY
    with hourly(catch_up, url, clock) as log:
        eventually(lambda: due(log)[-1:] == [clock.now])
        hours = range(1, 30 * 24 + 1) if catch_up == "each" else (1, 30 * 24)
        assert due(log) == [NOON + timedelta(hours=hour) for hour in hours]
        last = list(log.tenant("acme").events(ScheduleOccurred))[-1]
        assert (last.occurred_at, last.actor) == (last.data.due_at, "everlog")


@on_both
def test_a_downtime_before_the_first_moment_is_caught_up_with_too(url: str) -> None:
    clock = Clock(NOON + MINUTE)
    with hourly("each", url, clock) as log:
        begun(log)
    clock.now = NOON + timedelta(hours=3)
    with hourly("each", url, clock) as log:
        eventually(lambda: len(due(log)) == 3)


@on_both
def test_a_clock_that_jumps_makes_no_moment_twice(url: str) -> None:
    clock = Clock(NOON + MINUTE)
    with hourly("each", url, clock) as log:
        begun(log)
        clock.now += DAY
        eventually(lambda: len(due(log)) == 24)
        clock.now -= DAY
        log.tenant("acme").append("report-1", ScheduleOccurred("another", NOON))
        settled(log)
        clock.now += DAY + timedelta(hours=1)
        eventually(lambda: len(due(log)) == 26)
        times = [e.data.due_at for e in log.tenant("acme").events(ScheduleOccurred) if e.data.schedule == "report"]
        assert times == [NOON + timedelta(hours=hour) for hour in range(1, 26)]


@on_both
def test_two_workers_make_each_moment_once(url: str) -> None:
    clock = Clock(NOON + MINUTE)
    with hourly("each", url, clock) as one, hourly("each", url, clock):
        begun(one)
        clock.now = NOON + 10 * DAY
        eventually(lambda: due(one)[-1:] == [clock.now])
        assert due(one) == [NOON + timedelta(hours=hour) for hour in range(1, 241)]


def test_processors_and_processes_follow_a_schedule_by_an_event_of_their_own(url: str) -> None:
    clock, told = Clock(), list[datetime]()

    @processor("tell", on=ReportDue)
    def tell(e: Recorded[ReportDue]) -> None:
        told.append(e.data.at)

    nightly = ProcessManager("nightly")
    nightly.on_timer("late")(lambda state, e: [])

    @nightly.on(ReportDue, key=lambda e: f"{e.data.at:%Y%m%d}")
    def begin(state: None, e: Recorded[ReportDue]) -> list[Action]:
        return [Timer("late", after=10 * MINUTE)]

    schedule = Schedule("report", cron="0 2 * * *", zone="Europe/Berlin", event=ReportDue)
    with Platform("memory:", schedule, tell, nightly).open(url, worker=True, clock=clock) as log:
        begun(log, "default")
        clock.now += DAY
        eventually(lambda: told)
        assert told == [datetime(2026, 3, 3, 1, tzinfo=UTC)]
        eventually(lambda: [timer.stream for timer in log.store.timers.page(None, 10)] == ["nightly-20260303"])


@pytest.mark.parametrize("make", [lambda at: 1 // 0, lambda at: "now", lambda at: Placed("p")])
def test_what_makes_no_event_is_refused_when_the_platform_is_built(make: Callable[[datetime], object]) -> None:
    with pytest.raises(Misconfigured, match="schedule 'report': what its event= makes of a moment cannot be appended"):
        Platform("memory:", Schedule("report", cron="0 2 * * *", event=make), ReportDue)


def test_what_makes_events_is_asked_for_moments_alone() -> None:
    told = {9: "in the morning", 17: "in the evening"}
    daily = Schedule("report", cron="0 9,17 * * *", event=lambda at: Noted(told[at.hour]))
    Platform("memory:", daily, Noted)


def test_in_the_hour_that_is_repeated_nothing_comes_that_is_over() -> None:
    schedule = Schedule("report", cron="30 2 * * *", zone="Europe/Berlin")
    after = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # the second 02:10
    assert next(schedule.moments(after)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def large(size: int) -> Schedule:
    """Each moment is an event of so many bytes."""
    return Schedule("large", cron="0 * * * *", tenant="acme", event=lambda at: Noted("x" * size), catch_up="each")


def test_missed_moments_come_in_as_many_batches_as_they_need(url: str) -> None:
    clock = Clock(NOON + MINUTE)
    with Platform("memory:", large(15_000), Noted).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        begun(log)
        clock.now += timedelta(hours=100)
        eventually(lambda: len(list(log.tenant("acme").events(Noted))) == 100)


def test_an_event_that_is_too_large_holds_up_its_schedule_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(NOON + MINUTE)
    platform = Platform("memory:", large(300_000), Schedule("report", cron="0 * * * *", tenant="acme"), Noted)
    with platform.open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        eventually(lambda: len(list(log.tenant("acme").events(ScheduleBegun))) == 2)
        clock.now += timedelta(hours=1)
        eventually(lambda: due(log))
        eventually(lambda: "schedule large: InvalidInput" in caplog.text)
        assert list(log.tenant("acme").events(Noted)) == []


def test_an_event_that_cannot_be_made_holds_up_its_schedule_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    clock, broken = Clock(NOON + MINUTE), [False]

    def make(at: datetime) -> ReportDue:
        if broken[0]:
            raise LookupError("no report")
        return ReportDue(at)

    platform = Platform(
        "memory:",
        Schedule("bad", cron="0 * * * *", tenant="acme", event=make, catch_up="each"),
        Schedule("report", cron="0 * * * *", tenant="acme"),
        ReportDue,
    )
    with platform.open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        eventually(lambda: len(list(log.tenant("acme").events(ScheduleBegun))) == 2)
        broken[0] = True
        clock.now += timedelta(hours=1)
        eventually(lambda: due(log))
        eventually(lambda: "schedule bad: LookupError at test_schedules.py" in caplog.text)
        broken[0] = False
        clock.now += timedelta(hours=1)
        eventually(lambda: len(list(log.tenant("acme").events(ReportDue))) == 2)


def test_an_owner_that_slept_makes_no_older_moment_behind_a_later_one(url: str) -> None:
    clock, schedule = Clock(NOON + MINUTE), Schedule("report", cron="0 * * * *", tenant="acme")
    with Platform("memory:", schedule).open(url, clock=clock) as log:
        slept, other = (Calendar([schedule], log.tenant("acme").scope.types, log.store) for _ in range(2))
        for one in (slept, other):
            one.begin()
        for one, hours in ((other, 2), (slept, 1), (slept, 3)):
            one.fire(micros(NOON + timedelta(hours=hours)), 100)
        assert due(log) == [NOON + timedelta(hours=2), NOON + timedelta(hours=3)]


@on_both
def test_a_worker_that_runs_once_leaves_no_moment_due(url: str) -> None:
    clock = Clock(NOON + MINUTE)
    with hourly("each", url, clock) as log:
        begun(log)
        assert log.worker is not None
        for hours in range(1, 20):
            clock.now = NOON + timedelta(hours=hours)
            assert log.worker.drain(SECONDS, everything=True)
            assert due(log)[-1] == clock.now


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        ("*/30 2 * * *", "30. 02:00+0200", ["25. 02:00+0200", "25. 02:30+0200", "25. 02:00+0100", "25. 02:30+0100"]),
        ("30 */2 * * *", "29. 04:30+0200", ["25. 02:30+0200", "25. 02:30+0100", "25. 04:30+0100"]),
        ("15 30 2 * * *", "30. 02:30+0200", ["25. 02:30+0200", "25. 02:30+0100"]),
    ],
)
def test_a_star_at_the_beginning_or_seconds_follow_the_true_time(cron: str, spring: str, autumn: list[str]) -> None:
    """What lies in the gap does not come that day, and what is repeated comes twice."""
    assert local(cron, datetime(2026, 3, 29, 1, 50, tzinfo=BERLIN), 1) == [spring]
    assert local(cron, datetime(2026, 10, 25, 1, 50, tzinfo=BERLIN), len(autumn)) == autumn
