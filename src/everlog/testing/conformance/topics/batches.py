"""A batch is stored whole or not at all; a group gives each request its own verdict; bytes come back exact."""

import pytest

from everlog.core.envelope import Appended
from everlog.core.errors import EverlogError, InvalidInput, WrongExpectedVersion
from everlog.core.expect import Exactly
from everlog.store.contract import Store
from everlog.store.query import Filter
from everlog.testing.conformance.events import TENANT, append, everything, new_event, request


def test_an_empty_log_has_a_name_and_no_position(store: Store) -> None:
    head = store.head()
    assert (head.position, head.recorded_at, len(head.log_id), head.incarnation) == (0, 0, 16, 1)
    assert everything(store) == []


def test_a_batch_gets_consecutive_positions_and_versions_in_the_order_given(store: Store) -> None:
    append(store, new_event("a"))
    done = append(store, new_event("a"), new_event("b"), new_event("a"), new_event("c"), new_event("b"))
    assert [place.position for place in done.places] == [2, 3, 4, 5, 6]
    assert [place.version for place in done.places] == [2, 1, 3, 1, 2]
    assert (done.position, done.version, done.replayed) == (6, 2, False)
    assert store.head()[:2] == (6, done.recorded_at)


def test_every_field_comes_back_as_it_was_given(store: Store) -> None:
    full = new_event(
        "order-1",
        "Bestellung aufgegeben",
        id=bytes(range(16)),
        schema_version=7,
        tags=("ort:Köln", "paid"),
        occurred_at=-5,
        actor="Müller, José",
        correlation_id=bytes(16),
        causation_id=b"\xff" * 16,
        client=b'{"ip":"2001:db8::1","user_agent":"curl/8"}',
    )
    done = append(store, full)
    (stored,) = everything(store)
    assert stored[:7] == (1, TENANT, "order-1", 1, full.id, "Bestellung aufgegeben", 7)
    assert (stored.occurred_at, stored.recorded_at, stored.actor) == (-5, done.recorded_at, full.actor)
    assert stored[10:] == (full.correlation_id, full.causation_id, full.data, full.client)
    assert list(store.read(Filter(TENANT, tags=full.tags))) == [stored]


def test_what_was_left_out_comes_back_as_nothing(store: Store) -> None:
    append(store)
    (stored,) = everything(store)
    assert (stored.actor, stored.correlation_id, stored.causation_id, stored.client) == (None, None, None, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{ "b": 1,\n "a": 1.0 }\n', b'{"a":1,"a":2}', b"\x00\xff\x00", "\u00e9\U0001f4a9".encode(), b"'; --"],
)
def test_stored_bytes_are_exact(store: Store, data: bytes) -> None:
    append(store, new_event(data=data))
    assert everything(store)[0].data == data


def test_a_request_without_events_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        store.append(request())
    assert store.append_each([]) == []


def test_a_request_that_fails_harms_no_other_of_its_group(store: Store) -> None:
    verdicts = store.append_each([
        request(new_event()),
        request(new_event("no name")),
        request(new_event("a"), new_event("b"), expect={"b": Exactly(1)}),
        request(new_event("a")),
        request(),
        request(new_event("b"), new_event("b"), tenant="globex"),
    ])  # fmt: skip
    assert [type(verdict) for verdict in verdicts] == [
        Appended, InvalidInput, WrongExpectedVersion, Appended, InvalidInput, Appended,
    ]  # fmt: skip
    positions = [[p.position for p in verdict.places] for verdict in verdicts if isinstance(verdict, Appended)]
    assert positions == [[1], [2], [3, 4]]
    assert [(event.tenant, event.stream) for event in everything(store)] == [
        (TENANT, "order-1"), (TENANT, "a"), ("globex", "b"), ("globex", "b"),
    ]  # fmt: skip


def test_append_raises_the_verdict_that_append_each_returns(store: Store) -> None:
    asked = request(new_event(), expect={"order-1": Exactly(3)})
    (verdict,) = store.append_each([asked])
    with pytest.raises(WrongExpectedVersion) as raised:
        store.append(asked)
    assert isinstance(verdict, EverlogError)
    assert str(raised.value) == str(verdict)


def test_hundreds_of_requests_at_once_keep_their_order(store: Store) -> None:
    verdicts = store.append_each([request(new_event(f"s-{n % 10}")) for n in range(700)])
    places = [verdict.places[0] for verdict in verdicts if isinstance(verdict, Appended)]
    assert [place.position for place in places] == list(range(1, 701))
    assert [place.version for place in places] == [n // 10 + 1 for n in range(700)]


def test_the_same_stream_name_is_another_stream_in_another_tenant(store: Store) -> None:
    assert [append(store, tenant=tenant).version for tenant in ("a", "b", "a", "A")] == [1, 1, 2, 1]


def test_another_handle_goes_on_where_the_first_stopped(store: Store, second: Store) -> None:
    assert [append(handle).position for handle in (store, second, second, store)] == [1, 2, 3, 4]
    assert second.head() == store.head()
    assert everything(second) == everything(store)
