"""`Recorded`: the whole envelope, data decoded when asked for, and the CloudEvents form as their own SDK reads it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from everlog import (
    Money,
    PayloadReleased,
    Platform,
    Recorded,
    Session,
    UnknownEventType,
    UnreadableEvent,
    event,
    upcast_split,
)
from everlog.core.envelope import StoredEvent
from everlog.domain.types import EventTypes
from everlog.store.contract import Release
from tests.domain.stored import NOON, stored


@event("seat.reserved", version=2, tags=["seat:{seat}"])
class Reserved:
    seat: str
    price: Money


@event("seat.paid")
class Paid:
    price: Money


@upcast_split("seat.reserved", 1, into=[("seat.reserved", 2), ("seat.paid", 1)])
def reserved_and_paid(old: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    price = {"minor": old["cents"], "currency": "EUR"}
    yield "seat.reserved", {"seat": old["seat"], "price": price}
    yield "seat.paid", {"price": price}


TYPES = EventTypes([Reserved, Paid], [reserved_and_paid])
A1 = b'{"seat":"A1","price":{"minor":5,"currency":"EUR"}}'
CORRELATION, CAUSE = UUID(int=1), UUID(int=2)
FULL = stored(
    "seat.reserved", 2, A1, actor="ann", correlation_id=CORRELATION.bytes, causation_id=CAUSE.bytes,
    client=b'{"ip":"10.0.0.1","user_agent":"Mozilla/5.0 (X11)"}',
)  # fmt: skip


def recorded(event: StoredEvent) -> Recorded[Any]:
    [one] = TYPES.recorded(event)
    return one


@contextmanager
def opened() -> Iterator[tuple[Session, Any]]:
    with Platform("memory:", Reserved, Paid, reserved_and_paid).open(clock=lambda: NOON + 1) as log:
        yield log.tenant("acme"), log.store


def test_the_envelope_carries_every_field_of_the_design() -> None:
    with opened() as (acme, _):
        acting = acme.acting(
            actor="ann", ip="10.0.0.1", user_agent="Mozilla", correlation_id=CORRELATION, causation_id=CAUSE
        )
        occurred = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
        mine = UUID(int=9)
        acting.append("seat-A1", Paid(Money(1, "EUR")))
        acting.append("seat-A1", Reserved("A1", Money(5, "EUR")), occurred_at=occurred, ids=[mine])
        [_, one] = acme.stream("seat-A1")
    assert one.data == Reserved("A1", Money(5, "EUR"))
    assert (one.id, one.type, one.schema_version, one.part) == (mine, "seat.reserved", 2, 0)
    assert (one.stream, one.version, one.position, one.tenant) == ("seat-A1", 2, 2, "acme")
    assert (one.actor, one.ip, one.user_agent) == ("ann", "10.0.0.1", "Mozilla")
    assert (one.correlation_id, one.causation_id) == (CORRELATION, CAUSE)
    assert one.occurred_at == occurred
    assert one.recorded_at == datetime(2026, 11, 24, 12, 0, 0, 2, tzinfo=UTC)
    assert one.occurred_at.utcoffset() == one.recorded_at.utcoffset() == timedelta(0)


def test_what_nobody_gave_is_none_and_the_time_of_occurrence_is_that_of_recording() -> None:
    with opened() as (acme, _):
        acme.append("seat-A1", Paid(Money(1, "EUR")))
        [one] = acme.stream("seat-A1")
    assert (one.actor, one.ip, one.user_agent, one.correlation_id, one.causation_id) == (None, None, None, None, None)
    assert one.occurred_at == one.recorded_at
    assert one.id.version == 7


def test_data_is_decoded_once_and_only_when_asked_for() -> None:
    calls: list[bytes] = []

    def decode(raw: bytes) -> str:
        calls.append(raw)
        return "decoded"

    one: Recorded[str] = Recorded(FULL, decode, FULL.data, "seat.reserved", 2, 0)
    assert (one.position, calls) == (7, [])
    assert (one.data, one.data, calls) == ("decoded", "decoded", [A1])


def test_recorded_events_are_equal_when_they_are_the_same_part_of_the_same_event() -> None:
    one, again = recorded(FULL), recorded(FULL)
    first, second = TYPES.recorded(stored("seat.reserved", 1, b'{"seat":"A1","cents":5}'))
    assert one == again
    assert hash(one) == hash(again)
    assert len({one, again, first, second}) == 3
    assert one != FULL
    assert repr(one) == "Recorded(seat.reserved v2 at 7, thing-1 v3)"


def test_released_bytes_are_a_named_error_with_the_position_and_the_envelope_stays() -> None:
    with opened() as (acme, store):
        acme.append("seat-A1", Reserved("A1", Money(5, "EUR")), Paid(Money(5, "EUR")))
        store.release(Release((1,), "erasure", "request 42"))
        gone, kept = acme.events()
    assert (gone.type, gone.stream, kept.data) == ("seat.reserved", "seat-A1", Paid(Money(5, "EUR")))
    for ask in (lambda: gone.data, gone.json):
        with pytest.raises(PayloadReleased, match=r"event at position 1 \(seat.reserved v2\) cannot be read") as caught:
            ask()
        assert (caught.value.position, caught.value.type_name, caught.value.schema_version) == (1, "seat.reserved", 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"seat":"A1"}',
        b'{"seat":1,"price":{"minor":5,"currency":"EUR"}}',
        b'{"seat":"A1","price":{"minor":5,"currency":"eur"}}',
        b'{"seat":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_such_event_are_a_named_error_with_the_position(data: bytes) -> None:
    with pytest.raises(UnreadableEvent, match="event at position 7") as caught:
        _ = recorded(stored("seat.reserved", 2, data)).data
    assert caught.value.position == 7


@pytest.mark.parametrize(("name", "version"), [("seat.sold", 1), ("seat.reserved", 3)])
def test_a_type_or_version_nobody_declares_is_read_as_json_and_only_its_data_is_an_error(
    name: str, version: int
) -> None:
    one = recorded(stored(name, version, b'{"seat":"A1","new":[1]}'))
    assert (one.type, one.schema_version, one.json()) == (name, version, {"seat": "A1", "new": [1]})
    with pytest.raises(UnknownEventType, match="deploy the newer code or add an upcaster") as caught:
        _ = one.data
    assert (caught.value.position, caught.value.type_name, caught.value.schema_version) == (7, name, version)


def test_json_is_what_the_event_is_today() -> None:
    first, second = TYPES.recorded(stored("seat.reserved", 1, b'{"seat":"A1","cents":5}'))
    assert first.json() == json.loads(A1)
    assert second.json() == {"price": {"minor": 5, "currency": "EUR"}}
    assert recorded(FULL).json() == json.loads(A1)


def test_changing_the_json_changes_no_event() -> None:
    first, _ = TYPES.recorded(stored("seat.reserved", 1, b'{"seat":"A1","cents":5}'))
    first.json()["seat"] = "B2"
    assert first.data == Reserved("A1", Money(5, "EUR"))


CLOUD = {
    "specversion": "1.0",
    "id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
    "source": "everlog",
    "type": "seat.reserved",
    "subject": "thing-1",
    "time": "2026-11-24T12:00:00.000001Z",
    "datacontenttype": "application/json",
    "schemaversion": 2,
    "tenantid": "acme",
    "sequence": "3",
    "position": "7",
    "partitionkey": "thing-1",
    "recordedtime": "2026-11-24T12:00:00.000002Z",
    "correlationid": str(CORRELATION),
    "causationid": str(CAUSE),
    "authid": "ann",
    "clientip": "10.0.0.1",
    "useragent": "Mozilla/5.0 (X11)",
    "data": {"seat": "A1", "price": {"minor": 5, "currency": "EUR"}},
}
OPTIONAL = {"correlationid", "causationid", "authid", "clientip", "useragent"}


def test_the_cloudevents_form_holds_the_whole_envelope() -> None:
    assert recorded(FULL).cloudevent() == CLOUD
    assert recorded(FULL).cloudevent("https://acme.example/log")["source"] == "https://acme.example/log"


def test_the_cloudevents_form_leaves_out_what_nobody_gave_and_what_was_released() -> None:
    bare = recorded(stored("seat.reserved", 2, A1)).cloudevent()
    assert CLOUD.keys() - bare.keys() == OPTIONAL
    gone = recorded(stored("seat.reserved", 2, None)).cloudevent()
    assert bare.keys() - gone.keys() == {"data", "datacontenttype"}


def test_the_parts_of_a_split_event_are_different_cloudevents() -> None:
    parts = TYPES.recorded(stored("seat.reserved", 1, b'{"seat":"A1","cents":5}'))
    assert [part.cloudevent()["id"] for part in parts] == [CLOUD["id"], f"{CLOUD['id']}/1"]


@pytest.mark.parametrize(
    "event",
    [
        FULL,
        stored("seat.reserved", 2, A1),
        stored("seat.reserved", 2, None),
        stored("seat.sold", 9, b'{"text":"Zo\\u00eb"}'),
        stored("seat.reserved", 1, b'{"seat":"A1","cents":5}', occurred_at=-62_135_596_800_000_000),
    ],
)
def test_the_cloudevents_sdk_reads_the_form_as_what_it_says(event: StoredEvent) -> None:
    for one in TYPES.recorded(event):
        form = one.cloudevent()
        cloud = JSONFormat().read(CloudEvent, json.dumps(form))
        assert (cloud.get_id(), cloud.get_type(), cloud.get_source()) == (form["id"], one.type, "everlog")
        assert (cloud.get_subject(), cloud.get_time(), cloud.get_data()) == (
            one.stream, one.occurred_at, form.get("data"),
        )  # fmt: skip
        assert int(cloud.get_extension("position")) == one.position


def test_attributes_keep_to_what_every_broker_can_carry() -> None:
    for name, value in recorded(FULL).cloudevent().items():
        assert re.fullmatch(r"[a-z0-9]{1,20}", name)
        assert name == "data" or isinstance(value, str | int)
