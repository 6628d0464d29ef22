"""A subscription in several partitions: each owned and moved alone, divided anew at one place for all of them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from everlog.core.errors import Fenced, InvalidInput, NotFound
from everlog.processing.contract import LaneFilter
from everlog.subscription.contract import Claim, Progress
from everlog.subscription.partition import Slice, as_one, key_hash
from everlog.testing.conformance.events import DAY, SettableClock
from everlog.testing.conformance.following.brokers import FEED
from everlog.testing.conformance.following.words import LEASE, NAME, SECOND, Following, SettableLease, registered


def _divided(following: Following, parts: int = 3, start: int = 0) -> list[str]:
    following.checkpoints.register(NAME, "processor", 1, start, parts=parts)
    return [one.name for one in _partitions(following)]


def _partitions(following: Following) -> list[Progress]:
    return [one for one in following.checkpoints.progress() if one.subscription == NAME]


def _claim(following: Following, partition: str, owner: str = "ann") -> Claim:
    claim = following.checkpoints.claim(partition, owner, LEASE)
    assert claim is not None
    return claim


def _move(following: Following, claim: Claim, position: int) -> None:
    with following.checkpoints.transaction(claim, position):
        pass


def test_it_begins_in_as_many_partitions_as_it_is_told(following: Following) -> None:
    assert _divided(following, start=41) == ["mail/0of3", "mail/1of3", "mail/2of3"]
    assert [(one.part, one.parts, one.position, one.until) for one in _partitions(following)] == [
        (part, 3, 41, None) for part in range(3)
    ]
    assert _divided(following, parts=5) == ["mail/0of3", "mail/1of3", "mail/2of3"]


def test_what_is_not_divided_is_its_own_partition(following: Following) -> None:
    known = registered(following)
    assert (known.name, known.subscription, known.part, known.parts) == (NAME, NAME, 0, 1)


def test_each_partition_has_its_owner_and_its_checkpoint(following: Following, lease: SettableLease) -> None:
    first, second, _ = _divided(following)
    ours, theirs = _claim(following, first, "ann"), _claim(following, second, "bob")
    _move(following, ours, 7)
    _move(following, theirs, 5)
    assert [(one.owner, one.position) for one in _partitions(following)] == [("ann", 7), ("bob", 5), ("", 0)]
    whole = as_one(following.checkpoints.progress())[NAME]
    assert (whole.name, whole.owner, whole.position, whole.parts) == (NAME, "ann, bob", 0, 3)
    lease.now += 10 * SECOND
    assert _claim(following, first, "carl").position == 7


def test_marks_are_of_one_partition(following: Following) -> None:
    first, second, _ = _divided(following)
    with following.checkpoints.transaction(_claim(following, first), 0) as effects:
        following.desk.marks.mark(effects, first, 9)
    assert (following.desk.marks.marked(first), following.desk.marks.marked(second)) == (9, 0)


def test_lanes_are_tried_by_the_partition_that_holds_their_key(following: Following) -> None:
    first, *_ = _divided(following)
    keys = [f"acme/{number}" for number in range(40)]
    with following.checkpoints.transaction(_claim(following, first), 0) as effects:
        for key in keys:
            following.desk.lanes.park(effects, NAME, key, [1])
    for part in range(3):
        due = [lane.key for lane in following.desk.lanes.due(NAME, 0, 99, Slice(part, 3))]
        assert sorted(due) == sorted(key for key in keys if key_hash(key) % 3 == part)
        assert 5 < len(due) < 25
    assert len(following.desk.lanes.due(NAME, 0, 99)) == 40


def test_a_person_may_retry_and_skip_lanes_of_all_partitions(following: Following) -> None:
    first, *_ = _divided(following)
    claim = _claim(following, first)
    with following.checkpoints.transaction(claim, 0) as effects:
        for key in ("acme/1", "acme/2", "acme/3"):
            following.desk.lanes.park(effects, NAME, key, [1, 2])
            following.desk.lanes.set(effects, NAME, key, "parked", 5, 0, "boom")
    following.desk.lanes.skip(NAME, "acme/2", 1)
    assert following.desk.lanes.retry(LaneFilter(NAME), canary=False) == 3


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_new_partitions_begin_where_the_old_ones_end(following: Following, parts: int) -> None:
    claims = [_claim(following, name) for name in _divided(following)]
    for claim, position in zip(claims, (3, 9, 6), strict=True):
        _move(following, claim, position)
    following.checkpoints.divide(NAME, parts)
    new = [one for one in _partitions(following) if one.until is None]
    assert [(one.part, one.parts, one.position, one.status) for one in new] == [
        (part, parts, 9, "running") for part in range(parts)
    ]
    for number, claim in enumerate(claims):
        assert all(following.checkpoints.claim(one.name, "bob", LEASE) is None for one in new), number
        ending = following.checkpoints.renew(claim, LEASE)
        assert ending is not None
        assert ending.until == 9
        _move(following, ending, 9)
        following.checkpoints.retire(ending)
    assert all(following.checkpoints.claim(one.name, "bob", LEASE) is not None for one in new)
    assert _partitions(following) != []
    assert {one.until for one in _partitions(following)} == {None}


def test_a_partition_commits_nothing_behind_its_end(following: Following) -> None:
    """What its owner had in hand lies before it, so that is kept."""
    first, second, _ = _divided(following)
    claim, other = _claim(following, first), _claim(following, second)
    _move(following, other, 8)
    following.checkpoints.divide(NAME, 2)
    _move(following, claim, 8)
    for position, upto in ((9, 0), (8, 9)):
        with pytest.raises(Fenced), following.checkpoints.transaction(claim, position, upto=upto):
            pass
    assert _claim(following, first).until == 8


def test_a_partition_that_is_not_at_its_end_is_not_retired(following: Following) -> None:
    first, second, _ = _divided(following)
    _move(following, _claim(following, second), 8)
    following.checkpoints.divide(NAME, 1)
    claim = _claim(following, first)
    following.checkpoints.retire(claim)
    _move(following, claim, 8)
    stale = claim._replace(epoch=claim.epoch - 1)
    following.checkpoints.retire(stale)
    assert first in {one.name for one in _partitions(following)}
    following.checkpoints.retire(claim)
    assert first not in {one.name for one in _partitions(following)}


def test_marks_go_with_their_partition(following: Following) -> None:
    registered(following)
    claim = _claim(following, NAME)
    with following.checkpoints.transaction(claim, 4) as effects:
        following.desk.marks.mark(effects, NAME, 9)
    following.checkpoints.divide(NAME, 2)
    following.checkpoints.retire(claim)
    assert following.desk.marks.marked(NAME) == 0


def test_what_is_divided_so_already_stays_as_it_is(following: Following) -> None:
    _divided(following)
    before = following.checkpoints.progress()
    following.checkpoints.divide(NAME, 3)
    assert following.checkpoints.progress() == before


@pytest.mark.parametrize("parts", [0, -1, 257])
def test_no_number_of_partitions_but_1_to_256(following: Following, parts: int) -> None:
    _divided(following)
    with pytest.raises(InvalidInput, match="1 to 256"):
        following.checkpoints.divide(NAME, parts)


def test_what_a_broker_feeds_keeps_its_partitions(following: Following) -> None:
    """Its places are of the broker's stream, so there is no head at which it could end."""
    names = _divided(following)
    claim = _claim(following, names[1])
    with following.checkpoints.transaction(claim, 0) as effects:
        following.desk.feeds.put(effects, names[1], FEED)
    with pytest.raises(InvalidInput, match="fed by a broker"):
        following.checkpoints.divide(NAME, 2)
    assert [one.name for one in _partitions(following)] == names


def test_of_many_that_register_it_at_once_one_says_how_it_is_divided(following: Following) -> None:
    start = Barrier(6)

    def register(parts: int) -> None:
        start.wait()
        following.checkpoints.register(NAME, "processor", 1, 0, parts=parts)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(register, (2, 3, 4, 5, 6, 7)))
    partitions = _partitions(following)
    assert {one.parts for one in partitions} == {len(partitions)}


def test_it_is_divided_again_only_once_that_is_through(following: Following) -> None:
    _divided(following)
    following.checkpoints.divide(NAME, 2)
    with pytest.raises(InvalidInput, match="being divided"):
        following.checkpoints.divide(NAME, 4)


def test_what_is_not_there_cannot_be_divided(following: Following) -> None:
    with pytest.raises(NotFound, match="nothing"):
        following.checkpoints.divide("nothing", 2)


def test_a_paused_one_is_paused_in_all_its_partitions(following: Following) -> None:
    names = _divided(following)
    assert following.checkpoints.set_status(NAME, "paused")
    assert [one.status for one in _partitions(following)] == ["paused"] * 3
    following.checkpoints.divide(NAME, 2)
    assert [one.status for one in _partitions(following)] == ["paused"] * 5
    assert following.checkpoints.claim(names[0], "ann", LEASE) is None
    assert following.checkpoints.set_status(NAME, "running")
    assert following.checkpoints.claim(names[0], "ann", LEASE) is not None


def test_one_partition_fails_alone(following: Following) -> None:
    first, second, _ = _divided(following)
    claim = _claim(following, first)
    assert following.checkpoints.set_status(first, "failed", error="boom", position=4, epoch=claim.epoch)
    whole = as_one(following.checkpoints.progress())[NAME]
    assert (whole.status, whole.error, whole.failed_position) == ("failed", "boom", 4)
    assert following.checkpoints.claim(second, "ann", LEASE) is not None


def test_what_is_sent_back_begins_with_its_first_partition(following: Following) -> None:
    """It clears what an earlier build left, and the others would write into that."""
    names = _divided(following)
    for name in names:
        _move(following, _claim(following, name), 9)
    following.checkpoints.divide(NAME, 2)
    following.checkpoints.reset(NAME, 2)
    first, second = _partitions(following)
    assert [(one.position, one.until, one.owner) for one in (first, second)] == [(2, None, "")] * 2
    assert following.checkpoints.claim(second.name, "bob", LEASE) is None
    claim = _claim(following, first.name)
    assert claim.anew
    assert following.checkpoints.claim(second.name, "bob", LEASE) is None
    _move(following, claim, 2)
    assert not _claim(following, second.name, "bob").anew


def test_another_version_begins_anew_in_all_partitions(following: Following) -> None:
    names = _divided(following)
    for name in names:
        _move(following, _claim(following, name), 9)
    following.checkpoints.register(NAME, "processor", 2, 1, parts=7)
    assert [(one.version, one.position, one.parts) for one in _partitions(following)] == [(2, 1, 3)] * 3


# ---- Who shares the work.


def test_workers_that_attend_are_counted(following: Following, lease: SettableLease) -> None:
    attend = following.checkpoints.attend
    assert attend(NAME, "ann", LEASE) == (1, 0)
    assert attend(NAME, "bob", LEASE) == (2, 1)
    assert attend(NAME, "ann", LEASE) == (2, 0)
    assert attend("other", "carl", LEASE) == (1, 0)
    lease.now += 5 * SECOND
    assert attend(NAME, "bob", LEASE) == (2, 1)
    lease.now += 5 * SECOND
    assert attend(NAME, "bob", LEASE) == (1, 0)


def test_a_worker_that_goes_is_not_counted_any_more(following: Following) -> None:
    following.checkpoints.attend(NAME, "ann", LEASE)
    following.checkpoints.attend(NAME, "bob", LEASE)
    assert following.checkpoints.attend(NAME, "bob", 0) == (1, 1)
    assert following.checkpoints.attend(NAME, "ann", LEASE) == (1, 0)


def test_no_jump_of_the_wall_clock_ends_an_attendance(following: Following, clock: SettableClock) -> None:
    following.checkpoints.attend(NAME, "bob", LEASE)
    clock.now += DAY
    assert following.checkpoints.attend(NAME, "ann", LEASE) == (2, 0)
