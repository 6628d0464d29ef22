"""Lanes as a processor uses them: opened in its transaction, tried when due, worked off in order, closed when empty."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import pytest

from everlog.core.errors import Fenced
from everlog.processing.contract import Lane, LaneFilter, LaneStatus
from everlog.testing.conformance.events import SettableClock
from everlog.testing.conformance.following.words import NAME, SECOND, Following, SettableLease, claimed


def open_lane(
    following: Following,
    key: str = "acme/order-1",
    *positions: int,
    status: LaneStatus = "parked",
    attempts: int = 5,
    next_at: int = 0,
    error: str = "ValueError: boom",
    processor: str = NAME,
) -> None:
    """A lane with events behind it; at position 1 alone, when none is named."""
    with following.checkpoints.transaction(claimed(following, processor), 0) as effects:
        following.desk.lanes.set(effects, processor, key, status, attempts, next_at, error)
        following.desk.lanes.park(effects, processor, key, positions or [1])


def lanes(following: Following, **where: str) -> dict[str, Lane]:
    return {lane.key: lane for lane in following.desk.lanes.find(LaneFilter(NAME, **where))}


def done(following: Following, key: str, position: int) -> bool:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        return following.desk.lanes.done(effects, NAME, key, position)


def test_a_lane_shows_how_it_stands(following: Following, clock: SettableClock) -> None:
    clock.now = 77
    open_lane(following, "acme/order-1", 9, 4, 12, status="retrying", attempts=2, next_at=1000)
    expected = Lane(NAME, "acme/order-1", "retrying", 2, 1000, "ValueError: boom", 77, 4, 3)
    assert list(following.desk.lanes.find(LaneFilter(NAME))) == [expected]
    assert following.desk.lanes.positions(NAME, "acme/order-1", 2) == [4, 9]
    assert following.desk.lanes.positions(NAME, "acme/order-1", 9) == [4, 9, 12]
    assert following.desk.lanes.positions(NAME, "acme/order-2", 9) == []


def test_a_key_and_an_error_may_hold_what_a_database_refuses(following: Following) -> None:
    """What people write comes into both, and a processor that cannot park it would stand still."""
    key = "acme/\0 %_'"
    open_lane(following, key, 3, 4, status="retrying", error="ValueError: \0 '\\ud800'")
    assert following.desk.lanes.open(NAME, [key, "acme/ %_'"]) == {key}
    assert lanes(following, key=key)[key].error.startswith("ValueError: ")
    assert following.desk.lanes.positions(NAME, key, 9) == [3, 4]
    assert begin(following, key, 3) == 6
    assert not done(following, key, 3)
    following.desk.lanes.retry(LaneFilter(NAME, key=key), canary=True)
    assert done(following, key, 4)
    assert following.checkpoints.set_status(NAME, "failed", error="ValueError: \0")
    assert following.checkpoints.progress()[0].error.startswith("ValueError: ")


def test_open_lanes_are_told_from_others(following: Following) -> None:
    keys = [f"acme/order-{number}" for number in range(700)]
    for key in keys[::100]:
        open_lane(following, key)
    assert following.desk.lanes.open(NAME, keys) == set(keys[::100])
    assert following.desk.lanes.open(NAME, []) == set()
    assert following.desk.lanes.open("other", keys) == set()


def test_lanes_are_due_in_the_order_of_their_time(following: Following) -> None:
    for key, status, next_at in (
        ("c", "retrying", 300),
        ("a", "retrying", 100),
        ("b", "retrying", 200),
        ("later", "retrying", 301),
        ("parked", "parked", 0),
        ("waiting", "waiting", 0),
    ):
        open_lane(following, key, status=status, next_at=next_at)  # type: ignore[arg-type]
    assert [lane.key for lane in following.desk.lanes.due(NAME, 300, 9)] == ["a", "b", "c"]
    assert [lane.key for lane in following.desk.lanes.due(NAME, 300, 2)] == ["a", "b"]
    assert following.desk.lanes.due(NAME, 99, 9) == []
    assert following.desk.lanes.due("other", 300, 9) == []


def test_saying_how_a_lane_stands_keeps_its_events_and_its_birthday(following: Following, clock: SettableClock) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=1)
    born = clock.now
    clock.now += SECOND
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.set(effects, NAME, "k", "parked", 5, 0, "OSError: worse")
    assert lanes(following)["k"] == Lane(NAME, "k", "parked", 5, 0, "OSError: worse", born, 3, 2)


def test_events_lie_behind_a_lane_once(following: Following) -> None:
    open_lane(following, "k", 3)
    for positions in ([5, 4], [5, 6], []):
        with following.checkpoints.transaction(claimed(following), 0) as effects:
            following.desk.lanes.park(effects, NAME, "k", positions)
    assert following.desk.lanes.positions(NAME, "k", 9) == [3, 4, 5, 6]
    assert following.desk.lanes.totals(NAME) == (1, 4)
    assert lanes(following)["k"].status == "parked"


def test_events_that_find_their_lane_closed_open_it_again_due_at_once(following: Following) -> None:
    claimed(following)
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.park(effects, NAME, "k", [3, 4])
    assert [lane.key for lane in following.desk.lanes.due(NAME, 0, 9)] == ["k"]
    assert following.desk.lanes.positions(NAME, "k", 9) == [3, 4]


def test_no_lane_is_opened_for_no_event(following: Following) -> None:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.park(effects, NAME, "k", [])
    assert lanes(following) == {}


def test_a_lane_is_worked_off_in_order_and_closes(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=4)
    assert not done(following, "k", 3)
    assert (lanes(following)["k"].first, lanes(following)["k"].depth) == (4, 1)
    assert done(following, "k", 4)
    assert lanes(following) == {}
    assert following.desk.lanes.totals(NAME) == (0, 0)


def test_the_event_behind_a_handled_one_has_all_its_attempts(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=4)
    done(following, "k", 3)
    assert lanes(following)["k"].attempts == 0


def _begin(following: Following, key: str, position: int) -> int:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        return following.desk.lanes.begin(effects, NAME, key, position)


def _failed(following: Following, key: str, attempt: int, status: LaneStatus, attempts: int, next_at: int) -> None:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.failed(
            effects, NAME, key, attempt, status=status, attempts=attempts, next_at=next_at, error="OSError: worse"
        )


def test_attempts_on_a_lane_are_counted_before_they_are_made(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=1)
    assert [_begin(following, "k", 3), _begin(following, "k", 3)] == [2, 3]
    assert (lanes(following)["k"].attempts, lanes(following)["k"].status) == (3, "retrying")
    done(following, "k", 3)
    assert _begin(following, "k", 4) == 1


@pytest.mark.parametrize("why", ["parked", "waiting", "not the first", "no lane", "another processor"])
def test_what_is_not_to_be_tried_is_not_begun(following: Following, why: str) -> None:
    status: LaneStatus = "parked" if why == "parked" else "waiting" if why == "waiting" else "retrying"
    open_lane(following, "k", 3, 4, status=status, attempts=1, processor="other" if why.startswith("ano") else NAME)
    before = lanes(following)
    assert _begin(following, "x" if why == "no lane" else "k", 4 if why == "not the first" else 3) == 0
    assert lanes(following) == before


def test_an_attempt_that_went_wrong_says_when_the_next_one_is_due(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=1)
    _failed(following, "k", _begin(following, "k", 3), "retrying", 2, 500)
    lane = lanes(following)["k"]
    assert (lane.status, lane.attempts, lane.next_at, lane.error, lane.first) == (
        "retrying", 2, 500, "OSError: worse", 3,
    )  # fmt: skip
    assert following.desk.lanes.due(NAME, 499, 9) == []
    _failed(following, "k", _begin(following, "k", 3), "parked", 3, 0)
    assert (lanes(following)["k"].status, lanes(following)["k"].attempts) == ("parked", 3)


def test_what_a_person_asked_for_meanwhile_outlives_an_attempt_that_went_wrong(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=4)
    attempt = _begin(following, "k", 3)
    following.desk.lanes.retry(LaneFilter(NAME), canary=False)
    _failed(following, "k", attempt, "parked", attempt, 0)
    assert (lanes(following)["k"].status, lanes(following)["k"].attempts) == ("retrying", 0)
    assert [lane.key for lane in following.desk.lanes.due(NAME, 0, 9)] == ["k"]


# ---- An attempt, from its beginning to its end.


def begin(following: Following, key: str, position: int) -> int:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        return following.desk.lanes.begin(effects, NAME, key, position)


def failed(following: Following, key: str, attempt: int, status: LaneStatus = "retrying") -> bool:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        return following.desk.lanes.failed(
            effects, NAME, key, attempt, status=status, attempts=attempt, next_at=99, error="OSError: worse"
        )


def test_attempts_are_counted_as_they_begin(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=1, next_at=7)
    assert [begin(following, "k", 3), begin(following, "k", 3)] == [2, 3]
    assert (lanes(following)["k"].attempts, lanes(following)["k"].next_at) == (3, 7)


def test_only_the_first_event_of_a_lane_is_tried(following: Following) -> None:
    open_lane(following, "k", 3, 4, status="retrying", attempts=1)
    assert [begin(following, "k", 4), begin(following, "k", 2), begin(following, "other", 3)] == [0, 0, 0]
    assert lanes(following)["k"].attempts == 1


@pytest.mark.parametrize("status", ["parked", "waiting"])
def test_a_lane_that_waits_is_not_tried(following: Following, status: LaneStatus) -> None:
    open_lane(following, "k", 3, status=status, attempts=1)
    assert begin(following, "k", 3) == 0
    assert (lanes(following)["k"].status, lanes(following)["k"].attempts) == (status, 1)


def test_an_attempt_that_failed_says_how_the_lane_stands(following: Following, clock: SettableClock) -> None:
    open_lane(following, "k", 3, status="retrying", attempts=1)
    assert failed(following, "k", begin(following, "k", 3))
    assert lanes(following)["k"] == Lane(NAME, "k", "retrying", 2, 99, "OSError: worse", clock.now, 3, 1)
    assert failed(following, "k", begin(following, "k", 3), "parked")
    assert (lanes(following)["k"].status, lanes(following)["k"].attempts) == ("parked", 3)


def test_a_lane_that_a_person_tries_again_meanwhile_has_an_attempt_of_its_own(following: Following) -> None:
    open_lane(following, "k", 3, status="retrying", attempts=4)
    attempt = begin(following, "k", 3)
    assert following.desk.lanes.retry(LaneFilter(NAME), canary=False) == 1
    assert not failed(following, "k", attempt, "parked")
    assert (lanes(following)["k"].status, lanes(following)["k"].attempts) == ("retrying", 0)


def test_a_lane_that_a_person_closed_meanwhile_stays_closed(following: Following) -> None:
    open_lane(following, "j", 2)
    open_lane(following, "k", 3, status="retrying", attempts=4)
    attempt = begin(following, "k", 3)
    following.desk.lanes.retry(LaneFilter(NAME), canary=True)
    following.desk.lanes.skip(NAME, "k", 3)
    assert not failed(following, "k", attempt)
    assert begin(following, "k", 3) == 0
    assert list(lanes(following)) == ["j"]


def test_those_that_wait_are_parked_with_a_canary_that_failed(following: Following) -> None:
    for key in ("j", "k"):
        open_lane(following, key, 3)
    following.desk.lanes.retry(LaneFilter(NAME), canary=True)
    assert failed(following, "j", begin(following, "j", 3), "parked")
    assert {lane.status for lane in lanes(following).values()} == {"parked"}


def test_lanes_of_two_processors_are_kept_apart(following: Following) -> None:
    open_lane(following, "k", 3)
    open_lane(following, "k", 3, 4, processor="other")
    assert following.desk.lanes.totals(NAME) == (1, 1)
    assert following.desk.lanes.totals("other") == (1, 2)
    assert following.desk.lanes.positions("other", "k", 9) == [3, 4]
    assert following.desk.lanes.totals("nobody") == (0, 0)
    assert done(following, "k", 3)
    assert following.desk.lanes.totals("other") == (1, 2)


def test_a_processor_that_was_replaced_changes_no_lane(following: Following, lease: SettableLease) -> None:
    open_lane(following, "k", 3, 4)
    before = lanes(following)
    stale = claimed(following)
    lease.now += 60 * SECOND
    claimed(following, owner="bob")
    with pytest.raises(Fenced), following.checkpoints.transaction(stale, 0) as effects:
        following.desk.lanes.done(effects, NAME, "k", 3)
    assert lanes(following) == before


def test_a_block_that_raises_changes_no_lane(following: Following) -> None:
    open_lane(following, "k", 3, 4)
    before = lanes(following)
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.park(effects, NAME, "k", [5])
        following.desk.lanes.park(effects, NAME, "new", [5])
        following.desk.lanes.done(effects, NAME, "k", 3)
        raise ZeroDivisionError
    assert lanes(following) == before
    assert following.desk.lanes.positions(NAME, "k", 9) == [3, 4]
