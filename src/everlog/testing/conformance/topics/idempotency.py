"""Retrying with the same event ids (design D4): the first answer again, or a refusal that gives nothing away."""

from collections.abc import Mapping
from typing import Any

import pytest

from everlog.core.envelope import Append, Appended, NewEvent
from everlog.core.errors import AppendConditionFailed, IdempotencyConflict, InvalidInput, WrongExpectedVersion
from everlog.core.expect import Exactly, Match, NoneMatching, NoStream
from everlog.core.ids import new_id
from everlog.store.contract import Release, Store
from everlog.testing.conformance.events import append, everything, new_event, request

# What an event says; the same id with another of these is another event. `Any`, because each field has its own type.
_CONTENT: list[Mapping[str, Any]] = [
    {"stream": "order-2"},
    {"type": "order.shipped"},
    {"schema_version": 2},
    {"occurred_at": 1},
    {"occurred_at": None},
    {"data": b'{"cents":4201}'},
    {"data": b'{"cents": 4200}'},
]
_ENVELOPE = [change for change in _CONTENT if "data" not in change]
# What surrounds an event may differ between two tries: the second may come from another machine and request.
_SURROUNDINGS: list[Mapping[str, Any]] = [
    {"actor": "bob"},
    {"correlation_id": bytes(16)},
    {"causation_id": bytes(16)},
    {"tags": ("other",)},
    {"client": b'{"ip":"::1"}'},
]


def _one() -> NewEvent:
    return new_event(occurred_at=1_700_000_000_000_000, actor="ann", tags=("paid",), client=b'{"ip":"10.0.0.1"}')


def test_the_same_request_gets_the_first_answer_again(store: Store) -> None:
    asked = request(new_event("a"), new_event("b"), new_event("a"))
    append(store)
    first = store.append(asked)
    append(store, new_event("a"))
    again = store.append(asked)
    assert (again.places, again.recorded_at) == (first.places, first.recorded_at)
    assert (first.replayed, again.replayed) == (False, True)
    assert store.head().position == 5


def test_ids_are_looked_up_before_conditions(store: Store) -> None:
    asked = request(new_event(), expect={"order-1": NoStream()})
    store.append(asked)
    assert store.append(asked).replayed
    guarded = request(new_event(tags=("seat:A1",)), boundary=NoneMatching((Match(tags=("seat:A1",)),)))
    store.append(guarded)
    assert store.append(guarded).replayed
    assert store.head().position == 2


def test_a_retry_may_carry_a_condition_that_never_held(store: Store) -> None:
    event = new_event()
    append(store, event)
    assert append(store, event, expect={"order-1": Exactly(7)}).replayed


@pytest.mark.parametrize("change", _CONTENT, ids=str)
def test_a_known_id_with_other_content_is_refused(store: Store, change: Mapping[str, Any]) -> None:
    event = _one()
    append(store, event)
    before = store.head()
    with pytest.raises(IdempotencyConflict, match=event.id.hex()) as refused:
        append(store, event._replace(**change))
    assert (refused.value.code, refused.value.retryable) == ("idempotency_conflict", False)
    assert store.head() == before


def test_claiming_the_time_that_was_recorded_is_other_content_than_claiming_none(store: Store) -> None:
    event = new_event()
    done = append(store, event)
    with pytest.raises(IdempotencyConflict):
        append(store, event._replace(occurred_at=done.recorded_at))


@pytest.mark.parametrize("change", _SURROUNDINGS, ids=str)
def test_a_retry_from_other_surroundings_gets_the_first_answer(store: Store, change: Mapping[str, Any]) -> None:
    event = _one()
    append(store, event)
    before = everything(store)
    assert append(store, event._replace(**change)).replayed
    assert everything(store) == before


def test_an_id_of_another_tenant_is_refused_and_nothing_is_shown(store: Store) -> None:
    secret, own = new_event("contract-secret", "contract.signed"), new_event()
    append(store, secret, tenant="globex")
    append(store, own)
    batches = [(secret,), (new_event(id=secret.id),), (secret, new_event()), (own, secret), (new_event(), secret)]
    for batch in batches:
        with pytest.raises(IdempotencyConflict) as refused:
            append(store, *batch)
        told = str(refused.value)
        assert not any(word in told for word in ("globex", "contract", "signed", secret.id.hex()))
        assert not any(letter.isdigit() for letter in told), "a position, a version or a count shows"
        assert not vars(refused.value)
    assert store.head().position == 2


def test_a_batch_with_only_some_ids_known_is_refused(store: Store) -> None:
    known, other = new_event(), new_event()
    append(store, known)
    for batch in ((known, other), (other, known)):
        with pytest.raises(IdempotencyConflict, match="1 of the batch's 2"):
            append(store, *batch)
    assert store.head().position == 1
    assert append(store, other).position == 2


def test_a_batch_is_refused_when_one_of_its_events_differs(store: Store) -> None:
    batch = [new_event(), new_event("order-2")]
    append(store, *batch)
    with pytest.raises(IdempotencyConflict):
        append(store, batch[0], batch[1]._replace(data=b"{}"))
    assert append(store, *batch).replayed


def test_two_events_of_one_batch_may_not_share_an_id(store: Store) -> None:
    event = new_event()
    with pytest.raises(InvalidInput, match="same id"):
        append(store, event, event)
    assert store.head().position == 0


def test_a_request_that_stored_nothing_is_decided_again(store: Store) -> None:
    asked = request(new_event(), expect={"order-1": Exactly(1)})
    with pytest.raises(WrongExpectedVersion):
        store.append(asked)
    append(store)
    assert not store.append(asked).replayed
    bound = request(new_event(), boundary=NoneMatching((Match(types=(("order.placed", None),)),)))
    with pytest.raises(AppendConditionFailed):
        store.append(bound)
    assert not store.append(Append(bound.tenant, bound.events)).replayed


def test_once_bytes_are_gone_id_and_envelope_decide(store: Store) -> None:
    event = _one()
    first = append(store, event)
    store.release(Release((first.position,), "archive", "cold"))
    again = append(store, event)
    assert (again.places, again.replayed) == (first.places, True)
    assert append(store, event._replace(data=b"whatever")).replayed


@pytest.mark.parametrize("change", _ENVELOPE, ids=str)
def test_once_bytes_are_gone_another_envelope_is_still_refused(store: Store, change: Mapping[str, Any]) -> None:
    event = _one()
    append(store, event)
    store.release(Release((1,), "archive", "cold"))
    with pytest.raises(IdempotencyConflict):
        append(store, event._replace(**change))


def test_ids_of_earlier_requests_of_the_same_group_are_known(store: Store) -> None:
    event, pair = new_event(), (new_event("a"), new_event("b"))
    verdicts = store.append_each([
        request(event, expect={"order-1": NoStream()}),
        request(event, expect={"order-1": NoStream()}),
        request(event._replace(data=b"[]")),
        request(event, tenant="globex"),
        request(event, new_event()),
        request(*pair),
        request(*pair),
    ])  # fmt: skip
    first, again, other, foreign, partly, two, two_again = verdicts
    assert isinstance(first, Appended)
    assert again == Appended(first.places, first.recorded_at, replayed=True)
    assert [type(verdict) for verdict in (other, foreign, partly)] == [IdempotencyConflict] * 3
    assert isinstance(two, Appended)
    assert two_again == Appended(two.places, two.recorded_at, replayed=True)
    assert store.head().position == 3


def test_ids_stored_before_are_known_to_every_request_of_a_group(store: Store) -> None:
    event, elsewhere = new_event(), new_event("order-2")
    first = append(store, event)
    append(store, elsewhere, tenant="globex")
    new, again, other, foreign, last = store.append_each([
        request(new_event()),
        request(event),
        request(event._replace(type="order.shipped")),
        request(elsewhere._replace(stream="order-1")),
        request(new_event(), expect={"order-1": Exactly(2)}),
    ])  # fmt: skip
    assert again == Appended(first.places, first.recorded_at, replayed=True)
    assert [type(verdict) for verdict in (other, foreign)] == [IdempotencyConflict] * 2
    assert [verdict.position for verdict in (new, last) if isinstance(verdict, Appended)] == [3, 4]


def test_a_refused_request_does_not_make_its_ids_known_to_its_group(store: Store) -> None:
    event = new_event()
    refused, stored = store.append_each([request(event, expect={"order-1": Exactly(5)}), request(event)])
    assert isinstance(refused, WrongExpectedVersion)
    assert isinstance(stored, Appended)
    assert not stored.replayed


def test_a_large_batch_is_answered_again_as_a_whole(store: Store) -> None:
    asked = request(*(new_event(f"s-{n % 7}", id=new_id()) for n in range(500)))
    first = store.append(asked)
    again = store.append(asked)
    assert (again.places, again.replayed) == (first.places, True)


def test_another_handle_knows_the_ids_too(store: Store, second: Store) -> None:
    asked = request(new_event())
    first = store.append(asked)
    assert second.append(asked) == Appended(first.places, first.recorded_at, replayed=True)
