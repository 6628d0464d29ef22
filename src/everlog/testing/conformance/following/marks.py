"""What a handler was about to do, committed before it does it."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import pytest

from everlog.testing.conformance.following.words import NAME, Following, claimed


def _attempt(following: Following, position: int, name: str = NAME) -> int:
    with following.checkpoints.transaction(claimed(following, name), 0) as effects:
        return following.desk.marks.attempt(effects, name, position)


def _mark(following: Following, upto: int, name: str = NAME) -> None:
    with following.checkpoints.transaction(claimed(following, name), 0) as effects:
        following.desk.marks.mark(effects, name, upto)


def test_nothing_is_marked_at_first(following: Following) -> None:
    assert following.desk.marks.marked(NAME) == 0


def test_the_last_mark_counts_whichever_way_it_went(following: Following) -> None:
    _mark(following, 100)
    _mark(following, 40)
    _mark(following, 7, "other")
    assert (following.desk.marks.marked(NAME), following.desk.marks.marked("other")) == (40, 7)


def test_attempts_are_counted_for_each_event(following: Following) -> None:
    _mark(following, 9)
    assert [_attempt(following, 3), _attempt(following, 3), _attempt(following, 4), _attempt(following, 3)] == [
        1,
        2,
        1,
        3,
    ]
    assert _attempt(following, 3, "other") == 1
    assert following.desk.marks.marked(NAME) == 9


def test_attempts_up_to_a_checkpoint_are_forgotten_and_the_mark_stays(following: Following) -> None:
    _mark(following, 9)
    for position in (3, 4, 5):
        _attempt(following, position)
    _attempt(following, 3, "other")
    with following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.marks.clear(effects, NAME, 4)
    assert [_attempt(following, position) for position in (3, 4, 5)] == [1, 1, 2]
    assert _attempt(following, 3, "other") == 2
    assert following.desk.marks.marked(NAME) == 9


def test_what_a_block_that_raises_marked_is_forgotten(following: Following) -> None:
    _mark(following, 1)
    with pytest.raises(ZeroDivisionError), following.checkpoints.transaction(claimed(following), 0) as effects:
        following.desk.marks.mark(effects, NAME, 9)
        following.desk.marks.attempt(effects, NAME, 5)
        raise ZeroDivisionError
    assert following.desk.marks.marked(NAME) == 1
    assert _attempt(following, 5) == 1


def test_another_handle_sees_the_marks(following: Following, second: Following) -> None:
    _mark(following, 12)
    assert second.desk.marks.marked(NAME) == 12
