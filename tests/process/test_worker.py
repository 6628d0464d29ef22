"""Processes run by real workers, on both stores."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from everlog import (
    Action,
    Decider,
    Do,
    ExpectationMissed,
    Finish,
    LaneFilter,
    LaneOperator,
    Platform,
    ProcessManager,
    Recorded,
    Rejected,
    Retry,
    Timer,
    TimerFired,
)
from everlog.process import timers
from everlog.process.events import Reacted
from everlog.process.timekeeper import NAME
from everlog.store.contract import Release
from tests.following.parts import LEASE, SECONDS, eventually, on_both
from tests.process.parts import (
    DAY,
    MINUTE,
    NOON,
    Cancelled,
    Clock,
    Move,
    Moved,
    Placed,
    TakenIn,
    Waited,
    Weigh,
    again,
    boxes,
    moves,
    opened,
    parcels,
    quiet,
    shipping,
    types,
)


@on_both
def test_a_decision_is_recorded_before_it_is_carried_out_and_says_what_caused_what(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        placed = log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
        assert moves(log) == ["shelf", "van"]
        events = list(log.tenant("acme").events())
        assert [e.type for e in events] == ["order.placed", "process.reacted", "box.moved", "box.moved"]
        first, reacted, moved, _ = events
        assert placed.position == first.position
        assert reacted.causation_id == first.id
        assert moved.causation_id == reacted.id
        assert {e.correlation_id for e in events[1:]} == {first.id}
        assert moved.actor == "process:parcel"
        clock.now += 30 * MINUTE
        quiet(log, clock)
        assert {e.correlation_id for e in list(log.tenant("acme").events())[1:]} == {first.id}


@on_both
def test_timers_expectations_and_rejections_come_back_as_inputs(url: str) -> None:
    clock, manager = Clock(), parcels()
    with shipping(manager).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
        for minutes in (10, 15, 20, 30, 40):
            clock.now = NOON + minutes * MINUTE
            quiet(log, clock)
        assert types(log, "parcel-p") == [
            "process.reacted",
            "process.timer_fired", "process.reacted", "parcel.waited",
            "process.expectation_due", "process.reacted", "process.expectation_missed",
            "process.reacted", "process.command_rejected",
            "process.command_changed_nothing", "process.reacted",
            "process.timer_fired", "process.reacted", "parcel.waited",
            "process.timer_fired", "process.reacted", "parcel.waited",
        ]  # fmt: skip
        assert moves(log) == ["shelf", "van", "desk"]
        assert log.tenant("acme").state(manager.states, "p") == 3


@on_both
def test_processes_of_two_tenants_have_nothing_in_common(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        for tenant in ("acme", "globex"):
            log.tenant(tenant).append("order-p", Placed("p"))
        quiet(log, clock)
        log.tenant("acme").append("order-p", Cancelled("p"))
        quiet(log, clock)
        clock.now += 10 * MINUTE
        quiet(log, clock)
        assert moves(log, "acme") == ["shelf", "van", "shelf", "stock"]
        assert types(log, "parcel-p", "globex")[-1] == "parcel.waited"
        assert list(log.tenant("acme").events(TimerFired)) == []


@on_both
def test_what_means_nothing_to_a_process_costs_no_event(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        acme = log.tenant("acme")
        acme.append("order-p", Placed("p"))
        acme.append("order-p", Cancelled("p"))
        quiet(log, clock)
        before = log.head().position
        acme.append("order-p", TakenIn("p"))
        acme.append("order-p", Cancelled("p"))
        quiet(log, clock)
        assert log.head().position == before + 2


@on_both
def test_going_through_the_log_again_does_nothing_again(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        acme = log.tenant("acme")
        for key in "pqr":
            acme.append(f"order-{key}", Placed(key))
        quiet(log, clock)
        clock.now += 15 * MINUTE
        quiet(log, clock)
        acme.append("order-q", Cancelled("q"))
        quiet(log, clock)
        before = log.head().position
        again(log, "parcel", clock)
        again(log, NAME, clock)
        assert log.head().position == before


@on_both
def test_the_table_of_timers_is_built_anew_from_the_log(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        for key in "pq":
            log.tenant("acme").append(f"order-{key}", Placed(key))
        quiet(log, clock)
        clock.now += 10 * MINUTE
        log.tenant("acme").append("order-q", TakenIn("q"))
        quiet(log, clock)
        before = list(timers.every(log.store.timers))
        assert [(one.stream, one.name, one.expected) for one in before] == [
            ("parcel-p", "taken in", True), ("parcel-p", "ask", False)
        ]  # fmt: skip
        again(log, NAME, clock)
        assert list(timers.every(log.store.timers)) == before


@on_both
def test_a_clock_that_jumps_a_day_either_way_fires_each_timer_once(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        acme = log.tenant("acme")
        acme.append("order-p", Placed("p"))
        quiet(log, clock)
        clock.now += DAY
        quiet(log, clock)
        fired = [e.data for e in acme.events(TimerFired)]
        assert [one.due_at for one in fired][:1] == [NOON + 10 * MINUTE]
        clock.now -= DAY
        acme.append("order-q", Placed("q"))
        quiet(log, clock)
        clock.now += 2 * DAY
        quiet(log, clock)
        times = Counter((e.stream, e.data.due_at, e.data.set_by) for e in acme.events(TimerFired))
        assert set(times.values()) == {1}
        assert Counter(stream for stream, _, _ in times) == {"parcel-p": 2, "parcel-q": 1}
        recorded = [e.recorded_at for e in acme.events()]
        assert recorded == sorted(recorded)


@on_both
def test_what_the_log_has_seen_is_past_whatever_the_clock_says(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
    clock.now = NOON + 20 * MINUTE
    with shipping().open(url, clock=clock) as log:
        log.tenant("acme").append("order-q", TakenIn("q"))
    clock.now = NOON - DAY
    with opened(url, clock) as log:
        quiet(log, clock)
        assert [e.stream for e in log.tenant("acme").events(TimerFired)] == ["parcel-p"]


@on_both
def test_after_a_month_of_downtime_each_fires_once_in_the_order_of_due_times(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        for number in range(130):  # more than a page of them
            clock.now = NOON + timedelta(seconds=number * 7 % 101)
            log.tenant("acme").append(f"order-{number}", Placed(str(number)))
        quiet(log, clock)
    clock.now = NOON + 30 * DAY
    with opened(url, clock) as log:
        quiet(log, clock)
        fired = list(log.tenant("acme").events(TimerFired))
        assert Counter((e.stream, e.data.set_by) for e in fired).most_common(1)[0][1] == 1
        first = [e.data.due_at for e in fired if e.data.due_at < NOON + 30 * DAY]
        assert len(first) == 130
        assert first == sorted(first)


@on_both
@pytest.mark.parametrize("partitions", [1, 4])
def test_two_workers_at_once_do_everything_once(url: str, partitions: int) -> None:
    clock, keys = Clock(), [f"p{number}" for number in range(40)]
    platform = shipping(parcels(partitions=partitions))
    with (
        platform.open(url, worker=True, lease_seconds=LEASE, clock=clock) as one,
        platform.open(url, worker=True, lease_seconds=LEASE, clock=clock) as other,
    ):
        for log, key in zip([one, other] * 20, keys, strict=True):
            log.tenant("acme").append(f"order-{key}", Placed(key))
        quiet(one, clock)
        clock.now += 10 * MINUTE
        quiet(other, clock)
        acme = one.tenant("acme")
        assert Counter(e.data.parcel for e in acme.events(Moved)) == dict.fromkeys(keys, 2)
        assert Counter(e.stream for e in acme.events(Waited)) == {f"parcel-{key}": 1 for key in keys}
        assert Counter(e.stream for e in acme.events(TimerFired)) == {f"parcel-{key}": 1 for key in keys}


@on_both
def test_a_command_that_fails_is_retried_without_deciding_anew_and_waits_in_a_lane(url: str) -> None:
    clock, broken, reactions = Clock(), [True], list[str]()

    def decide(command: Move | Weigh, where: tuple[str, ...]) -> list[Moved]:
        if broken[0] and isinstance(command, Move) and command.to == "van":
            raise RuntimeError("the van does not start")
        return boxes.decide(command, where)  # type: ignore[return-value]

    fragile = Decider("box", (), decide, boxes.evolve)
    manager = ProcessManager("parcel", does=[fragile], retry=Retry(attempts=1))

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> list[Action]:
        reactions.append(e.key)
        return [Do(fragile, "b", Move("b", to)) for to in ("shelf", "van", "truck")]

    with Platform("memory:", fragile, manager).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        operator = LaneOperator(log.store, None)
        [lane] = eventually(lambda: [one for one in operator.find(LaneFilter("parcel")) if one.status == "parked"])
        assert (lane.key, "does not start" in lane.error) == ("acme/parcel-p", True)
        assert moves(log) == ["shelf"]
        broken[0] = False
        operator.retry(LaneFilter("parcel"))
        eventually(lambda: not list(operator.find(LaneFilter("parcel"))))
        assert moves(log) == ["shelf", "van", "truck"]
        assert len(reactions) == len(list(log.tenant("acme").events(Reacted))) == 1


@on_both
def test_a_rejected_command_stays_rejected_even_when_it_would_be_accepted_now(url: str) -> None:
    clock, closed = Clock(), [True]

    def decide(command: Move | Weigh, where: tuple[str, ...]) -> list[Moved]:
        if closed[0]:
            raise Rejected("closed")
        return [Moved("b", "shelf")]

    gate = Decider("box", (), decide, boxes.evolve)
    manager = ProcessManager("parcel", does=[gate])

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Do(gate, "b", Move("b", "shelf"))]

    with Platform("memory:", gate, manager).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
        closed[0] = False
        again(log, "parcel", clock)
        assert moves(log) == []
        assert types(log, "parcel-p") == ["process.reacted", "process.command_rejected"]


@on_both
def test_what_is_due_is_found_in_the_index_however_many_timers_are_set(url: str) -> None:
    """By what the database says it does: a page costs the same with ten timers and with a million."""
    with shipping().open(url) as log:
        if url.startswith("postgres"):
            series, explain, analyze = "SELECT generate_series(1, 20000) AS n", "EXPLAIN", "ANALYZE everlog_timer"
        else:
            series = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 20000) SELECT n FROM s"
            explain, analyze = "EXPLAIN QUERY PLAN", "ANALYZE"
        fill = "INSERT INTO everlog_timer (tenant, stream, name, expected, due_at, set_by)"
        fill += f" SELECT 't', 's' || n, 'n', 0, n * 7 % 20011, ? FROM ({series}) AS many"
        checkpoints = log.store.checkpoints
        checkpoints.register("filler", "projection", 1, 0)
        claim = checkpoints.claim("filler", "me", 60)
        assert claim is not None
        with checkpoints.transaction(claim, 0) as effects:
            effects.execute(fill, (b"set by",))
            effects.execute(analyze)
        first = log.store.timers.page(None, 1)[0]
        for sql, values in ((timers._FIRST, [100]), (timers._NEXT, [*first[:4], 100])):
            with checkpoints.transaction(claim, 0) as effects:
                plan = " ".join(str(row) for row in effects.execute(f"{explain} {sql}", values))
            assert "everlog_timer_due" in plan, plan
            assert "Sort" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
        assert sum(1 for _ in timers.every(log.store.timers)) == 20_000


@on_both
def test_a_timer_is_waited_for_and_not_looked_for(url: str) -> None:
    """By the machine's own clock: a look once a second would come three quarters of a second late."""
    with shipping_soon().open(url, worker=True) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        fired = eventually(lambda: list(log.tenant("acme").events(TimerFired)))[0]
        assert timedelta() <= fired.recorded_at - fired.data.due_at < timedelta(seconds=0.6)


def shipping_soon() -> Platform:
    manager = ProcessManager("soon")

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Timer("t", after=timedelta(seconds=0.25))]

    @manager.on_timer("t")
    def due(state: None, e: Recorded[TimerFired]) -> list[Action]:
        return [Finish()]

    return Platform("memory:", manager)


@on_both
def test_a_worker_that_runs_once_leaves_no_timer_due(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        assert log.worker is not None
        for number in range(30):
            log.tenant("acme").append(f"order-{number}", Placed(str(number)))
        quiet(log, clock)
        for _ in range(3):
            clock.now += 10 * MINUTE
            assert log.worker.drain(SECONDS, everything=True)
            now = max(clock(), log.head().recorded_at)
            assert list(timers.every(log.store.timers, until=now)) == []


@on_both
def test_what_was_met_before_it_was_due_is_not_missed_however_late_the_process_reads_it(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        log.tenant("acme").append("order-q", Placed("q"))
        quiet(log, clock)
    with shipping().open(url, clock=clock) as log:
        log.tenant("acme").append("order-p", TakenIn("p"))
    clock.now += 15 * MINUTE
    with opened(url, clock, only=[NAME]) as log:
        quiet(log, clock)
        assert types(log, "parcel-p")[-1] == "process.expectation_due"
        log.tenant("acme").append("order-q", TakenIn("q"))
    with opened(url, clock) as log:
        quiet(log, clock)
        assert [e.stream for e in log.tenant("acme").events(ExpectationMissed)] == ["parcel-q"]


@on_both
def test_a_timer_that_fired_and_whose_event_was_let_go_of_does_not_stay_in_the_table(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
        clock.now += 10 * MINUTE
        quiet(log, clock)
        [fired] = log.tenant("acme").events(TimerFired)
        log.store.release(Release((fired.position,), "archive", "it is old"))
        before = log.head().position
        again(log, NAME, clock)
        assert [(one.name, one.due_at > clock()) for one in timers.every(log.store.timers)] == [
            ("taken in", True), ("ask", True)
        ]  # fmt: skip
        assert log.head().position == before
