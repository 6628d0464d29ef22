"""What is kept of events that came from a broker: until they are settled, and that they are."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import pytest

from everlog.core.envelope import StoredEvent
from everlog.core.errors import Fenced
from everlog.processing.contract import Feed
from everlog.subscription.partition import partition_name
from everlog.testing.conformance.following.words import NAME, Following, claimed

FEED = Feed("everlog:a1", 3, "EVENTS", 1_700_000_000_000_000, 41, 40, 39, 7, 6)


def _event(position: int, data: bytes | None = b'{"a":1}', stream: str = "order-1") -> StoredEvent:
    id, cause = bytes(range(16)), bytes(range(1, 17))
    return StoredEvent(position, "acme", stream, 4, id, "order.placed", 2, 5, 6, "ann", cause, None, data, None)


def _keep(following: Following, *events: StoredEvent, incarnation: int = 1, key: str = "acme/order-1") -> None:
    """Events in a lane."""
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.park(effects, NAME, key, [event.position for event in events])
        following.desk.lanes.set(effects, NAME, key, "parked", 5, 0, "ValueError: boom")
        following.desk.received.keep(effects, NAME, incarnation, events)


def test_an_event_in_a_lane_comes_back_as_it_came(following: Following) -> None:
    whole, empty = _event(4), _event(5, None)
    _keep(following, whole, empty)
    assert [following.desk.received.get(NAME, position) for position in (4, 5, 6)] == [whole, empty, None]
    assert following.desk.received.get("other", 4) is None


def test_an_event_that_is_kept_stays_as_it_is(following: Following) -> None:
    _keep(following, _event(4))
    _keep(following, _event(4, b"{}"), _event(5))
    assert following.desk.received.get(NAME, 4) == _event(4)
    assert following.desk.received.get(NAME, 5) == _event(5)


def test_what_lies_in_lanes_is_told_from_what_does_not(following: Following) -> None:
    _keep(following, *[_event(position) for position in range(3, 1203, 2)])
    assert following.desk.received.find(NAME, 1, range(1200)) == set(range(3, 1200, 2))
    assert following.desk.received.find(NAME, 2, [3, 5]) == set()
    assert following.desk.received.find("other", 1, [3, 5]) == set()
    assert following.desk.received.find(NAME, 1, []) == set()


@pytest.mark.parametrize("how", ["handled", "skipped"])
def test_an_event_goes_from_the_lane_into_the_inbox(following: Following, how: str) -> None:
    _keep(following, _event(4), _event(5), incarnation=3)
    if how == "skipped":
        following.desk.lanes.skip(NAME, "acme/order-1", 4)
    else:
        with following.checkpoints.transaction(claimed(following), 0) as effects:
            following.desk.lanes.done(effects, NAME, "acme/order-1", 4)
    assert following.desk.received.find(NAME, 3, [4, 5]) == {5}
    assert following.desk.received.get(NAME, 4) is None
    assert following.desk.inbox.known(NAME, 3, [4, 5]) == {4}
    assert following.desk.inbox.known(NAME, 1, [4, 5]) == set()


def test_an_event_of_the_log_leaves_nothing_in_the_inbox(following: Following) -> None:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.lanes.park(effects, NAME, "k", [4])
        following.desk.lanes.done(effects, NAME, "k", 4)
    assert following.desk.inbox.known(NAME, 1, [4]) == set()


def test_settled_events_are_known_with_all_their_parts(following: Following) -> None:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.inbox.first(effects, NAME, 1, 2, 0)
        following.desk.inbox.remember(effects, NAME, 1, range(5, 1300))
        following.desk.inbox.remember(effects, NAME, 1, [4, 5])
        following.desk.inbox.remember(effects, NAME, 1, [])
    assert following.desk.inbox.known(NAME, 1, range(1400)) == set(range(4, 1300))
    assert following.desk.inbox.known(NAME, 2, [5]) == set()
    assert following.desk.inbox.known("other", 1, [5]) == set()
    assert following.desk.inbox.known(NAME, 1, []) == set()


def test_a_place_in_the_stream_moves_with_the_commit_it_belongs_to(following: Following) -> None:
    assert following.desk.feeds.get(NAME) is None
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.feeds.put(effects, NAME, FEED)
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.feeds.put(effects, NAME, FEED._replace(sequence=99))
        raise ZeroDivisionError
    assert following.desk.feeds.get(NAME) == FEED
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.feeds.put(effects, NAME, FEED._replace(sequence=42, read=41, position=41))
    assert following.desk.feeds.get(NAME) == FEED._replace(sequence=42, read=41, position=41)
    assert following.desk.feeds.get("other") is None


def test_a_person_says_what_a_new_incarnation_shares_with_the_last(following: Following) -> None:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.feeds.put(effects, NAME, FEED)
    following.desk.feeds.accept(NAME, "everlog:b2", 4, 30)
    following.desk.feeds.accept("other", "everlog:b2", 4, 30)
    # The checkpoint is at 0 and the floor at 7: neither goes forward.
    accepted = FEED._replace(source="everlog:b2", incarnation=4, position=0, floor=7, shared=30)
    assert following.desk.feeds.get(NAME) == accepted
    assert following.desk.feeds.get("other") is None


def test_no_partition_goes_forward_by_what_is_accepted(following: Following) -> None:
    following.checkpoints.register(NAME, "processor", 1, 0, parts=2)
    names = [partition_name(NAME, part, 2) for part in range(2)]
    claims = [following.checkpoints.claim(name, "one", 60.0) for name in names]
    for claim, position in zip(claims, (10, 40), strict=True):
        assert claim is not None
        with following.checkpoints.transaction(claim, position) as effects:
            following.desk.feeds.put(effects, claim.name, FEED._replace(position=position, floor=0))
    following.desk.feeds.accept(NAME, FEED.source, 4, 30)
    assert [one.position for one in following.checkpoints.progress()] == [10, 30]
    feeds = [following.desk.feeds.get(name) for name in names]
    assert [(one.position, one.floor, one.shared) for one in feeds if one] == [(10, 10, 30), (30, 30, 30)]
    for claim in claims:
        assert claim is not None
        with pytest.raises(Fenced), following.checkpoints.transaction(claim, 50):
            pass
    # Neither waits for the other.
    assert all(following.checkpoints.claim(name, "two", 60.0) for name in reversed(names))


def test_what_is_shared_is_known_of_the_new_incarnation_too(following: Following) -> None:
    _keep(following, _event(4), incarnation=3)
    with following.checkpoints.transaction(claimed(following), 2) as effects:
        following.desk.feeds.put(effects, NAME, FEED)
        following.desk.inbox.remember(effects, NAME, 3, [1, 5, 6])
        following.desk.inbox.remember(effects, NAME, 4, [7])
        following.desk.inbox.first(effects, NAME, 3, 3, 1)
    following.desk.feeds.accept(NAME, FEED.source, 4, 5)
    assert following.desk.inbox.known(NAME, 4, range(10)) == {5, 7}  # up to 2, the checkpoint, the floor says so
    assert following.desk.received.find(NAME, 4, [4]) == {4}
    with following.checkpoints.transaction(claimed(following), 2) as effects:
        assert not following.desk.inbox.first(effects, NAME, 4, 3, 1)


def test_what_was_known_of_one_log_is_not_known_of_another(following: Following) -> None:
    with following.checkpoints.transaction(claimed(following), 9) as effects:
        following.desk.feeds.put(effects, NAME, FEED._replace(source="", incarnation=0))
        following.desk.inbox.remember(effects, NAME, 1, [1, 2])
    following.desk.feeds.accept(NAME, FEED.source, 1, 0)
    assert following.desk.inbox.known(NAME, 1, [1, 2]) == set()
    assert [one.position for one in following.checkpoints.progress()] == [0]


def test_another_handle_sees_what_is_kept(following: Following, second: Following) -> None:
    _keep(following, _event(4))
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.feeds.put(effects, NAME, FEED)
    assert second.desk.received.get(NAME, 4) == _event(4)
    assert second.desk.feeds.get(NAME) == FEED
