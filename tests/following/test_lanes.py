"""Lanes in the hands of a person: look, mend, try again with a canary first, skip with a reason; limits that stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from everlog import (
    Backoff,
    InvalidInput,
    Log,
    NotFound,
    Platform,
    Processor,
    Recorded,
    Retry,
    SubscriptionFailed,
    Write,
    event,
    processor,
    upcast,
    upcast_drop,
    upcast_split,
)
from everlog.app.lanes import SKIPPED, LaneOperator
from everlog.processing.contract import Lane, LaneFilter
from tests.following.parts import LEASE, Counted, Noted, append_many, eventually, progress_of, settled

MakePlatform = Callable[..., Platform]
QUICK = Retry(attempts=2, backoff=Backoff(first=0.0, longest=0.0))
ALL = LaneFilter("spy")


@pytest.fixture
def at(tmp_path: Path) -> MakePlatform:
    """Platforms on one file."""
    return lambda *parts: Platform(f"sqlite:///{tmp_path}/log.db", Counted, Noted, *parts)


class World:
    """What a handler meets: keys that are broken, and a note of what got through."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.tried: list[tuple[str, int]] = []
        self.handled: list[tuple[str, int]] = []
        self._mutex = threading.Lock()

    def __call__(self, e: Recorded[Counted]) -> None:
        with self._mutex:
            self.tried.append((e.data.key, e.position))
            if e.data.key in self.broken:
                raise ValueError(f"{e.data.key} is broken")
            self.handled.append((e.data.key, e.position))

    def positions(self, key: str) -> list[int]:
        return [position for handled, position in self.handled if handled == key]

    def processor(self, **options: Any) -> Processor[Counted]:
        return processor("spy", on=Counted, **{"retry": QUICK, **options})(self)


def lanes(log: Log, where: LaneFilter = ALL) -> dict[str, Lane]:
    return {lane.key.removeprefix("default/tally-"): lane for lane in operator(log).find(where)}


def operator(log: Log) -> LaneOperator:
    return LaneOperator(log.store, "ann")


def key(name: str, tenant: str = "default") -> str:
    return f"{tenant}/tally-{name}"


@contextmanager
def working(platform: Platform) -> Iterator[Log]:
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        yield log


def parked(platform: Platform, *keys: str, times: int = 1) -> None:
    """Append events of these keys, and let a worker handle or park them."""
    with working(platform) as log:
        append_many(log.tenant(), keys, times)
        settled(log)


# ---- Looking.


def test_a_person_sees_which_lanes_there_are_and_what_lies_in_them(at: MakePlatform) -> None:
    world = World("a", "c")
    platform = at(world.processor())
    parked(platform, "a", "b", "c", times=2)
    with platform.open() as log:
        assert {name: (lane.status, lane.first, lane.depth) for name, lane in lanes(log).items()} == {
            "a": ("parked", 1, 2),
            "c": ("parked", 3, 2),
        }
        assert all(
            lane.error.startswith(f"ValueError: {name} is broken (test_lanes.py:") for name, lane in lanes(log).items()
        )
        assert [stored.position for stored in operator(log).events("spy", key("a"))] == [1, 4]
        assert [stored.position for stored in operator(log).events("spy", key("a"), limit=1)] == [1]
        for name, processor_name in (("b", "spy"), ("a", "nobody")):
            with pytest.raises(NotFound, match="everlog dlq list"):
                operator(log).events(processor_name, key(name))


# ---- Trying again.


def test_after_the_fix_one_lane_all_or_those_of_a_filter_are_tried_again(at: MakePlatform) -> None:
    world = World("a", "b", "c", "d")
    platform = at(world.processor())
    parked(platform, "a", "b", "c", "d", times=3)
    world.broken.clear()
    with working(platform) as log:
        assert operator(log).retry(LaneFilter("spy", key=key("b"))) == 1
        settled(log)
        assert set(lanes(log)) == {"a", "c", "d"}
        assert operator(log).retry(LaneFilter("spy", error="c is broken")) == 1
        settled(log)
        assert set(lanes(log)) == {"a", "d"}
        assert operator(log).retry(LaneFilter("spy", tenant="nobody")) == 0
        assert operator(log).retry(ALL) == 2
        settled(log)
        assert lanes(log) == {}
        assert {name: world.positions(name) for name in "abcd"} == {
            "a": [1, 5, 9], "b": [2, 6, 10], "c": [3, 7, 11], "d": [4, 8, 12],
        }  # fmt: skip


def test_a_lane_that_fails_again_is_parked_again_behind_what_it_got_through(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a", times=4)

    def handle(e: Recorded[Counted]) -> None:
        if e.position == 3:
            raise OSError("another one")
        world(e)

    world.broken.clear()
    again = at(processor("spy", on=Counted, retry=QUICK)(handle))
    with working(again) as log:
        operator(log).retry(ALL)
        settled(log)
        [lane] = lanes(log).values()
        assert (lane.status, lane.attempts, lane.first, lane.depth) == ("parked", 2, 3, 2)
        assert lane.error.startswith("OSError: another one")
    assert world.positions("a") == [1, 2]


def test_with_a_canary_one_lane_is_tried_first_and_the_others_only_if_it_gets_through(at: MakePlatform) -> None:
    world = World("a", "b", "c")
    platform = at(world.processor())
    parked(platform, "a", "b", "c", times=2)
    world.tried.clear()
    with working(platform) as log:
        assert operator(log).retry(ALL, canary=True) == 3
        eventually(lambda: {lane.status for lane in lanes(log).values()} == {"parked"})
        assert {name for name, _ in world.tried} == {"a"}
        world.broken.clear()
        operator(log).retry(ALL, canary=True)
        settled(log)
        assert lanes(log) == {}
    first_of_others = min(index for index, (name, _) in enumerate(world.handled) if name != "a")
    assert world.handled[:first_of_others] == [("a", 1), ("a", 4)]
    assert {name: world.positions(name) for name in "bc"} == {"b": [2, 5], "c": [3, 6]}


def test_two_people_who_try_again_at_once_have_each_event_handled_once_in_order(at: MakePlatform) -> None:
    world = World("a", "b", "c")
    platform = at(world.processor())
    parked(platform, "a", "b", "c", times=5)
    world.broken.clear()
    with working(platform) as log:
        people = [threading.Thread(target=operator(log).retry, args=(ALL,)) for _ in range(6)]
        for person in people:
            person.start()
        for person in people:
            person.join()
        settled(log)
        assert lanes(log) == {}
    assert {name: world.positions(name) for name in "abc"} == {
        name: list(range(first, 16, 3)) for first, name in enumerate("abc", 1)
    }


def test_a_restart_in_the_middle_of_a_lane_goes_on_behind_what_is_handled(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a", times=6)
    world.broken.clear()
    begun, go_on = threading.Event(), threading.Event()

    def slow(e: Recorded[Counted]) -> None:
        if e.position == 3:
            begun.set()
            assert go_on.wait(30)
        world(e)

    with working(at(processor("spy", on=Counted, retry=QUICK)(slow))) as log:
        operator(log).retry(ALL)
        assert begun.wait(30)
        assert log.worker is not None
        assert not log.worker.stop(0.01)
        go_on.set()
        eventually(log.worker.stop)
        assert [(lane.status, lane.first, lane.depth) for lane in lanes(log).values()] == [("retrying", 4, 3)]
    with working(platform) as log:
        settled(log)
    assert world.positions("a") == [1, 2, 3, 4, 5, 6]


def test_events_that_come_while_a_lane_is_tried_are_handled_behind_it(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a", times=3)
    world.broken.clear()
    with working(platform) as log:
        operator(log).retry(ALL)
        append_many(log.tenant(), ["a", "b"], 20)
        settled(log)
        assert lanes(log) == {}
    assert world.positions("a") == sorted(world.positions("a"))
    assert len(world.positions("a")) == 23


def test_an_event_of_a_lane_that_a_person_closed_meanwhile_is_not_lost(at: MakePlatform) -> None:
    """The lane was open when the page was looked at, and skipped empty before the page was settled."""
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a")

    def skip_behind_its_back(e: Recorded[Counted]) -> None:
        if e.data.key == "b":
            operator(elsewhere).skip("spy", key("a"), "not needed any more")
        world(e)

    world.broken.clear()
    again = at(processor("spy", on=Counted, retry=QUICK)(skip_behind_its_back))
    with again.open() as elsewhere:
        elsewhere.tenant().append_batch(Write("tally-b", Counted("b")), Write("tally-a", Counted("a")))
        with working(again) as log:
            settled(log)
            assert lanes(log) == {}
    assert (world.positions("a"), world.positions("b")) == ([3], [2])


def test_a_lane_longer_than_a_page_is_worked_off_in_order(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    with platform.open() as log:
        for _ in range(3):
            log.tenant().append("tally-a", *(Counted("a") for _ in range(100)))
    parked(platform)
    world.broken.clear()
    with working(platform) as log:
        assert lanes(log)["a"].depth == 300
        operator(log).retry(ALL)
        settled(log)
    assert world.positions("a") == list(range(1, 301))


def test_what_is_parked_is_read_with_todays_code(at: MakePlatform) -> None:
    """A lane holds positions and not copies: upcasters written since apply, those that split or drop too."""

    @event("tally.sum")
    class Sum:
        parts: int

    @event("tally.pair")
    class Pair:
        left: int
        right: int

    @event("tally.noise")
    class Noise:
        text: str

    @processor("spy", on=[Sum, Pair, Noise], retry=QUICK)
    def refuse(e: Recorded[Any]) -> None:
        raise ValueError("cannot read this yet")

    before = Platform(at().url, Sum, Pair, Noise, refuse)
    with working(before) as log:
        log.tenant().append("s-1", Sum(7), Pair(1, 2), Noise("x"), Sum(8))
        settled(log)
        assert [lane.depth for lane in operator(log).find(ALL)] == [4]

    @upcast("tally.sum", 1, to=("tally.counted", 1))
    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        return {"key": "sum", "n": old["parts"]}

    @upcast_split("tally.pair", 1, into=[("tally.counted", 1)])
    def split(old: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("tally.counted", {"key": side, "n": old[side]}) for side in ("left", "right")]

    seen: list[tuple[str, int]] = []

    @processor("spy", on=Counted, retry=QUICK)
    def handle(e: Recorded[Counted]) -> None:
        seen.append((e.data.key, e.data.n))

    with working(at(handle, renamed, split, upcast_drop("tally.noise", 1))) as log:
        operator(log).retry(ALL)
        settled(log)
        assert list(operator(log).find(ALL)) == []
    assert seen == [("sum", 7), ("left", 1), ("right", 2), ("sum", 8)]


def test_an_event_newer_than_this_code_is_parked_until_the_newer_code_is_there(at: MakePlatform) -> None:
    @event("tally.counted", version=2)
    class Newer:
        key: str
        n: int
        unit: str

    @upcast("tally.counted", 1)
    def with_unit(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "unit": "one"}

    with Platform(at().url, Newer, with_unit).open() as new:
        new.tenant().append("tally-a", Newer("a", 1, "two"))
    world = World()
    with working(at(world.processor())) as log:
        append_many(log.tenant(), ["b"])
        settled(log)
        assert [("deploy the newer code" in lane.error, lane.first) for lane in lanes(log).values()] == [(True, 1)]
    units: list[str] = []

    @processor("spy", on=Newer, retry=QUICK)
    def handle(e: Recorded[Newer]) -> None:
        units.append(e.data.unit)

    with working(Platform(at().url, Newer, with_unit, handle)) as log:
        operator(log).retry(ALL)
        settled(log)
    assert (units, world.positions("b")) == (["two"], [2])


# ---- Skipping.


def test_a_skip_takes_the_first_event_away_and_its_reason_is_in_the_log(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    with working(platform) as log:
        for tenant in ("acme", "globex"):
            append_many(log.tenant(tenant), ["a"], 3)
        settled(log)
        world.broken.clear()
        assert operator(log).skip("spy", key("a", "acme"), "sent by hand") == 1
        settled(log)
        assert [lane.key for lane in operator(log).find(ALL)] == [key("a", "globex")]
        assert world.positions("a") == [2, 3]
        [skipped] = log.tenant("acme").events(named=[SKIPPED])
        cause = next(log.tenant("acme").events(Counted))
        assert (skipped.actor, skipped.causation_id) == ("ann", cause.id)
        assert skipped.json() == {
            "processor": "spy", "key": "acme/tally-a", "position": "1", "reason": "sent by hand",
        }  # fmt: skip
        assert list(log.tenant("globex").events(named=[SKIPPED])) == []
        assert [entry.who for entry in log.tenant("acme").audit(named=[SKIPPED])] == ["ann"]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_skip_without_a_reason_is_refused(at: MakePlatform, reason: str) -> None:
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a")
    with platform.open() as log:
        with pytest.raises(InvalidInput, match="a skip needs a reason"):
            operator(log).skip("spy", key("a"), reason)
        assert (set(lanes(log)), log.head().position) == ({"a"}, 1)


def test_what_is_not_there_or_is_being_tried_is_not_skipped_and_leaves_no_record(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a")
    with platform.open() as log:
        for name, told in (("b", NotFound), ("", NotFound)):
            with pytest.raises(told):
                operator(log).skip("spy", key(name), "why not")
        operator(log).retry(ALL)
        with pytest.raises(InvalidInput, match="being tried"):
            operator(log).skip("spy", key("a"), "why not")
        assert (lanes(log)["a"].depth, log.head().position) == (1, 1)


def test_another_event_than_the_one_that_was_recorded_is_never_skipped(
    at: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a person looked, somebody else had the lane tried: its first event got through, the second did not."""
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a", times=3)
    with platform.open() as log:
        mine = operator(log)
        seen = list(mine.find(ALL))
        with log.store.checkpoints.transaction(_taken(log), 3) as effects:
            log.store.desk.lanes.done(effects, "spy", key("a"), 1)
        monkeypatch.setattr(LaneOperator, "find", lambda self, where: iter(seen))
        with pytest.raises(InvalidInput, match="begins with the event at 2"):
            mine.skip("spy", key("a"), "the first one")
        monkeypatch.undo()
        assert [stored.position for stored in mine.events("spy", key("a"))] == [2, 3]


def _taken(log: Log) -> Any:
    log.store.checkpoints.reset("spy", 3)
    return log.store.checkpoints.claim("spy", "a test", 60.0)


def test_a_skip_that_is_repeated_is_recorded_once(at: MakePlatform) -> None:
    world = World("a")
    platform = at(world.processor())
    parked(platform, "a")
    with platform.open() as log:
        log.store.append(_record_of(log))
        assert operator(log).skip("spy", key("a"), "by hand") == 1  # as if the first try had died in between
        assert len(list(log.tenant().events(named=[SKIPPED]))) == 1
        with pytest.raises(NotFound):
            operator(log).skip("spy", key("a"), "by hand")


def _record_of(log: Log) -> Any:
    from everlog.core.envelope import Append

    [stored] = operator(log).events("spy", key("a"))
    return Append("default", (operator(log)._record("spy", key("a"), stored, "by hand"),))


# ---- Limits.


@pytest.mark.parametrize(
    ("options", "told"),
    [({"max_lanes": 3}, "4 lanes hold 4 events"), ({"max_parked": 5}, "3 lanes hold 6 events")],
    ids=["lanes", "events"],
)
def test_a_full_park_stops_the_processor_with_an_alarm_and_drops_nothing(
    at: MakePlatform, options: dict[str, int], told: str
) -> None:
    """T17."""
    world = World(*"abcdef")
    platform = at(world.processor(**options))
    keys = "abcd" if "max_lanes" in options else "abc"
    with working(platform) as log:
        for name in keys if "max_lanes" in options else keys * 2:
            append_many(log.tenant(), [name])
            eventually(lambda: not log.lags() or log.lags()[0].events == 0 or _stopped(log))
        eventually(lambda: _stopped(log))
        known = progress_of(log, "spy")
        assert told in known.error
        assert "mend the cause, retry the lanes" in known.error
        assert sum(lane.depth for lane in lanes(log).values()) == known.position == log.head().position
        append_many(log.tenant(), ["z"])
        assert log.worker is not None
        assert isinstance(log.worker.followers["spy"].failure, SubscriptionFailed)
    parked_then = known.position
    with working(platform) as log:  # a restart alone does not take up what a person has to decide
        assert _stopped(log)
        assert world.positions("z") == []
        world.broken.clear()
        operator(log).retry(ALL)
        log.store.checkpoints.set_status("spy", "running")
        settled(log)
        assert lanes(log) == {}
        assert world.positions("z") == [parked_then + 1]
        assert sorted(position for _, position in world.handled) == list(range(1, parked_then + 2))


def _stopped(log: Log) -> bool:
    return bool(log.lags()) and progress_of(log, "spy").status == "stopped"


def test_within_its_limits_it_goes_on(at: MakePlatform) -> None:
    world = World("a", "b")
    parked(at(world.processor(max_lanes=2, max_parked=4)), "a", "b", "z", times=2)
    with at(world.processor()).open() as log:
        assert progress_of(log, "spy").status == "running"
        assert {name: lane.depth for name, lane in lanes(log).items()} == {"a": 2, "b": 2}
    assert world.positions("z") == [3, 6]
