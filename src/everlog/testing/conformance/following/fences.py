"""Effect, checkpoint and fence commit together: all of it or nothing, and nothing from who does not own it any more."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import pytest

from everlog.core.envelope import FoldKey, FoldState
from everlog.core.errors import Fenced
from everlog.subscription.contract import Effects
from everlog.testing.conformance.events import SettableClock
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

_KEY = FoldKey("acme", "k")


def _effect(following: Following, effects: Effects, state: bytes = b"1") -> None:
    following.fold_states.store(effects, NAME, 1, [FoldState(*_KEY, state, 1)])


def _effects(following: Following) -> bytes | None:
    found = following.fold_states.load(NAME, 1, [_KEY]).get(_KEY)
    return None if found is None else found.state


def test_effect_and_checkpoint_are_there_together(following: Following, clock: SettableClock) -> None:
    claim = claimed(following)
    clock.now += 5
    with following.checkpoints.transaction(claim, 7) as effects:
        _effect(following, effects)
        assert (_effects(following), progress(following).position) == (None, 0)
    assert (_effects(following), progress(following).position) == (b"1", 7)
    assert progress(following).moved_at == clock.now


def test_neither_is_there_when_the_block_raises(following: Following) -> None:
    claim = claimed(following)
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claim, 7) as effects:
        _effect(following, effects)
        raise ZeroDivisionError
    assert (_effects(following), progress(following).position) == (None, 0)
    with following.checkpoints.transaction(claim, 7) as effects:
        _effect(following, effects)
    assert (_effects(following), progress(following).position) == (b"1", 7)


def test_rows_of_the_users_own_commit_with_the_checkpoint(following: Following) -> None:
    claim = claimed(following)
    with following.checkpoints.transaction(claim, 1) as effects:
        assert effects.execute("CREATE TABLE seat (name VARCHAR(20) PRIMARY KEY)") == []
        effects.execute("INSERT INTO seat VALUES ('A1')")
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claim, 2) as effects:
        effects.execute("INSERT INTO seat VALUES ('A2')")
        raise ZeroDivisionError
    with following.checkpoints.transaction(claim, 2) as effects:
        assert effects.execute("SELECT name FROM seat") == [("A1",)]


def test_an_error_of_the_users_own_statement_is_not_ours(following: Following) -> None:
    """It says what is wrong in the driver's words, and nothing of the block stays."""
    claim = claimed(following)
    with pytest.raises(Exception, match="no_such_table") as caught, following.checkpoints.transaction(claim, 7) as tx:
        _effect(following, tx)
        tx.execute("SELECT * FROM no_such_table")
    assert not caught.type.__module__.startswith("everlog")
    assert (_effects(following), progress(following).position) == (None, 0)


def test_an_owner_that_was_replaced_keeps_nothing(following: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 10 * SECOND
    taken = claimed(following, owner="bob")
    ran = False
    with pytest.raises(Fenced, match=NAME) as caught, following.checkpoints.transaction(claim, 7) as effects:
        ran = True
        _effect(following, effects)
    assert (caught.value.name, caught.value.epoch) == (NAME, claim.epoch)
    assert (ran, _effects(following), progress(following).position) == (False, None, 0)
    with following.checkpoints.transaction(taken, 7) as effects:
        _effect(following, effects)
    assert (_effects(following), progress(following).position) == (b"1", 7)


def test_an_owner_whose_lease_ended_unnoticed_may_still_commit(following: Following, lease: SettableLease) -> None:
    """The fence is the epoch: as long as nobody took over, nothing is lost by being late."""
    claim = claimed(following)
    lease.now += 60 * SECOND
    with following.checkpoints.transaction(claim, 7):
        pass
    assert progress(following).position == 7


def test_an_owner_that_left_keeps_nothing_once_another_came(following: Following) -> None:
    claim = claimed(following)
    following.checkpoints.leave(claim)
    claimed(following, owner="bob")
    with pytest.raises(Fenced), following.checkpoints.transaction(claim, 7):
        pass


@pytest.mark.parametrize("act", ["pause", "reset", "another version", "claim again"])
def test_what_a_person_does_fences_the_owner(following: Following, act: str) -> None:
    claim = claimed(following)
    with following.checkpoints.transaction(claim, 3):
        pass
    match act:
        case "pause":
            following.checkpoints.set_status(NAME, "paused")
        case "reset":
            following.checkpoints.reset(NAME, 1)
        case "another version":
            registered(following, version=2)
        case _:
            claimed(following)
    at = progress(following).position
    with pytest.raises(Fenced), following.checkpoints.transaction(claim, 7) as effects:
        _effect(following, effects)
    assert (_effects(following), progress(following).position) == (None, at)


def test_a_checkpoint_never_goes_back(following: Following) -> None:
    claim = claimed(following)
    with following.checkpoints.transaction(claim, 7):
        pass
    with following.checkpoints.transaction(claim, 7) as effects:
        _effect(following, effects)
    with pytest.raises(Fenced), following.checkpoints.transaction(claim, 6) as effects:
        _effect(following, effects, b"2")
    assert (_effects(following), progress(following).position) == (b"1", 7)


def test_an_owner_goes_back_unless_another_has_come(following: Following) -> None:
    stale = claimed(following)
    with following.checkpoints.transaction(stale, 7):
        pass
    following.checkpoints.leave(stale)
    claim = claimed(following, owner="bob")
    with pytest.raises(Fenced):
        following.checkpoints.go_back(stale, 2)
    assert progress(following).position == 7
    following.checkpoints.go_back(claim, 3)
    with pytest.raises(Fenced), following.checkpoints.transaction(claim, 8):
        pass
    assert (progress(following).position, progress(following).owner) == (3, "")
    assert claimed(following).position == 3


def test_two_subscriptions_do_not_fence_each_other(following: Following) -> None:
    one, two = claimed(following), claimed(following, "other", "bob")
    claimed(following, "other", "bob")
    with following.checkpoints.transaction(one, 7):
        pass
    with pytest.raises(Fenced), following.checkpoints.transaction(two, 7):
        pass
    assert (progress(following).position, progress(following, "other").position) == (7, 0)


def test_another_handle_is_fenced_too(following: Following, second: Following, lease: SettableLease) -> None:
    claim = claimed(following)
    lease.now += 10 * SECOND
    taken = second.checkpoints.claim(NAME, "bob", LEASE)
    assert taken is not None
    with second.checkpoints.transaction(taken, 4) as effects:
        _effect(second, effects, b"bob")
    with pytest.raises(Fenced), following.checkpoints.transaction(claim, 9) as effects:
        _effect(following, effects, b"ann")
    assert (_effects(following), progress(second).position) == (b"bob", 4)
