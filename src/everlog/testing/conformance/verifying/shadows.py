"""Shadows: places beside the log's own tables, where a projection is run once more without anybody noticing."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from everlog.core.errors import Misconfigured
from everlog.projection.contract import Shadow
from everlog.testing.conformance.verifying.words import Place, owned, run

SEAT = "CREATE TABLE IF NOT EXISTS seat (name VARCHAR(20) PRIMARY KEY)"
INDEX = "CREATE INDEX IF NOT EXISTS seat_name ON seat (name)"


@contextmanager
def shadow(place: Place, name: str = "a.b-1") -> Iterator[Shadow]:
    opened = place.shadows.open(name, fresh=True)
    yield opened
    opened.drop()


def _seats(place: Place | Shadow) -> list[Any]:
    shape = place.tables.shape("seat")
    assert shape is not None
    return [row.values[0] for row in place.tables.page(shape, None, None, 100)]


def test_what_runs_in_a_shadow_is_seen_only_there(place: Place) -> None:
    run(place.checkpoints, SEAT, INDEX, "INSERT INTO seat VALUES ('A1')", at=3)
    with shadow(place) as beside:
        assert beside.tables.shape("seat") is None
        run(beside.checkpoints, SEAT, INDEX, "INSERT INTO seat VALUES ('B1')", at=9)
        run(beside.checkpoints, SEAT, INDEX, "UPDATE seat SET name = 'B2'", at=9)
        assert (_seats(place), _seats(beside)) == (["A1"], ["B2"])
        assert [known.position for known in place.checkpoints.progress()] == [3]
        assert [known.position for known in beside.checkpoints.progress()] == [9]
    assert _seats(place) == ["A1"]


def test_what_a_shadow_does_not_have_is_read_where_it_always_is(place: Place) -> None:
    run(place.checkpoints, "CREATE TABLE price (cents INTEGER)", "INSERT INTO price VALUES (7)")
    with shadow(place) as beside:
        assert run(beside.checkpoints, "SELECT cents FROM price") == [(7,)]


@pytest.mark.parametrize(
    "statement", ["INSERT INTO price VALUES (8)", "UPDATE price SET cents = 8", "DELETE FROM price"]
)
def test_what_it_writes_elsewhere_is_refused(place: Place, statement: str) -> None:
    run(place.checkpoints, "CREATE TABLE price (cents INTEGER)", "INSERT INTO price VALUES (7)")
    with shadow(place) as beside:
        run(beside.checkpoints, SEAT)
        with pytest.raises(Misconfigured, match="which its setup does not make"):
            run(beside.checkpoints, "INSERT INTO seat VALUES ('A1')", statement)
        assert _seats(beside) == []
        run(beside.checkpoints, "INSERT INTO seat VALUES ('A1')")
        assert _seats(beside) == ["A1"]
    assert run(place.checkpoints, "SELECT cents FROM price") == [(7,)]


def test_nothing_stays_of_a_block_that_raises(place: Place) -> None:
    with shadow(place) as beside:
        run(beside.checkpoints, SEAT)
        with pytest.raises(ZeroDivisionError), beside.checkpoints.transaction(owned(beside.checkpoints), 4) as effects:
            effects.execute("INSERT INTO seat VALUES ('A1')")
            raise ZeroDivisionError
        assert (_seats(beside), beside.checkpoints.progress()[0].position) == ([], 0)


def test_a_shadow_is_found_again_or_made_anew(place: Place) -> None:
    first = place.shadows.open("one")
    run(first.checkpoints, SEAT, "INSERT INTO seat VALUES ('A1')", at=4)
    first.close()
    again = place.shadows.open("one")
    assert (_seats(again), again.checkpoints.progress()[0].position) == (["A1"], 4)
    again.close()
    anew = place.shadows.open("one", fresh=True)
    assert (anew.tables.shape("seat"), anew.checkpoints.progress()) == (None, [])
    anew.drop()


def test_shadows_are_told_by_their_names(place: Place) -> None:
    assert place.shadows.names() == []
    opened = [place.shadows.open(name) for name in ("b", "a", "a.1-x")]
    run(opened[0].checkpoints, SEAT)
    assert opened[1].tables.shape("seat") is None
    assert place.shadows.names() == ["a", "a.1-x", "b"]
    for one in opened:
        one.drop()
    assert place.shadows.names() == []


def test_tables_change_places(place: Place) -> None:
    run(place.checkpoints, SEAT, INDEX, "INSERT INTO seat VALUES ('old')", at=3)
    beside = place.shadows.open("next")
    run(
        beside.checkpoints,
        SEAT,
        "ALTER TABLE seat ADD COLUMN guest TEXT",
        INDEX,
        "INSERT INTO seat VALUES ('new', 'ann')",
    )
    for values, other in ((("new", "ann"), ("old",)), (("old",), ("new", "ann"))):
        claim = owned(place.checkpoints)
        with place.checkpoints.transaction(claim, 3) as effects:
            place.shadows.swap(effects, "next", ["seat"], claim.name)
        for where, expected in ((place, values), (beside, other)):
            shape = where.tables.shape("seat")
            assert shape is not None
            assert [row.values for row in where.tables.page(shape, None, None, 9)] == [expected]
        assert [(one.name, one.position) for one in beside.checkpoints.progress()] == [(claim.name, 3)]
    run(place.checkpoints, INDEX, "INSERT INTO seat VALUES ('more')", at=3)
    beside.drop()
    assert _seats(place) == ["more", "old"]


def test_a_change_of_places_that_fails_leaves_the_log_as_it_was(place: Place) -> None:
    run(place.checkpoints, SEAT, INDEX, "INSERT INTO seat VALUES ('old')")
    beside = place.shadows.open("next")
    run(beside.checkpoints, SEAT, INDEX, "INSERT INTO seat VALUES ('new')")
    with pytest.raises(ZeroDivisionError), place.checkpoints.transaction(owned(place.checkpoints), 0) as effects:
        place.shadows.swap(effects, "next", ["seat"], "kept")
        raise ZeroDivisionError
    assert _seats(place) == ["old"]
    run(place.checkpoints, INDEX, "INSERT INTO seat VALUES ('more')")
    beside.drop()
