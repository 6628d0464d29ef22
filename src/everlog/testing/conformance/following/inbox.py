"""The inbox: one row for each event a consumer has taken in, in the transaction of the effect."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import pytest

from everlog.testing.conformance.following.words import NAME, Following, claimed


def _first(following: Following, consumer: str = NAME, incarnation: int = 1, position: int = 5, part: int = 0) -> bool:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        return following.desk.inbox.first(effects, consumer, incarnation, position, part)


def test_an_event_is_taken_in_once(following: Following) -> None:
    assert _first(following)
    assert not _first(following)


def test_consumers_incarnations_positions_and_parts_are_told_apart(following: Following) -> None:
    assert _first(following)
    assert _first(following, consumer="other")
    assert _first(following, incarnation=2)
    assert _first(following, position=6)
    assert _first(following, part=1)
    assert not _first(following)


def test_it_counts_as_taken_in_within_its_own_transaction(following: Following) -> None:
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        assert following.desk.inbox.first(effects, NAME, 1, 5, 0)
        assert not following.desk.inbox.first(effects, NAME, 1, 5, 0)


def test_an_event_whose_effect_was_rolled_back_is_not_taken_in(following: Following) -> None:
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claimed(following), 0) as effects:
        assert following.desk.inbox.first(effects, NAME, 1, 5, 0)
        raise ZeroDivisionError
    assert _first(following)
