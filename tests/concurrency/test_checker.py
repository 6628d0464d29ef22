"""The checker finds every kind of breakage planted in a history that is otherwise fine, and nothing in the fine one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.concurrency.checker import Logged, Operation, Read, Tried, check

Run = tuple[list[Operation], list[Logged]]


def fine() -> Run:
    """Two streams; the append of `d` never heard back; `b` was refused once, came again and was asked for twice."""
    history: list[Operation] = [
        Read("x", 0, invoked=0, returned=5),
        Tried("a", "x", 0, "ok", invoked=10, returned=20, version=1, position=1),
        Tried("b", "y", 1, "conflict", invoked=10, returned=20, version=0),
        Tried("c", "y", None, "ok", invoked=15, returned=30, version=1, position=2),
        Read("y", 1, invoked=18, returned=25),
        Tried("b", "y", 1, "ok", invoked=40, returned=50, version=2, position=3),
        Tried("b", "y", 1, "ok", invoked=60, returned=70, version=2, position=3),
        Tried("d", "x", 1, "unknown", invoked=60, returned=65),
        Tried("e", "x", 1, "conflict", invoked=80, returned=90, version=2),
        Read("x", 2, invoked=100, returned=110),
        Tried("f", "x", None, "ok", invoked=120, returned=130, version=3, position=5),
    ]
    return history, [
        Logged(1, "x", 1, "a"),
        Logged(2, "y", 1, "c"),
        Logged(3, "y", 2, "b"),
        Logged(4, "x", 2, "d"),
        Logged(5, "x", 3, "f"),
    ]


def lost_append(run: Run) -> Run:
    history, log = run
    return history, log[:-1]


def moved_acknowledgement(run: Run) -> Run:
    history, log = run
    return [*history, Tried("a", "x", 0, "ok", 130, 140, version=1, position=2)], log


def swapped_positions(run: Run) -> Run:
    history, (first, *_, last) = run
    return history, [first, Logged(2, "x", 2, "d"), Logged(3, "y", 1, "c"), Logged(4, "y", 2, "b"), last]


def twice_in_the_log(run: Run) -> Run:
    history, log = run
    return history, [*log, Logged(6, "x", 4, "f")]


def hole_in_the_positions(run: Run) -> Run:
    history, log = run
    return history, [*log[:-1], Logged(6, "x", 3, "f")]


def hole_in_the_versions(run: Run) -> Run:
    history, log = run
    return history, [*log[:-1], Logged(5, "x", 4, "f")]


def append_of_nobody(run: Run) -> Run:
    history, log = run
    return history, [*log, Logged(6, "x", 4, "g")]


def conflict_that_stored(run: Run) -> Run:
    history, log = run
    return [*history, Tried("g", "x", 2, "conflict", 140, 150, version=3)], [*log, Logged(6, "x", 4, "g")]


def condition_overlooked(run: Run) -> Run:
    history, log = run
    return [*history, Tried("g", "x", 2, "ok", 140, 150, version=4, position=6)], [*log, Logged(6, "x", 4, "g")]


def retry_taken_for_new(run: Run) -> Run:
    history, log = run
    return [*history, Tried("b", "y", 1, "conflict", 140, 150, version=2)], log


def old_version_read(run: Run) -> Run:
    history, log = run
    return [*history, Read("y", 1, 140, 150)], log


def going_back_on_an_unknown_outcome(run: Run) -> Run:
    """`d` was never acknowledged, but `Read(x, 2)` saw it, so a later reader must."""
    history, log = run
    return [*history, Read("x", 1, 112, 115)], log


def version_read_before_it_was_written(run: Run) -> Run:
    history, log = run
    return [*history, Read("x", 3, 112, 115)], log


def version_read_that_never_was(run: Run) -> Run:
    history, log = run
    return [*history, Read("x", 4, 140, 150)], log


def conflict_without_reason(run: Run) -> Run:
    history, log = run
    return [*history, Tried("g", "x", 3, "conflict", 140, 150, version=3)], log


def conflict_with_an_invented_reason(run: Run) -> Run:
    history, log = run
    return [*history, Tried("g", "x", 3, "conflict", 140, 150, version=2)], log


def test_a_possible_history_passes() -> None:
    assert check(*fine()) == []


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (lost_append, "acknowledged append lost"),
        (moved_acknowledgement, "acknowledged at another place"),
        (swapped_positions, "real-time order violated"),
        (twice_in_the_log, "duplicate id"),
        (hole_in_the_positions, "positions not 1..n"),
        (hole_in_the_versions, "versions not contiguous"),
        (append_of_nobody, "event nobody appended"),
        (conflict_that_stored, "refused append stored"),
        (condition_overlooked, "condition broken"),
        (retry_taken_for_new, "retry refused"),
        (old_version_read, "stale read"),
        (going_back_on_an_unknown_outcome, "stale read"),
        (version_read_before_it_was_written, "future read"),
        (version_read_that_never_was, "future read"),
        (conflict_without_reason, "false conflict"),
        (conflict_with_an_invented_reason, "false conflict"),
    ],
)
def test_a_broken_history_is_named(break_it: Callable[[Run], Run], kind: str) -> None:
    assert kind in {violation.kind for violation in check(*break_it(fine()))}
