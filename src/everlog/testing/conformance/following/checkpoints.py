"""Registering, owning and leaving a subscription: one owner at a time, by a lease that only the lease clock ends."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from everlog.core.errors import NotFound
from everlog.subscription.contract import Status
from everlog.testing.conformance.events import DAY, SettableClock
from everlog.testing.conformance.following.words import (
    LEASE,
    NAME,
    SECOND,
    Following,
    SettableLease,
    claimed,
    progress,
    registered,
)


def test_a_subscription_begins_where_it_is_told(following: Following, clock: SettableClock) -> None:
    known = registered(following, "revenue", "projection", 3, start=41)
    assert (known.kind, known.version, known.position, known.status) == ("projection", 3, 41, "running")
    assert (known.owner, known.error, known.failed_position, known.moved_at) == ("", "", 0, clock.now)
    assert following.checkpoints.progress() == [known]


def test_registering_it_again_changes_nothing(following: Following, clock: SettableClock) -> None:
    claim = claimed(following)
    with following.checkpoints.transaction(claim, 7):
        pass
    before = progress(following)
    clock.now += DAY
    assert registered(following, start=99) == before
    assert following.checkpoints.renew(claim, LEASE)


def test_another_version_begins_anew_and_fences_the_old_one(following: Following) -> None:
    claim = claimed(following)
    with following.checkpoints.transaction(claim, 7):
        pass
    following.checkpoints.set_status(NAME, "failed", error="boom", position=8)
    known = registered(following, version=2, start=3)
    assert (known.version, known.position, known.status, known.error, known.owner) == (2, 3, "running", "", "")
    assert not following.checkpoints.renew(claim, LEASE)
    new = claimed(following, owner="bob")
    assert (new.version, new.position, new.anew) == (2, 3, True)


def test_an_earlier_version_begins_anew_too(following: Following) -> None:
    registered(following, version=2, start=9)
    assert registered(following, version=1, start=0).position == 0


def test_what_was_never_sent_back_is_not_begun_anew(following: Following) -> None:
    assert not claimed(following).anew


def test_it_is_begun_anew_until_something_commits(following: Following) -> None:
    claimed(following)
    following.checkpoints.reset(NAME)
    claim = claimed(following)
    assert claim.anew
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claim, 0):
        raise ZeroDivisionError
    claim = claimed(following)
    assert claim.anew
    with following.checkpoints.transaction(claim, 0):
        pass
    assert not claimed(following).anew


def test_subscriptions_are_listed_by_name(following: Following) -> None:
    for name in ("b", "a", "c.1", "B"):
        registered(following, name)
    assert [known.name for known in following.checkpoints.progress()] == ["B", "a", "b", "c.1"]


# ---- The lease.


def test_a_claim_says_where_to_go_on(following: Following) -> None:
    registered(following, start=12)
    claim = claimed(following)
    assert (claim.name, claim.position, claim.version) == (NAME, 12, 1)
    assert progress(following).owner == "ann"


def test_nobody_else_gets_it_while_the_lease_lives(following: Following, lease: SettableLease) -> None:
    claimed(following)
    lease.now += 10 * SECOND - 1
    assert following.checkpoints.claim(NAME, "bob", LEASE) is None
    assert progress(following).owner == "ann"


def test_anybody_gets_it_once_the_lease_has_ended(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 10 * SECOND
    assert progress(following).owner == ""
    taken = claimed(following, owner="bob")
    assert taken.epoch > claim.epoch
    assert progress(following).owner == "bob"


def test_its_owner_may_claim_it_again_under_a_new_epoch(following: Following) -> None:
    claim = claimed(following)
    again = claimed(following)
    assert again.epoch > claim.epoch
    assert not following.checkpoints.renew(claim, LEASE)


def test_a_lease_that_is_renewed_lives_on(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    for _ in range(3):
        lease.now += 9 * SECOND
        assert following.checkpoints.renew(claim, LEASE)
    assert following.checkpoints.claim(NAME, "bob", LEASE) is None


def test_a_lease_that_ended_unnoticed_may_still_be_renewed(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 60 * SECOND
    assert following.checkpoints.renew(claim, LEASE)
    assert following.checkpoints.claim(NAME, "bob", LEASE) is None


def test_a_lease_that_somebody_took_over_is_not_renewed(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 10 * SECOND
    taken = claimed(following, owner="bob")
    assert not following.checkpoints.renew(claim, LEASE)
    assert following.checkpoints.renew(taken, LEASE)


def test_it_is_free_once_its_owner_left(following: Following) -> None:
    following.checkpoints.leave(claimed(following))
    assert progress(following).owner == ""
    assert claimed(following, owner="bob").epoch > 0


def test_leaving_late_takes_nothing_from_the_new_owner(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 10 * SECOND
    claimed(following, owner="bob")
    following.checkpoints.leave(claim)
    assert following.checkpoints.claim(NAME, "carl", LEASE) is None


def test_a_restart_of_the_machine_ends_every_lease(following: Following, reboot: Callable[[], None]) -> None:
    claim = claimed(following)
    reboot()
    assert progress(following).owner == ""
    taken = claimed(following, owner="bob")
    assert following.checkpoints.claim(NAME, "carl", LEASE) is None
    assert not following.checkpoints.renew(claim, LEASE)
    assert following.checkpoints.renew(taken, LEASE)


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forward"])
def test_no_jump_of_the_wall_clock_ends_a_lease(following: Following, clock: SettableClock, jump: int) -> None:
    claim = claimed(following)
    clock.now += jump
    assert following.checkpoints.claim(NAME, "bob", LEASE) is None
    assert following.checkpoints.renew(claim, LEASE)


def test_of_many_who_claim_at_once_one_gets_it(following: Following) -> None:
    registered(following)
    start = Barrier(8)

    def claim(owner: str) -> bool:
        start.wait()
        return following.checkpoints.claim(NAME, owner, LEASE) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, "abcdefgh")) == [False] * 7 + [True]


def test_nobody_claims_what_is_not_there(following: Following) -> None:
    assert following.checkpoints.claim("nothing", "ann", LEASE) is None


# ---- Its status.


@pytest.mark.parametrize("status", ["paused", "failed", "stopped"])
def test_nobody_gets_what_does_not_run(following: Following, status: Status) -> None:
    claim = claimed(following)
    assert following.checkpoints.set_status(NAME, status, error="why", position=17)
    known = progress(following)
    assert (known.status, known.error, known.failed_position, known.owner) == (status, "why", 17, "")
    assert following.checkpoints.claim(NAME, "ann", LEASE) is None
    assert not following.checkpoints.renew(claim, LEASE)
    assert following.checkpoints.set_status(NAME, "running")
    known = progress(following)
    assert (known.status, known.error, known.failed_position) == ("running", "", 0)
    assert claimed(following).epoch > claim.epoch


def test_only_who_still_owns_it_says_that_it_failed(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 10 * SECOND
    claimed(following, owner="bob")
    assert not following.checkpoints.set_status(NAME, "failed", error="late news", epoch=claim.epoch)
    assert (progress(following).status, progress(following).owner) == ("running", "bob")


def test_there_is_no_status_of_what_is_not_there(following: Following) -> None:
    assert not following.checkpoints.set_status("nothing", "paused")


def test_it_is_sent_back_and_runs(following: Following) -> None:
    claim = claimed(following)
    with following.checkpoints.transaction(claim, 30):
        pass
    following.checkpoints.set_status(NAME, "failed", error="boom", position=31)
    following.checkpoints.reset(NAME, 20)
    known = progress(following)
    assert (known.position, known.status, known.error, known.failed_position) == (20, "running", "", 0)
    assert claimed(following, owner="bob").position == 20


def test_what_is_not_there_cannot_be_sent_back(following: Following) -> None:
    with pytest.raises(NotFound, match="nothing"):
        following.checkpoints.reset("nothing")


def test_another_handle_sees_the_same(following: Following, second: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    assert second.checkpoints.progress() == following.checkpoints.progress()
    assert second.checkpoints.claim(NAME, "bob", LEASE) is None
    lease.now += 10 * SECOND
    claimed(second, owner="bob")
    assert not following.checkpoints.renew(claim, LEASE)


def test_it_is_kept_when_everything_is_opened_again(
    following: Following, second: Following, opened: Callable[[], Following]
) -> None:
    with following.checkpoints.transaction(claimed(following), 5):
        pass
    before = following.checkpoints.progress()
    following.close()
    second.close()
    again = opened()
    assert again.checkpoints.progress() == before
    again.close()
