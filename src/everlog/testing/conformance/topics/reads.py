"""Reading the log: any conditions together, forwards and backwards, in any window."""

from random import Random

import pytest

from everlog.core.errors import InvalidInput
from everlog.core.limits import EVENT_BYTES
from everlog.store.contract import Release, Store
from everlog.store.query import Filter
from everlog.testing.conformance.events import TENANT, append, everything, new_event
from everlog.testing.conformance.mix import Mix, some_filter

_OFTEN: dict[str, Filter] = {
    "all": Filter(None),
    "tenant": Filter("acme"),
    "stream": Filter("acme", stream="order-1"),
    "category": Filter("acme", category="order"),
    "one type": Filter("acme", types=(("order.placed", None),)),
    "one type of any tenant": Filter(None, types=(("order.placed", None),)),
    "two types": Filter("acme", types=(("order.placed", None), ("rare", 1))),
    "two versions": Filter(None, types=(("order.placed", 1), ("order.placed", 2), ("order.placed", 3))),
    "tag": Filter("acme", tags=("all",)),
    "tag and types": Filter("acme", tags=("all",), types=(("order.placed", None), ("order.shipped", None))),
    "tag of any tenant": Filter(None, tags=("all",)),
    "tag and two types of any tenant": Filter(None, tags=("all",), types=(("order.placed", None), ("rare", None))),
    "actor": Filter("acme", actor="ann"),
    "actor of any tenant": Filter(None, actor="ann"),
    "correlation": Filter("acme", correlation_id=bytes(16)),
    "correlation of any tenant": Filter(None, correlation_id=bytes(16)),
    "time": Filter(None, recorded_since=1, occurred_until=2**62),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("where", _OFTEN.values(), ids=_OFTEN)
def test_a_read_of_many_pages_gives_every_event_once_and_in_order(mix: Mix, where: Filter, backwards: bool) -> None:
    found = list(mix.store.read(where, backwards=backwards))
    assert len(found) > 1000, "the mix has too few of these to cross a page"
    assert found == mix.expected(where, backwards=backwards)


@pytest.mark.parametrize("seed", range(8))
def test_any_filter_finds_what_a_plain_loop_finds(mix: Mix, seed: int) -> None:
    random = Random(seed)
    last = len(mix.rows)
    found_some = 0
    for _ in range(50):
        where = some_filter(random, mix)
        after = random.choice((0, 0, random.randint(0, last)))
        upto = random.choice((None, None, random.randint(0, last), last + 10))
        limit = random.choice((None, None, 1, 7, 1000))
        for backwards in (False, True):
            found = list(mix.store.read(where, after=after, upto=upto, backwards=backwards, limit=limit))
            expected = mix.expected(where, after, upto, backwards=backwards, limit=limit)
            assert found == expected, (where, after, upto, backwards, limit)
            found_some += bool(found)
    assert found_some > 30, "nearly all filters found nothing, which shows little"


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 999, 1000, 1001, 2000, 2001, 10_000])
def test_a_limit_is_kept_to_the_event(mix: Mix, limit: int, backwards: bool) -> None:
    found = [event.position for event in mix.store.read(Filter(None), backwards=backwards, limit=limit)]
    positions = range(1, len(mix.rows) + 1)
    assert found == list(positions[::-1] if backwards else positions)[:limit]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("after", "upto"), [(0, 0), (0, 1), (5, 5), (9, 5), (1000, 2000), (1000, 2001), (-3, 2), (2590, 9999), (9999, None)]
)
def test_a_window_excludes_after_and_includes_upto(mix: Mix, after: int, upto: int | None, backwards: bool) -> None:
    found = [event.position for event in mix.store.read(Filter(None), after=after, upto=upto, backwards=backwards)]
    last = len(mix.rows) if upto is None else min(upto, len(mix.rows))
    assert sorted(found) == list(range(max(after, 0) + 1, last + 1))
    assert found == sorted(found, reverse=backwards)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "where", [Filter(None), Filter("acme", types=(("one", None), ("two", None)))], ids=["all", "two"]
)
def test_pages_that_end_because_events_are_large_leave_none_out(store: Store, where: Filter, backwards: bool) -> None:
    data = b'"' + b"x" * (EVENT_BYTES - 2) + b'"'
    for number in range(50):
        append(store, new_event(type=("one", "two")[number % 2], data=data))
    positions = list(range(1, 51))[:: -1 if backwards else 1]
    assert [event.position for event in store.read(where, backwards=backwards)] == positions
    assert [event.position for event in store.read(where, backwards=backwards, limit=41)] == positions[:41]
    assert [event.position for event in store.read_stream("acme", "order-1", backwards=backwards)] == positions


@pytest.mark.parametrize("backwards", [False, True])
def test_large_events_among_small_ones_keep_their_bytes_and_released_ones_stay_empty(
    store: Store, backwards: bool
) -> None:
    sizes = [EVENT_BYTES - 4 * n if n % 3 == 0 else 4_180 + n for n in range(60)]
    for size in sizes:
        append(store, new_event(data=b'"%s"' % (b"x" * (size - 2))))
    store.release(Release((1, 4, 5, 60), "erasure", "asked for by the subject"))
    expected = [None if n in (1, 4, 5, 60) else size for n, size in enumerate(sizes, 1)]
    expected = expected[::-1] if backwards else expected
    for found in (
        store.read(Filter(None), backwards=backwards),
        store.read_stream(TENANT, "order-1", backwards=backwards),
    ):
        assert [None if event.data is None else len(event.data) for event in found] == expected
    assert [row.event.position for row in store.leaves()] == list(range(1, 61))


def test_a_read_ends_where_the_log_ended_when_it_began(store: Store) -> None:
    append(store, *(new_event() for _ in range(3)))
    reading = store.read(Filter(None))
    first = next(reading)
    append(store)
    assert [first.position, *(event.position for event in reading)] == [1, 2, 3]


def test_a_read_may_be_left_half_way(store: Store) -> None:
    append(store, *(new_event() for _ in range(3)))
    reading = store.read(Filter(None))
    assert next(reading).position == 1
    assert append(store).position == 4


def test_an_event_is_there_as_soon_as_its_append_returned(store: Store) -> None:
    for _ in range(3):
        done = append(store)
        assert everything(store)[-1].position == done.position


def test_a_wildcard_in_a_name_is_a_letter_like_any_other(store: Store) -> None:
    for name in ("a_c", "abc", "a%", "A_C"):
        append(store, new_event(type=name, tags=(name,), actor=name))
    for where in (Filter("acme", types=(("a_c", None),)), Filter("acme", tags=("a_c",)), Filter("acme", actor="a_c")):
        assert [event.type for event in store.read(where)] == ["a_c"]
    assert [event.type for event in store.read(Filter("acme", types=(("a%", 1),)))] == ["a%"]


def test_hundreds_of_types_may_be_asked_for_at_once(store: Store) -> None:
    append(store, *(new_event(type=f"type-{n}", schema_version=n % 3 + 1) for n in range(400)))
    wanted = tuple((f"type-{n}", None if n % 2 else n % 3 + 1) for n in range(0, 1200, 3))
    for where in (Filter("acme", types=wanted), Filter(None, types=wanted), Filter("acme", actor="x", types=wanted)):
        found = [event.type for event in store.read(where)]
        assert found == ([] if where.actor else [f"type-{n}" for n in range(0, 400, 3)])


@pytest.mark.parametrize(
    "where", [Filter("\ud800"), Filter(None, tags=("\ud800",)), Filter(None, occurred_since=2**63)], ids=repr
)
def test_what_no_event_can_hold_is_refused_and_the_store_goes_on(store: Store, where: Filter) -> None:
    append(store)
    with pytest.raises(InvalidInput):
        list(store.read(where))
    assert len(everything(store)) == 1
