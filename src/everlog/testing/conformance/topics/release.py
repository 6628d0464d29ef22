"""The one door for payload bytes: they go for the named positions only, and everything else of the event stays."""

import pytest

from everlog.core.errors import InvalidInput
from everlog.store.contract import Release, Store
from everlog.store.query import Filter
from everlog.testing.conformance.events import append, assert_sound, everything, new_event, versions

_CLIENT = b'{"ip":"::1","user_agent":"curl/8"}'


def _release(store: Store, *positions: int) -> int:
    return store.release(Release(positions, "erasure", "asked for by the subject"))


def _append_five(store: Store) -> None:
    append(store, *(new_event(f"s-{n % 2}", tags=("t",), actor="ann", client=_CLIENT) for n in range(5)))


def test_only_the_named_positions_lose_their_bytes(store: Store) -> None:
    _append_five(store)
    before = everything(store)
    assert _release(store, 2, 4) == 2
    expected = [e._replace(data=None, client=None) if e.position in (2, 4) else e for e in before]
    assert everything(store) == expected


def test_envelope_streams_ids_and_tags_stay(store: Store) -> None:
    _append_five(store)
    before = everything(store)
    _release(store, 1, 2, 3, 4, 5)
    gone = [event._replace(data=None, client=None) for event in before]
    assert list(store.read(Filter("acme", tags=("t",), actor="ann"))) == gone
    assert list(store.read_stream("acme", "s-0")) == [event for event in gone if event.stream == "s-0"]
    assert store.find("acme", [gone[0].id]) == {gone[0].id: gone[0]}
    assert [(head.stream, head.version) for head in store.streams("acme")] == [("s-0", 3), ("s-1", 2)]
    assert list(store.read(Filter("acme", ip="::1"))) == []


def test_releasing_twice_releases_once(store: Store) -> None:
    _append_five(store)
    assert _release(store, 3) == 1
    assert _release(store, 3) == 0
    assert store.release(Release((3, 4, 4), "archive", "cold")) == 1
    assert [event.position for event in everything(store) if event.data is None] == [3, 4]


def test_positions_without_an_event_are_passed_over(store: Store) -> None:
    _append_five(store)
    assert _release(store) == 0
    assert _release(store, 0, -1, 6, 2**62) == 0
    assert _release(store, 5, 6) == 1


def test_an_event_that_comes_later_is_not_released_in_advance(store: Store) -> None:
    _append_five(store)
    _release(store, 6)
    append(store)
    assert everything(store)[5].data is not None
    assert _release(store, 6) == 1


def test_a_position_beyond_64_bits_is_refused_and_nothing_is_released(store: Store) -> None:
    _append_five(store)
    with pytest.raises(InvalidInput):
        _release(store, 1, 2**63)
    assert all(event.data is not None for event in everything(store))


def test_the_log_goes_on_and_still_proves_itself(store: Store) -> None:
    _append_five(store)
    leaves = [row.leaf for row in store.leaves()]
    _release(store, 1, 5)
    append(store, new_event("s-0"))
    assert versions(store, "s-0") == [1, 2, 3, 4]
    rows = list(store.leaves())
    assert [row.leaf for row in rows[:5]] == leaves
    assert [row.salts == (None, None) for row in rows] == [True, False, False, False, True, False]
    assert_sound(store)


def test_another_handle_sees_the_bytes_gone(store: Store, second: Store) -> None:
    _append_five(store)
    assert everything(second)[0].data is not None
    _release(store, 1)
    assert everything(second)[0].data is None
    assert _release(second, 1) == 0
