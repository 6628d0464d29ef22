"""Tables of projections: what their rows are told apart by, read in order with how far the projection is, mended."""

from contextlib import suppress

import pytest

from everlog.core.errors import NotFound
from everlog.projection.contract import TableRow, TableShape
from everlog.subscription.contract import Effects
from everlog.testing.conformance.verifying.words import NAME, Place, moving, owned, run

SEAT = "CREATE TABLE seat (room TEXT, row_no INTEGER, guest TEXT, PRIMARY KEY (row_no, room))"
NOTE = "CREATE TABLE note (text TEXT, stars INTEGER)"


def _shape(place: Place, table: str) -> TableShape:
    shape = place.tables.shape(table)
    assert shape is not None
    return shape


def _rows(place: Place, table: str) -> list[TableRow]:
    return place.tables.pinned(NAME, _shape(place, table), None, 1000)[1]


def test_a_table_is_told_by_its_columns_and_its_key(place: Place) -> None:
    run(place.checkpoints, SEAT, NOTE)
    seat, note = _shape(place, "seat"), _shape(place, "note")
    assert (seat.columns, seat.key, seat.written) == (("room", "row_no", "guest"), ("row_no", "room"), seat.columns)
    assert (note.columns, note.key) == (("text", "stars"), ())
    assert place.tables.shape("nothing") is None


def test_what_the_database_computes_is_compared_and_not_written(place: Place) -> None:
    run(
        place.checkpoints,
        "CREATE TABLE sale (id TEXT PRIMARY KEY, n INTEGER, twice INTEGER GENERATED ALWAYS AS (n * 2) STORED)",
        "INSERT INTO sale (id, n) VALUES ('a', 4)",
    )
    shape = _shape(place, "sale")
    assert (shape.columns, shape.written) == (("id", "n", "twice"), ("id", "n"))
    assert _rows(place, "sale") == [TableRow(("a",), ("a", 4, 8), 1)]
    with place.checkpoints.transaction(owned(place.checkpoints), 1) as effects:
        place.tables.replace(effects, shape, [("a",)], [TableRow(("a",), ("a", 5, 10), 1)])
    assert _rows(place, "sale") == [TableRow(("a",), ("a", 5, 10), 1)]


def test_rows_come_in_the_order_of_their_keys_with_how_far_the_projection_was(place: Place) -> None:
    run(place.checkpoints, SEAT)
    with place.checkpoints.transaction(owned(place.checkpoints), 9) as effects:
        for number in reversed(range(30)):
            for room in "ba":
                effects.execute("INSERT INTO seat VALUES (?, ?, ?)", (room, number, "ann"))
    shape = _shape(place, "seat")
    every = [(number, room) for number in range(30) for room in "ab"]
    found: list[TableRow] = []
    while True:
        pin, page = place.tables.pinned(NAME, shape, found[-1].key if found else None, 7)
        assert pin.last == 9
        found += page
        if len(page) < 7:
            break
    assert [row.key for row in found] == every
    assert found[1] == TableRow((0, "b"), ("b", 0, "ann"), 1)
    assert [row.key for row in place.tables.page(shape, (3, "a"), (5, "a"), 1000)] == every[7:11]
    assert [row.key for row in place.tables.page(shape, None, (0, "b"), 1000)] == every[:2]
    assert [row.key for row in place.tables.page(shape, (29, "b"), None, 1000)] == []


def test_rows_and_checkpoint_are_of_one_moment(place: Place) -> None:
    run(place.checkpoints, SEAT, "INSERT INTO seat VALUES ('a', 0, 'ann')")
    shape, seen = _shape(place, "seat"), set[int]()

    def count(effects: Effects, position: int) -> None:
        effects.execute("UPDATE seat SET row_no = ?", (position,))

    with moving(place.checkpoints, count):
        while len(seen) < 20:
            pin, [row] = place.tables.pinned(NAME, shape, None, 10)
            assert row.key == (pin.last, "a")
            seen.add(pin.last)


def test_how_far_it_is_is_told_of_an_empty_table(place: Place) -> None:
    run(place.checkpoints, SEAT, at=5)
    pin, rows = place.tables.pinned(NAME, _shape(place, "seat"), None, 10)
    assert (pin.last, rows) == (5, [])
    with pytest.raises(NotFound, match="'other' never ran"):
        place.tables.pinned("other", _shape(place, "seat"), None, 10)


def test_rows_without_a_key_are_counted(place: Place) -> None:
    run(
        place.checkpoints,
        NOTE,
        *["INSERT INTO note VALUES ('it''s, \"fine\"', 5)"] * 3,
        "INSERT INTO note VALUES ('', NULL)",
    )
    assert sorted((row.values, row.times) for row in _rows(place, "note")) == [
        (("", None), 1),
        (('it\'s, "fine"', 5), 3),
    ]
    shape = _shape(place, "note")
    first, second = place.tables.page(shape, None, None, 10)
    assert place.tables.page(shape, first.key, None, 10) == [second]
    assert place.tables.rows(shape, [second.key]) == [second]


def test_a_key_that_holds_nothing_in_places_is_found_too(place: Place) -> None:
    """SQLite lets a column of a key be NULL."""
    run(place.checkpoints, SEAT)
    with suppress(Exception):  # by PostgreSQL, which then has nothing to find
        run(place.checkpoints, "INSERT INTO seat VALUES (NULL, 1, 'ann')")
    run(place.checkpoints, "INSERT INTO seat VALUES ('a', 1, 'bob')")
    kept = run(place.checkpoints, "SELECT count(*) FROM seat")
    assert [(len(_rows(place, "seat")),)] == kept


def test_values_come_as_they_were_written(place: Place) -> None:
    values = (0.1 + 0.2, -1.5e300, 2**53 + 1, "ü\n%?", None)
    run(
        place.checkpoints,
        "CREATE TABLE thing (a DOUBLE PRECISION, b DOUBLE PRECISION, c BIGINT, d TEXT PRIMARY KEY, e TEXT)",
    )
    run(place.checkpoints, "INSERT INTO thing VALUES (?, ?, ?, ?, ?)", values=values)
    assert _rows(place, "thing") == [TableRow((values[3],), values, 1)]


def test_rows_are_put_in_the_place_of_others(place: Place) -> None:
    run(place.checkpoints, SEAT, NOTE, *[f"INSERT INTO seat VALUES ('a', {number}, 'ann')" for number in range(250)])
    run(place.checkpoints, *["INSERT INTO note VALUES ('x', 1)"] * 3, "INSERT INTO note VALUES ('y', 2)")
    seat, note = _shape(place, "seat"), _shape(place, "note")
    gone = [row.key for row in _rows(place, "note") if row.values[0] == "x"]
    with place.checkpoints.transaction(owned(place.checkpoints), 1) as effects:
        keys = [(number, "a") for number in range(240)]
        place.tables.replace(effects, seat, keys, [TableRow((7, "a"), ("a", 7, "bob"), 1)])
        place.tables.replace(effects, note, gone, [TableRow(("any",), ("z", 3), 2)])
        place.tables.replace(effects, note, [], [])
    assert [row.values[1:] for row in _rows(place, "seat")] == [(7, "bob"), *[(n, "ann") for n in range(240, 250)]]
    assert sorted((row.values, row.times) for row in _rows(place, "note")) == [(("y", 2), 1), (("z", 3), 2)]
