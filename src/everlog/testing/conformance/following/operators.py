"""Lanes as a person uses them: find, try again with a canary first, skip one event."""

import pytest

from everlog.core.errors import InvalidInput, NotFound
from everlog.processing.contract import LaneFilter
from everlog.testing.conformance.following.lanes import done, lanes, open_lane
from everlog.testing.conformance.following.words import NAME, Following, claimed

_KEYS = ("acme-2/order-1", "acme/order-1", "acme/order-2", "globex/order-1")


def _open_all(following: Following) -> None:
    for key in _KEYS:
        open_lane(following, key, 1, 2, error="OSError: no route" if key.startswith("globex") else "ValueError: boom")


def _statuses(following: Following) -> dict[str, str]:
    return {lane.key: lane.status for lane in lanes(following).values()}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({}, list(_KEYS)),
        ({"key": "acme/order-2"}, ["acme/order-2"]),
        ({"key": "acme/order"}, []),
        ({"tenant": "acme"}, ["acme/order-1", "acme/order-2"]),
        ({"tenant": "acm"}, []),
        ({"error": "boom"}, ["acme-2/order-1", "acme/order-1", "acme/order-2"]),
        ({"error": "%"}, []),
        ({"tenant": "globex", "error": "no route"}, ["globex/order-1"]),
        ({"tenant": "acme", "error": "no route"}, []),
    ],
    ids=str,
)
def test_exactly_the_lanes_that_are_meant_are_found_and_tried_again(
    following: Following, where: dict[str, str], found: list[str]
) -> None:
    _open_all(following)
    assert list(lanes(following, **where)) == found
    assert following.desk.lanes.retry(LaneFilter(NAME, **where), canary=False) == len(found)
    assert [key for key, status in _statuses(following).items() if status == "retrying"] == found
    assert sorted(lane.key for lane in following.desk.lanes.due(NAME, 0, 9)) == found
    assert {lane.attempts for lane in lanes(following, **where).values()} <= {0}


def test_any_number_of_lanes_is_listed_by_key(following: Following) -> None:
    keys = [f"acme/order-{number:04}" for number in range(1100)]
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        for key in reversed(keys):
            following.desk.lanes.park(effects, NAME, key, [1])
    assert [lane.key for lane in following.desk.lanes.find(LaneFilter(NAME))] == keys


def test_retrying_lanes_of_another_processor_leaves_ours(following: Following) -> None:
    open_lane(following, "k")
    assert following.desk.lanes.retry(LaneFilter("other"), canary=False) == 0
    assert _statuses(following) == {"k": "parked"}


# ---- A canary.


def test_with_a_canary_one_lane_is_tried_and_the_others_wait(following: Following) -> None:
    _open_all(following)
    assert following.desk.lanes.retry(LaneFilter(NAME, tenant="acme"), canary=True) == 2
    assert _statuses(following) == {
        "acme-2/order-1": "parked",
        "acme/order-1": "retrying",
        "acme/order-2": "waiting",
        "globex/order-1": "parked",
    }


def test_those_that_wait_are_due_when_the_canarys_lane_is_empty(following: Following) -> None:
    _open_all(following)
    following.desk.lanes.retry(LaneFilter(NAME, tenant="acme"), canary=True)
    assert not done(following, "acme/order-1", 1)
    assert _statuses(following)["acme/order-2"] == "waiting"
    assert done(following, "acme/order-1", 2)
    assert [lane.key for lane in following.desk.lanes.due(NAME, 0, 9)] == ["acme/order-2"]


def test_those_that_wait_are_parked_with_the_canary(following: Following) -> None:
    _open_all(following)
    following.desk.lanes.retry(LaneFilter(NAME), canary=True)
    first = _KEYS[0]
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.set(effects, NAME, first, "retrying", 1, 99, "ValueError: boom")
    assert set(_statuses(following).values()) == {"retrying", "waiting"}
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.set(effects, NAME, first, "parked", 5, 0, "ValueError: boom")
    assert set(_statuses(following).values()) == {"parked"}


def test_those_that_wait_are_parked_when_the_canarys_last_attempt_went_wrong(following: Following) -> None:
    _open_all(following)
    following.desk.lanes.retry(LaneFilter(NAME), canary=True)
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        attempt = following.desk.lanes.begin(effects, NAME, _KEYS[0], 1)
        following.desk.lanes.failed(
            effects, NAME, _KEYS[0], attempt, status="parked", attempts=attempt, next_at=0, error="ValueError: boom"
        )
    assert set(_statuses(following).values()) == {"parked"}


def test_a_canary_that_has_to_wait_for_another_leaves_nobody_behind(following: Following) -> None:
    for key, error in (("a", "late"), ("b", "boom late"), ("c", "boom")):
        open_lane(following, key, error=error)
    following.desk.lanes.retry(LaneFilter(NAME, error="boom"), canary=True)
    following.desk.lanes.retry(LaneFilter(NAME, error="late"), canary=True)
    assert _statuses(following) == {"a": "retrying", "b": "waiting", "c": "waiting"}
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.set(effects, NAME, "a", "parked", 5, 0, "again")
    assert set(_statuses(following).values()) == {"parked"}


def test_a_lane_that_waits_may_be_tried_by_itself(following: Following) -> None:
    _open_all(following)
    following.desk.lanes.retry(LaneFilter(NAME), canary=True)
    following.desk.lanes.retry(LaneFilter(NAME, key="globex/order-1"), canary=False)
    assert _statuses(following)["globex/order-1"] == "retrying"
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.set(effects, NAME, _KEYS[0], "parked", 5, 0, "again")
    assert _statuses(following)["globex/order-1"] == "retrying"


# ---- Skipping.


def test_the_first_event_is_skipped_and_the_rest_is_tried(following: Following) -> None:
    open_lane(following, "k", 3, 5)
    following.desk.lanes.skip(NAME, "k", 3)
    assert following.desk.lanes.positions(NAME, "k", 9) == [5]
    [lane] = following.desk.lanes.due(NAME, 0, 9)
    assert (lane.key, lane.attempts) == ("k", 0)


def test_a_lane_whose_only_event_is_skipped_is_closed(following: Following) -> None:
    open_lane(following, "k", 3)
    following.desk.lanes.skip(NAME, "k", 3)
    assert lanes(following) == {}


def test_an_event_of_no_lane_cannot_be_skipped(following: Following) -> None:
    open_lane(following, "k", 3)
    for processor, key in ((NAME, "other"), ("other", "k")):
        with pytest.raises(NotFound, match="no lane"):
            following.desk.lanes.skip(processor, key, 3)


def test_an_event_that_is_being_tried_cannot_be_skipped(following: Following) -> None:
    open_lane(following, "k", 3, status="retrying")
    with pytest.raises(InvalidInput, match="being tried"):
        following.desk.lanes.skip(NAME, "k", 3)
    assert following.desk.lanes.positions(NAME, "k", 9) == [3]


@pytest.mark.parametrize("position", [2, 5])
def test_another_event_than_the_one_that_was_seen_is_never_skipped(following: Following, position: int) -> None:
    open_lane(following, "k", 3, 5)
    with pytest.raises(InvalidInput, match="begins with the event at 3"):
        following.desk.lanes.skip(NAME, "k", position)
    assert following.desk.lanes.positions(NAME, "k", 9) == [3, 5]


def test_another_handle_sees_the_same_lanes(following: Following, second: Following) -> None:
    open_lane(following, "k", 3, 4)
    assert list(second.desk.lanes.find(LaneFilter(NAME))) == list(following.desk.lanes.find(LaneFilter(NAME)))
    second.desk.lanes.skip(NAME, "k", 3)
    assert following.desk.lanes.positions(NAME, "k", 9) == [4]
