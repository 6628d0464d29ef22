"""Stored events as CloudEvents messages: back to what they were, and what their own SDK makes of them."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any, get_args

import msgspec
import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from everlog.core.clock import rfc3339
from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput
from everlog.core.limits import JSON_DEPTH
from everlog.relay.cloudevents import STRUCTURED, Mode, Received, message, read, received
from everlog.relay.contract import Message
from tests.feed.parts import stored

CLIENT = b'{"ip":"10.0.0.9","user_agent":"curl/8"}'
SOURCE = "everlog:5f0c"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).map(str.strip).filter(bool)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
IDS = st.binary(min_size=16, max_size=16)
TIMES = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
NUMBERS = st.integers(1, 2**63 - 1)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


PRINTABLE = texts.map(nfc).filter(lambda text: text.isprintable() and text == text.strip() and 0 < len(text) <= 200)
DATA = st.one_of(
    st.none(),
    st.dictionaries(
        texts, st.one_of(st.integers(-(2**63), 2**63 - 1), texts, st.booleans(), st.none()), max_size=3
    ).map(msgspec.json.encode),
    st.sampled_from([b"{}", b'{"n":1.10000000000000000001}', b'{"a":{"b":[1,2]}}']),
)
EVENTS = st.builds(
    StoredEvent,
    position=NUMBERS,
    tenant=NAMES,
    stream=NAMES,
    version=NUMBERS,
    id=IDS,
    type=PRINTABLE,
    schema_version=st.integers(1, 1000),
    occurred_at=TIMES,
    recorded_at=TIMES,
    actor=st.one_of(st.none(), PRINTABLE),
    correlation_id=st.one_of(st.none(), IDS),
    causation_id=st.one_of(st.none(), IDS),
    data=DATA,
    client=st.sampled_from([None, CLIENT]),
)


@given(EVENTS, st.sampled_from(get_args(Mode)), st.integers(1, 2**40), st.integers(0, 5))
@settings(max_examples=500, deadline=None)
def test_an_event_comes_back_as_it_was_but_for_what_is_personal(
    event: StoredEvent, mode: Mode, incarnation: int, part: int
) -> None:
    sent = message(event, "out.a.b.c", source=SOURCE, incarnation=incarnation, part=part, mode=mode)
    assert received(read(sent)) == Received(event._replace(client=None), incarnation, part, SOURCE)
    assert b"10.0.0.9" not in sent.body + repr(sent.headers).encode()
    assert all(value.isascii() and value.isprintable() and " " not in value for value in sent.headers.values())


@given(EVENTS, st.sampled_from(get_args(Mode)))
@settings(max_examples=200, deadline=None)
def test_the_cloudevents_sdk_reads_what_is_sent(event: StoredEvent, mode: Mode) -> None:
    sent = message(event, "out.a.b.c", source=SOURCE, incarnation=3, mode=mode)
    if mode == "structured":
        cloud: Any = JSONFormat().read(CloudEvent, sent.body)
    else:
        # NATS and HTTP share the rule for headers but for the one of the media type.
        headers = {name: value for name, value in sent.headers.items() if name != "ce-datacontenttype"}
        headers |= {"content-type": "application/json"} if event.data is not None else {}
        cloud = http.from_binary(http.HTTPMessage(headers, sent.body), JSONFormat(), CloudEvent)
    assert (f"out:{cloud.get_id()}", cloud.get_source(), cloud.get_type()) == (sent.id, SOURCE, event.type)
    assert cloud.get_extension("position") == str(event.position)
    assert cloud.get_extension("tenantid") == event.tenant
    assert cloud.get_extension("incarnation") == "3"
    assert cloud.get_extension("authid") == event.actor


def test_an_event_as_deep_as_an_event_may_be_is_read_in_structured_mode() -> None:
    data = b'{"a":' * JSON_DEPTH + b"1" + b"}" * JSON_DEPTH
    sent = message(stored(1, "a")._replace(data=data), "s", source=SOURCE, incarnation=1, mode="structured")
    assert received(read(sent)).stored.data == data
    deeper = replace(sent, body=sent.body.replace(data, b'{"a":' + data + b"}"))
    with pytest.raises(InvalidInput, match="nested deeper"):
        read(deeper)


def test_the_parts_of_a_split_event_have_ids_of_their_own() -> None:
    event = StoredEvent(7, "acme", "order-1", 2, bytes(range(16)), "order.paid", 1, 5, 6, None, None, None, b"{}", None)
    ids = [message(event, "s", source=SOURCE, incarnation=1, part=part).id for part in (0, 1)]
    assert ids == ["s:00010203-0405-0607-0809-0a0b0c0d0e0f", "s:00010203-0405-0607-0809-0a0b0c0d0e0f/1"]


def foreign(**changes: object) -> dict[str, object]:
    told: dict[str, object] = {"specversion": "1.0", "id": "x-1", "source": "https://shop", "type": "paid"}
    return {name: value for name, value in {**told, **changes}.items() if value is not None}


def test_a_cloudevent_of_somebody_else_is_read_in_either_mode() -> None:
    body = msgspec.json.encode({**foreign(), "data": {"n": 1}})
    for headers in ({"content-type": STRUCTURED}, {"Content-Type": f"{STRUCTURED}; charset=utf-8"}, {}):
        found = read(Message("s", "", headers, body))
        assert (found.attributes, found.data) == (foreign(), b'{"n":1}')
    told = {f"Ce-{name.title()}": str(value) for name, value in foreign().items()}
    found = read(Message("s", "", {**told, "ce-datacontenttype": "application/json"}, b'{"n":1}'))
    assert found.data == b'{"n":1}'
    assert {name: found.attributes[name] for name in foreign()} == foreign()
    with pytest.raises(InvalidInput, match="not sent by a relay"):
        received(found)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "a JSON object"),
        (b"\xff", "not UTF-8"),
        (msgspec.json.encode(foreign(specversion="0.3")), "reads CloudEvents 1.0"),
        (msgspec.json.encode(foreign(specversion=None)), "reads CloudEvents 1.0"),
        (msgspec.json.encode(foreign(id=None)), '"id" is missing'),
        (msgspec.json.encode(foreign(source="")), '"source" is missing'),
        (msgspec.json.encode(foreign(type=None)), '"type" is missing'),
        (msgspec.json.encode(foreign(data_base64="AA==")), "data_base64"),
        (msgspec.json.encode(foreign(thing=[1])), 'attribute "thing"'),
    ],
)
def test_what_is_no_cloudevent_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(Message("s", "", {"content-type": STRUCTURED}, body))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("position", None, '"position" is missing'),
        ("position", "-1", "no whole number"),
        ("position", "9" * 30, "no whole number"),
        ("incarnation", None, '"incarnation" is missing'),
        ("id", "x", "no UUID"),
        ("part", "2", "do not belong together"),
        ("tenantid", "a b", "is not a name"),
        ("subject", "", '"subject" is missing'),
        ("time", "yesterday", "is not a time"),
        ("correlationid", "7", "no UUID"),
    ],
)
def test_what_no_relay_sends_is_refused_with_the_reason(name: str, value: str | None, why: str) -> None:
    told = foreign(
        id="00010203-0405-0607-0809-0a0b0c0d0e0f", position="7", incarnation="1", tenantid="acme", subject="order-1",
        sequence="2", schemaversion=1, time=rfc3339(5), recordedtime=rfc3339(6),
    )  # fmt: skip
    ok = Message("s", "", {"content-type": STRUCTURED}, msgspec.json.encode(told))
    assert received(read(ok)).stored.position == 7
    changed = {key: text for key, text in {**told, name: value}.items() if text is not None}
    with pytest.raises(InvalidInput, match=why):
        received(read(Message("s", "", {"content-type": STRUCTURED}, msgspec.json.encode(changed))))
