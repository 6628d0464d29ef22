"""States of folds read together with how far the fold is, and changed one by one."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

from collections.abc import Iterable

import pytest

from everlog.core.envelope import FoldKey, FoldState
from everlog.core.errors import NotFound, StoreUnavailable
from everlog.projection.contract import AT_ONCE, Mended
from everlog.subscription.contract import Effects
from everlog.testing.conformance.verifying.words import LEASE, NAME, Place, moving, owned


def _keep(place: Place, states: Iterable[FoldState], at: int, *, version: int = 1) -> None:
    with place.checkpoints.transaction(owned(place.checkpoints), at) as effects:
        place.fold_states.store(effects, NAME, version, states)


def test_states_come_with_how_far_the_projection_was(place: Place) -> None:
    odd = FoldState("acme", "ünï/çode %_'\"\0", b'\x00\xff{"any": "bytes"}', 2**53 + 1)
    _keep(place, [odd, FoldState("acme", "b", b"2", 3)], 7)
    key = FoldKey("acme", odd.key)
    pin, states = place.fold_states.pinned(NAME, 1, [key, FoldKey("acme", "nothing"), FoldKey("acme-2", "b")])
    assert states == {key: odd}
    assert (pin.last, pin.parts, pin.build, pin.position_of("acme/b")) == (7, 1, 1, 7)
    pin.check(NAME, 1)


def test_states_and_checkpoint_are_of_one_moment(place: Place) -> None:
    key, seen = FoldKey("acme", "k"), set[int]()

    def count(effects: Effects, position: int) -> None:
        place.fold_states.store(effects, NAME, 1, [FoldState(*key, b"%d" % position, position)])

    with moving(place.checkpoints, count):
        while len(seen) < 20:
            pin, states = place.fold_states.pinned(NAME, 1, [key])
            assert pin.last == (int(states[key].state) if states else 0)
            seen.add(pin.last)


def test_how_far_it_is_is_told_where_no_state_is_found(place: Place) -> None:
    _keep(place, [], 4)
    for keys in ([], [FoldKey("acme", "k")]):
        pin, states = place.fold_states.pinned(NAME, 1, keys)
        assert (pin.last, states) == (4, {})


def test_what_never_ran_is_not_found(place: Place) -> None:
    with pytest.raises(NotFound, match=r"'revenue' never ran"):
        place.fold_states.pinned(NAME, 1, [])
    with pytest.raises(NotFound, match=r"'revenue' is not in force"):
        place.fold_states.pinned(NAME, 1, [], inline=True)


def test_as_many_as_may_be_asked_for_are_found(place: Place) -> None:
    keys = [FoldKey("acme", f"k{number:04}") for number in range(AT_ONCE)]
    _keep(place, [FoldState(*key, b"1", 1) for key in keys], 1)
    assert set(place.fold_states.pinned(NAME, 1, keys).states) == set(keys)


def test_every_partition_tells_how_far_it_is(place: Place) -> None:
    place.checkpoints.register(NAME, "projection", 1, 0, parts=3)
    for part, known in enumerate(place.checkpoints.progress()):
        claim = place.checkpoints.claim(known.name, "ann", LEASE)
        assert claim is not None
        with place.checkpoints.transaction(claim, 10 * (part + 1)):
            pass
    pin = place.fold_states.pinned(NAME, 1, []).pin
    assert (pin.parts, pin.last) == (3, 30)
    assert {pin.position_of(f"acme/{number}") for number in range(50)} == {10, 20, 30}


@pytest.mark.parametrize("act", ["another version", "sent back", "divided"])
def test_rows_that_cannot_be_compared_are_told(place: Place, act: str) -> None:
    _keep(place, [], 4)
    match act:
        case "another version":
            place.checkpoints.register(NAME, "projection", 2, 0)
        case "sent back":
            place.checkpoints.reset(NAME)
        case _:
            place.checkpoints.divide(NAME, 2)
    with pytest.raises(StoreUnavailable, match=NAME):
        place.fold_states.pinned(NAME, 1, []).pin.check(NAME, 1)


def test_keys_are_listed_as_states_are(place: Place) -> None:
    keys = [FoldKey(tenant, f"k{number:05}") for tenant in ("b", "a", "B") for number in range(600)]
    _keep(place, [FoldState(*key, b"1", 1) for key in reversed(keys)], 1)
    listed = list(place.fold_states.keys(NAME, 1, None))
    assert listed == [FoldKey(state.tenant, state.key) for state in place.fold_states.all(NAME, 1, None)]
    assert len(listed) == len(keys)
    assert [key.key for key in place.fold_states.keys(NAME, 1, "a")] == [f"k{number:05}" for number in range(600)]
    assert list(place.fold_states.keys(NAME, 2, None)) == []


def test_some_states_are_deleted(place: Place) -> None:
    _keep(place, [FoldState(tenant, key, b"1", 1) for tenant in ("acme", "acme-2") for key in "ab"], 1)
    _keep(place, [FoldState("acme", "a", b"1", 1)], 1, version=2)
    with place.checkpoints.transaction(owned(place.checkpoints), 1) as effects:
        place.fold_states.delete(effects, NAME, 1, [FoldKey("acme", "a"), FoldKey("acme", "nothing")])
        place.fold_states.delete(effects, NAME, 1, [])
    assert list(place.fold_states.keys(NAME, 1, None)) == [("acme", "b"), ("acme-2", "a"), ("acme-2", "b")]
    assert len(list(place.fold_states.keys(NAME, 2, None))) == 1


def test_what_was_deleted_is_back_when_the_block_raises(place: Place) -> None:
    _keep(place, [FoldState("acme", "a", b"1", 1)], 1)
    with pytest.raises(ZeroDivisionError), place.checkpoints.transaction(owned(place.checkpoints), 1) as effects:
        place.fold_states.delete(effects, NAME, 1, [FoldKey("acme", "a")])
        raise ZeroDivisionError
    assert len(list(place.fold_states.keys(NAME, 1, None))) == 1


def test_inline_states_are_mended_at_the_head_or_not_at_all(place: Place) -> None:
    _keep(place, [FoldState("acme", "a", b"1", 1), FoldState("acme", "b", b"1", 1)], 1)
    heads: list[int] = []

    def mend(position: int) -> Mended:
        heads.append(position)
        return Mended([FoldState("acme", "a", b"2", 1)], [FoldKey("acme", "b")])

    def fail(position: int) -> Mended:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.fold_states.mend_inline(NAME, 1, fail)
    assert len(list(place.fold_states.keys(NAME, 1, None))) == 2
    place.fold_states.mend_inline(NAME, 1, mend)
    assert (heads, list(place.fold_states.all(NAME, 1, None))) == ([0], [FoldState("acme", "a", b"2", 1)])
