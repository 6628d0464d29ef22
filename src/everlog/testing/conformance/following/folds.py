"""States of folds: by projection, version, tenant and key; read one by one or listed."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

from collections.abc import Iterable

import pytest

from everlog.core.envelope import FoldKey, FoldState
from everlog.testing.conformance.following.words import Following, claimed

NAME = "revenue"


def _state(key: str, state: bytes = b"1", *, tenant: str = "acme", position: int = 1) -> FoldState:
    return FoldState(tenant, key, state, position)


def _keep(following: Following, states: Iterable[FoldState], *, name: str = NAME, version: int = 1) -> None:
    with following.checkpoints.transaction(claimed(following, name), 1) as effects:
        following.fold_states.store(effects, name, version, states)


def _all(following: Following, tenant: str | None = None, *, version: int = 1) -> list[FoldState]:
    return list(following.fold_states.all(NAME, version, tenant))


def test_a_state_comes_back_as_it_was_stored(following: Following) -> None:
    kept = FoldState("acme", "ünï/çode %_'\"\0", b'\x00\xff{"any": "bytes"}', 2**53 + 1)
    _keep(following, [kept])
    key = FoldKey("acme", kept.key)
    assert following.fold_states.load(NAME, 1, [key, FoldKey("acme", "other")]) == {key: kept}
    assert _all(following) == [kept]


def test_nothing_is_found_of_what_was_not_stored(following: Following) -> None:
    _keep(following, [])
    assert following.fold_states.load(NAME, 1, []) == {}
    assert following.fold_states.load(NAME, 1, [FoldKey("acme", "k")]) == {}
    assert _all(following) == []


def test_the_last_state_of_a_key_counts(following: Following) -> None:
    _keep(following, [_state("k", b"old", position=3)])
    _keep(following, [_state("k", b"new", position=9)])
    assert _all(following) == [_state("k", b"new", position=9)]


def test_projections_versions_and_tenants_are_kept_apart(following: Following) -> None:
    _keep(following, [_state("k", b"mine"), _state("k", b"theirs", tenant="acme-2")])
    _keep(following, [_state("k", b"next")], version=2)
    _keep(following, [_state("k", b"other")], name="revenue.2")
    found = following.fold_states.load(NAME, 1, [FoldKey("acme", "k"), FoldKey("acme-2", "k"), FoldKey("acm", "k")])
    assert {key.tenant: state.state for key, state in found.items()} == {"acme": b"mine", "acme-2": b"theirs"}
    assert [state.state for state in _all(following, version=2)] == [b"next"]
    assert [state.state for state in _all(following, "acme-2")] == [b"theirs"]
    assert _all(following, "nobody") == []


def test_any_number_of_states_is_stored_found_and_listed_in_order(following: Following) -> None:
    keys = [f"k{number:05}" for number in range(1300)]
    _keep(following, [_state(key, tenant=tenant) for key in reversed(keys) for tenant in ("b", "a", "B")])
    assert [(state.tenant, state.key) for state in _all(following)] == [(t, k) for t in ("B", "a", "b") for k in keys]
    assert [state.key for state in _all(following, "a")] == keys
    wanted = [FoldKey("a", key) for key in keys]
    assert set(following.fold_states.load(NAME, 1, wanted)) == set(wanted)


def test_a_list_that_is_being_read_holds_up_no_writer(following: Following) -> None:
    _keep(following, [_state(f"k{number:05}") for number in range(600)])
    reading = following.fold_states.all(NAME, 1, None)
    assert next(reading).key == "k00000"
    _keep(following, [_state("k00300", b"changed"), _state("k00599", b"changed")])
    assert len(list(reading)) == 599


def test_one_version_is_cleared(following: Following) -> None:
    for version in (1, 2, 3):
        _keep(following, [_state("k")], version=version)
    _keep(following, [_state("k")], name="other")
    with following.checkpoints.transaction(claimed(following, NAME), 1) as effects:
        following.fold_states.clear(effects, NAME, 2)
    assert [len(_all(following, version=version)) for version in (1, 2, 3)] == [1, 0, 1]
    assert len(list(following.fold_states.all("other", 1, None))) == 1


def test_what_was_cleared_is_back_when_the_block_raises(following: Following) -> None:
    _keep(following, [_state("k")])
    with (
        pytest.raises(ZeroDivisionError),
        following.checkpoints.transaction(claimed(following, NAME), 1) as effects,
    ):
        following.fold_states.clear(effects, NAME, 1)
        raise ZeroDivisionError
    assert len(_all(following)) == 1
