"""A projection built beside the one of its name: numbers of its own, and a change of places in one transaction."""

import pytest

from everlog.core.envelope import FoldKey, FoldState
from everlog.core.errors import Fenced, InvalidInput, NotFound
from everlog.subscription.contract import Claim, Effects, Progress
from everlog.testing.conformance.events import SettableClock
from everlog.testing.conformance.following.words import LEASE, Following

_SERVING, _BUILT, _KEPT = "revenue", "revenue+", "revenue-"
_KEY = FoldKey("acme", "k")


def _registered(following: Following, name: str, version: int = 1, parts: int = 1) -> list[Progress]:
    following.checkpoints.register(name, "projection", version, 0, parts=parts)
    return _of(following, name)


def _of(following: Following, name: str) -> list[Progress]:
    return [one for one in following.checkpoints.progress() if one.subscription == name]


def _moved(following: Following, partition: str, position: int, state: bytes = b"") -> Claim:
    claim = following.checkpoints.claim(partition, "ann", LEASE)
    assert claim is not None
    with following.checkpoints.transaction(claim, position) as effects:
        if state:
            following.fold_states.store(effects, _SERVING, claim.build, [FoldState(*_KEY, state, position)])
    return claim


def _state(following: Following, build: int) -> bytes | None:
    found = following.fold_states.load(_SERVING, build, [_KEY]).get(_KEY)
    return None if found is None else found.state


def test_each_build_has_a_number_of_its_own(following: Following) -> None:
    builds = [_registered(following, name)[0].build for name in (_SERVING, _BUILT, _KEPT, "other")]
    assert builds == [1, 2, 3, 1]
    following.checkpoints.forget(_BUILT)
    assert _registered(following, _BUILT)[0].build == 4


def test_what_one_build_keeps_no_other_sees(following: Following) -> None:
    for name, state in ((_SERVING, b"1"), (_BUILT, b"2")):
        _registered(following, name)
        claim = _moved(following, name, 5, state)
        assert _state(following, claim.build) == state
    assert _state(following, 1) == b"1"


@pytest.mark.parametrize("parts", [1, 3])
def test_two_change_places_with_all_they_have(following: Following, parts: int) -> None:
    old, new = _registered(following, _SERVING, 1, parts), _registered(following, _BUILT, 2, parts)
    claims = [_moved(following, one.name, 7) for one in (*old, *new)]
    assert following.checkpoints.exchange(_SERVING, _BUILT)
    for name, version, build in ((_SERVING, 2, 2), (_BUILT, 1, 1)):
        found = _of(following, name)
        assert [(one.version, one.build, one.position, one.owner, one.part) for one in found] == [
            (version, build, 7, "", part) for part in range(parts)
        ]
    for claim in claims:
        assert following.checkpoints.renew(claim, LEASE) is None
        with pytest.raises(Fenced), following.checkpoints.transaction(claim, 8):
            pass
    assert following.checkpoints.exchange(_SERVING, _BUILT)
    assert [one.name for one in _of(following, _SERVING)] == [one.name for one in old]


@pytest.mark.parametrize("claims", [(1, 2), (2, 1), (3, 2), (1, 5)], ids=str)
def test_no_owner_of_before_finds_its_epoch_under_its_name_again(following: Following, claims: tuple[int, int]) -> None:
    held: list[Claim] = []
    for name, times in zip((_SERVING, _BUILT), claims, strict=True):
        following.checkpoints.register(name, "projection", 1, 0)
        for _ in range(times):
            claim = following.checkpoints.claim(name, "ann", LEASE)
            assert claim is not None
            held.append(claim)
    assert following.checkpoints.exchange(_SERVING, _BUILT)
    for claim in held:
        assert following.checkpoints.renew(claim, LEASE) is None


def test_a_row_that_is_made_again_fits_no_earlier_claim(following: Following, clock: SettableClock) -> None:
    _registered(following, _BUILT)
    claim = _moved(following, _BUILT, 5)
    following.checkpoints.forget(_BUILT)
    clock.now += 1_000
    _registered(following, _BUILT)
    assert following.checkpoints.claim(_BUILT, "bob", LEASE) is not None
    assert following.checkpoints.renew(claim, LEASE) is None


def test_a_build_has_no_number_of_an_inline_projection_of_its_name(following: Following) -> None:
    following.checkpoints.register("other", "projection", 1, 0)
    claim = following.checkpoints.claim("other", "ann", LEASE)
    assert claim is not None
    with following.checkpoints.transaction(claim, 1) as effects:
        following.fold_states.store(effects, _SERVING, 3, [FoldState(*_KEY, b"1", 1)])
    assert _registered(following, _SERVING)[0].build == 4


def test_what_had_the_name_gets_the_one_it_is_to_be_kept_under(following: Following) -> None:
    for name in (_SERVING, _BUILT):
        _registered(following, name, parts=2)
    assert following.checkpoints.exchange(_SERVING, _BUILT, _KEPT)
    assert [(one.name, one.build) for one in following.checkpoints.progress()] == [
        ("revenue/0of2", 2), ("revenue/1of2", 2), ("revenue-/0of2", 1), ("revenue-/1of2", 1),
    ]  # fmt: skip


def test_nothing_takes_the_place_of_what_is_further(following: Following) -> None:
    old, new = _registered(following, _SERVING, 1, 2), _registered(following, _BUILT, 2, 2)
    for one, position in zip((*old, *new), (7, 9, 9, 8), strict=True):
        _moved(following, one.name, position)
    before = following.checkpoints.progress()
    assert not following.checkpoints.exchange(_SERVING, _BUILT, within=_never)
    assert following.checkpoints.progress() == before
    _moved(following, new[1].name, 9)
    assert following.checkpoints.exchange(_SERVING, _BUILT)


def test_of_two_that_are_divided_differently_the_new_one_must_be_as_far_everywhere(following: Following) -> None:
    old, new = _registered(following, _SERVING, 1, 2), _registered(following, _BUILT)
    for one, position in zip((*old, *new), (7, 9, 8), strict=True):
        _moved(following, one.name, position)
    assert not following.checkpoints.exchange(_SERVING, _BUILT)
    _moved(following, new[0].name, 9)
    assert following.checkpoints.exchange(_SERVING, _BUILT)
    assert [one.name for one in _of(following, _SERVING)] == [_SERVING]
    assert [one.name for one in _of(following, _BUILT)] == [f"{_BUILT}/0of2", f"{_BUILT}/1of2"]


def test_what_is_done_within_happens_with_the_change_or_not_at_all(following: Following) -> None:
    for name in (_SERVING, _BUILT):
        _registered(following, name)

    def store(effects: Effects) -> None:
        following.fold_states.store(effects, _SERVING, 9, [FoldState(*_KEY, b"9", 1)])

    def fail(effects: Effects) -> None:
        store(effects)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        following.checkpoints.exchange(_SERVING, _BUILT, within=fail)
    assert (_state(following, 9), _of(following, _SERVING)[0].build) == (None, 1)
    assert following.checkpoints.exchange(_SERVING, _BUILT, within=store)
    assert (_state(following, 9), _of(following, _SERVING)[0].build) == (b"9", 2)


def test_both_must_be_there_and_neither_being_divided(following: Following) -> None:
    _registered(following, _SERVING)
    with pytest.raises(NotFound, match="revenue\\+"):
        following.checkpoints.exchange(_SERVING, _BUILT)
    with pytest.raises(NotFound, match="nothing"):
        following.checkpoints.exchange("nothing", _SERVING)
    _registered(following, _BUILT)
    following.checkpoints.divide(_BUILT, 2)
    with pytest.raises(InvalidInput, match="being divided"):
        following.checkpoints.exchange(_SERVING, _BUILT)


def test_a_build_that_is_forgotten_takes_along_what_it_kept(following: Following) -> None:
    for name, state in ((_SERVING, b"1"), (_BUILT, b"2")):
        _registered(following, name)
        claim = _moved(following, name, 5, state)

    def clear(effects: Effects, build: int) -> None:
        following.fold_states.clear(effects, _SERVING, build)

    following.checkpoints.forget(_BUILT, clear)
    assert (_state(following, 1), _state(following, 2), _of(following, _BUILT)) == (b"1", None, [])
    with pytest.raises(Fenced), following.checkpoints.transaction(claim, 6):
        pass
    following.checkpoints.forget(_BUILT, _never_either)


def test_the_build_of_a_version_is_that_of_the_first_of_the_names_that_has_it(following: Following) -> None:
    for name, version in ((_SERVING, 2), (_KEPT, 1), (_BUILT, 2)):
        _registered(following, name, version)
    build = following.checkpoints.build
    assert [build((_SERVING, _KEPT), version) for version in (2, 1, 3)] == [1, 2, None]
    assert build((_BUILT, _SERVING), 2) == 3
    assert build(("nothing",), 1) is None


def _never(effects: Effects) -> None:
    raise AssertionError


def _never_either(effects: Effects, build: int) -> None:
    raise AssertionError
