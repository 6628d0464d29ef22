"""Streams: read one, list them, know a version as of then; and finding events by id."""

from random import Random

import pytest

from everlog.core.ids import new_id
from everlog.core.names import category_of
from everlog.store.contract import Store
from everlog.testing.conformance.events import SettableClock, append, everything, new_event, request, versions
from everlog.testing.conformance.mix import STREAMS, TENANTS, Mix

_PREFIXES = (
    "order-1", "order-1-2", "order", "orders-1", "orders", "order.item-1", "order_x-1", "order:x-1", "order0-1",
    "orderA-1", "Order-1", "ord-1", "o-1", "z",
)  # fmt: skip


def test_a_stream_is_read_in_version_order_from_any_version_upto_any_other(mix: Mix) -> None:
    random = Random(2)
    for tenant in TENANTS:
        for stream in STREAMS:
            events = [row.stored for row in mix.rows if (row.stored.tenant, row.stored.stream) == (tenant, stream)]
            assert list(mix.store.read_stream(tenant, stream)) == events
            assert list(mix.store.read_stream(tenant, stream, backwards=True)) == events[::-1]
            for _ in range(5):
                after = random.choice((0, random.randint(0, len(events) + 2)))
                upto = random.choice((None, random.randint(0, len(events) + 2)))
                part = events[after:upto] if upto is None or after < upto else []
                assert list(mix.store.read_stream(tenant, stream, after=after, upto=upto)) == part
                assert list(mix.store.read_stream(tenant, stream, after=after, upto=upto, backwards=True)) == part[::-1]


def test_the_mix_has_a_stream_of_several_pages(mix: Mix) -> None:
    assert len(list(mix.store.read_stream("acme", "order-1"))) > 1000


def test_an_unknown_stream_is_empty(store: Store) -> None:
    append(store)
    assert versions(store, "order-2") == []
    assert versions(store, tenant="globex") == []
    assert store.version_at("acme", "order-2") == store.version_at("globex", "order-1") == 0


@pytest.mark.parametrize("tenant", [*TENANTS, "nobody", None])
def test_streams_are_listed_with_their_last_event_by_tenant_and_name(mix: Mix, tenant: str | None) -> None:
    last = {(row.stored.tenant, row.stored.stream): row.stored for row in mix.rows}
    expected = [(*key, last[key].version, last[key].position) for key in sorted(last) if tenant in (None, key[0])]
    assert list(mix.store.streams(tenant)) == expected


@pytest.mark.parametrize(
    "category", ["order", "orders", "order.item", "order_x", "order:x", "ord", "o", "order-1", "", "z"]
)
def test_a_category_is_not_taken_for_another_that_begins_the_same(store: Store, category: str) -> None:
    append(store, *(new_event(stream) for stream in _PREFIXES))
    append(store, *(new_event(stream) for stream in _PREFIXES), tenant="globex")
    wanted = sorted(stream for stream in _PREFIXES if category_of(stream) == category)
    assert [head.stream for head in store.streams("acme", category)] == wanted
    assert [head.stream for head in store.streams(None, category)] == wanted * 2


def test_any_number_of_streams_is_listed(store: Store) -> None:
    names = [f"order-{n:04}" for n in range(1100)]
    store.append_each([request(new_event(name)) for name in names])
    assert [head.stream for head in store.streams("acme")] == names
    assert [head.stream for head in store.streams(None, "order")] == names


def test_a_version_as_of_any_position_is_the_one_a_plain_count_gives(mix: Mix) -> None:
    random = Random(3)
    for position in (0, 1, len(mix.rows), len(mix.rows) + 5, *random.sample(range(len(mix.rows)), 20)):
        for stream in STREAMS:
            counted = sum((row.stored.tenant, row.stored.stream) == ("acme", stream) for row in mix.rows[:position])
            assert mix.store.version_at("acme", stream, position=position) == counted


def test_a_version_as_of_any_time_is_the_one_a_plain_count_gives(mix: Mix) -> None:
    random = Random(4)
    times = [row.stored.recorded_at for row in random.sample(mix.rows, 10)]
    for at in (0, *(time + off for time in times for off in (-1, 0, 1)), 2**62):
        for stream in STREAMS:
            then = [row for row in mix.rows if row.stored.recorded_at <= at]
            counted = sum((row.stored.tenant, row.stored.stream) == ("acme", stream) for row in then)
            assert mix.store.version_at("acme", stream, recorded_at=at) == counted


def test_a_version_as_of_position_and_time_keeps_to_both(store: Store, clock: SettableClock) -> None:
    began = clock.now
    for _ in range(6):
        append(store)
        clock.now += 10
    assert store.version_at("acme", "order-1") == 6
    assert store.version_at("acme", "order-1", position=4, recorded_at=began + 20) == 3
    assert store.version_at("acme", "order-1", position=2, recorded_at=began + 20) == 2


def test_events_are_found_by_id_within_their_tenant_only(mix: Mix) -> None:
    ids = [row.stored.id for row in mix.rows] + [new_id(), b"", bytes(16)]
    for tenant in (*TENANTS, "nobody"):
        own = {row.stored.id: row.stored for row in mix.rows if row.stored.tenant == tenant}
        assert mix.store.find(tenant, iter(ids)) == own


def test_finding_nothing_and_the_same_twice_is_fine(store: Store) -> None:
    append(store)
    (event,) = everything(store)
    assert store.find("acme", []) == {}
    assert store.find("acme", [event.id, event.id]) == {event.id: event}
    assert store.find("globex", [event.id]) == {}


@pytest.mark.parametrize(("after", "upto"), [(0, None), (0, 0), (3, 9), (990, 2010), (2599, None), (2600, 9999)])
def test_leaves_are_read_like_events(mix: Mix, after: int, upto: int | None) -> None:
    leaves = list(mix.store.leaves(after=after, upto=upto))
    expected = [row.stored for row in mix.rows[after:upto]]
    assert [leaf.event for leaf in leaves] == expected
    assert {len(leaf.leaf) for leaf in leaves} <= {32}
    assert [leaf.salts[0] is None for leaf in leaves] == [event.data is None for event in expected]
