"""Joining the application's own transaction: its rows and our events commit together, or neither is there."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

from typing import Any

import pytest

from everlog.core.errors import IdempotencyConflict, InvalidInput, StoreUnavailable, WrongExpectedVersion
from everlog.core.expect import Exactly, NoStream
from everlog.store.contract import Store
from everlog.testing.conformance.events import append, everything, new_event, request, versions

# A driver's connection has no common type: `Any`. The statements are ones every SQL database knows.


class _Changed(Exception):
    """The application changed its mind inside the block."""


def _make_table(connection: Any) -> None:
    connection.execute("CREATE TABLE seat (name VARCHAR(20))")
    connection.commit()


def _take(connection: Any, seat: str) -> None:
    connection.execute(f"INSERT INTO seat VALUES ('{seat}')")


def _taken(connection: Any) -> list[str]:
    rows = [row[0] for row in connection.execute("SELECT name FROM seat ORDER BY name")]
    connection.rollback()
    return rows


def test_rows_and_events_commit_together(store: Store, connection: Any) -> None:
    _make_table(connection)
    with store.join(connection) as tx:
        _take(connection, "A1")
        tx.append(request(new_event()))
        _take(connection, "A2")
    assert _taken(connection) == ["A1", "A2"]
    assert versions(store) == [1]


def test_rows_and_events_roll_back_together(store: Store, connection: Any) -> None:
    _make_table(connection)
    for flush in (False, True):
        with pytest.raises(_Changed), store.join(connection) as tx:
            _take(connection, "A1")
            tx.append(request(new_event()))
            if flush:
                tx.flush()
            raise _Changed
    assert (_taken(connection), everything(store)) == ([], [])
    assert append(store).position == 1


def test_flush_answers_what_append_would_have(store: Store, connection: Any) -> None:
    append(store)
    known = request(new_event(), new_event("order-2"))
    store.append(known)
    with store.join(connection) as tx:
        tx.append(request(new_event(), expect={"order-1": Exactly(2)}))
        tx.append(known)
        tx.append(request(new_event(), expect={"order-1": Exactly(3)}))
        first, again, later = tx.flush()
        tx.append(request(new_event()))
    assert (first.position, again.position, later.position) == (4, 3, 5)
    assert (first.replayed, again.replayed, later.replayed) == (False, True, False)
    assert versions(store) == [1, 2, 3, 4, 5]


def test_nobody_sees_the_events_before_the_commit(store: Store, connection: Any) -> None:
    with store.join(connection) as tx:
        tx.append(request(new_event()))
        tx.flush()
        assert (store.head().position, everything(store)) == (0, [])
    assert store.head().position == 1


def test_a_failed_condition_leaves_nothing(store: Store, connection: Any) -> None:
    _make_table(connection)
    append(store)
    with pytest.raises(WrongExpectedVersion), store.join(connection) as tx:
        _take(connection, "A1")
        tx.append(request(new_event("order-2")))
        tx.append(request(new_event(), expect={"order-1": NoStream()}))
        tx.flush()
    assert (_taken(connection), versions(store, "order-2")) == ([], [])


def test_a_failed_condition_at_the_end_of_the_block_leaves_nothing(store: Store, connection: Any) -> None:
    _make_table(connection)
    with pytest.raises(WrongExpectedVersion), store.join(connection) as tx:
        _take(connection, "A1")
        tx.append(request(new_event(), expect={"order-1": Exactly(4)}))
    assert (_taken(connection), everything(store)) == ([], [])


def test_a_failed_flush_that_is_swallowed_still_commits_nothing(store: Store, connection: Any) -> None:
    _make_table(connection)
    event = new_event()
    with pytest.raises(StoreUnavailable, match="flush"), store.join(connection) as tx:
        _take(connection, "A1")
        tx.append(request(event))
        tx.append(request(event._replace(data=b"other")))
        with pytest.raises(IdempotencyConflict):
            tx.flush()
    assert (_taken(connection), everything(store)) == ([], [])
    assert append(store).position == 1


def test_an_event_that_breaks_a_rule_is_refused_as_it_is_given(store: Store, connection: Any) -> None:
    with store.join(connection) as tx:
        with pytest.raises(InvalidInput):
            tx.append(request(new_event("no name")))
        tx.append(request(new_event()))
    assert len(everything(store)) == 1


def test_a_block_without_events_is_a_plain_transaction(store: Store, connection: Any) -> None:
    _make_table(connection)
    with store.join(connection) as tx:
        _take(connection, "A1")
        assert list(tx.flush()) == []
    assert _taken(connection) == ["A1"]
    assert store.head().position == 0


def test_one_connection_joins_again_and_again(store: Store, connection: Any) -> None:
    for _ in range(3):
        with store.join(connection) as tx:
            tx.append(request(new_event()))
        append(store)
    assert versions(store) == [1, 2, 3, 4, 5, 6]


def test_a_transaction_that_was_ended_inside_the_block_stores_no_events(store: Store, connection: Any) -> None:
    with pytest.raises(StoreUnavailable, match="inside the block"), store.join(connection) as tx:
        tx.append(request(new_event()))
        connection.commit()
    assert everything(store) == []
    assert append(store).position == 1
