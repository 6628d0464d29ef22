"""Stored events as CloudEvents 1.0 messages, and back: structured (JSON in the body) and binary (`ce-` headers).

What is relayed is what is stored, byte for byte: consumers run the same processors with their own upcasters. What is
personal in the envelope (ip, user agent) never leaves.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from everlog.core import limits
from everlog.core.clock import parse_time
from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput
from everlog.core.json import parse_json
from everlog.core.names import stream_name, tenant_name, type_name
from everlog.domain.cloudevents import JSON, attributes, event_key
from everlog.relay.contract import Message

Mode = Literal["binary", "structured"]

STRUCTURED = "application/cloudevents+json"
PREFIX = "ce-"
# The HTTP binding's rule, which the NATS binding shares: printable ASCII stays, but for space, quote and percent.
_AS_IS = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
_PLAIN = re.compile(r"[!#$&-~]*")


class CloudEvent(NamedTuple):
    """Anybody's: its attributes but for the data, and the data's bytes, `None` where it has none."""

    attributes: Mapping[str, str | int]
    data: bytes | None

    def text(self, name: str) -> str | None:
        """An attribute as text; binary messages know no other kind."""
        value = self.attributes.get(name)
        return None if value is None else str(value)


class Received(NamedTuple):
    """One of ours: the event, the incarnation of the log it is from, and which part of it (0 unless it was split)."""

    stored: StoredEvent
    incarnation: int
    part: int
    source: str

    @property
    def mark(self) -> tuple[int, int, int]:
        """What an inbox remembers it by."""
        return self.incarnation, self.stored.position, self.part


def message(
    stored: StoredEvent, subject: str, *, source: str, incarnation: int, part: int = 0, mode: Mode = "binary"
) -> Message:
    """The message of one event. Its id is the event's, behind the first word of the subject.

    So a broker that drops what has the same id keeps what several relays send of one event.
    """
    id = f"{subject.partition('.')[0]}:{event_key(stored, part)}"
    told = attributes(stored, source, type_name=stored.type, schema_version=stored.schema_version, part=part)
    told["incarnation"] = str(incarnation)
    if part:
        told["part"] = str(part)
    if mode == "binary":
        headers = {PREFIX + name: _header(str(value)) for name, value in told.items()}
        return Message(subject, id, headers, stored.data or b"")
    body: dict[str, object] = dict(told)
    if stored.data is not None:
        body["data"] = msgspec.Raw(stored.data)
    return Message(subject, id, {"content-type": STRUCTURED}, msgspec.json.encode(body))


def _header(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else quote(value, safe=_AS_IS)


def read(message: Message) -> CloudEvent:
    """The CloudEvent in a message of either mode, from any sender; raises `InvalidInput` saying what is wrong."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    is_binary = f"{PREFIX}specversion" in headers
    if headers.get("content-type", "" if is_binary else STRUCTURED).startswith("application/cloudevents"):
        found = _structured(message.body)
    else:
        told = {name[len(PREFIX) :]: unquote(value) for name, value in headers.items() if name.startswith(PREFIX)}
        # Its media type says that there is data, also where that is empty.
        found = CloudEvent(told, message.body if message.body or "datacontenttype" in told else None)
    if found.text("specversion") != "1.0":
        raise InvalidInput(f'"specversion" is {found.text("specversion")!r}: everlog reads CloudEvents 1.0')
    for name in ("id", "source", "type"):
        if not found.text(name):
            raise InvalidInput(f'"{name}" is missing')
    return found


def received(cloud: CloudEvent) -> Received:
    """The event that a relay sent; raises `InvalidInput` for a CloudEvent that is from elsewhere."""
    id, _, numbered = (cloud.text("id") or "").partition("/")
    part = _number(cloud, "part", "0")
    if numbered != (str(part) if part else ""):
        raise InvalidInput(f'"id" {cloud.text("id")!r} and "part" {part} do not belong together')
    stored = StoredEvent(
        position=_number(cloud, "position"),
        tenant=tenant_name(_needed(cloud, "tenantid")),
        stream=stream_name(_needed(cloud, "subject")),
        version=_number(cloud, "sequence"),
        id=_uuid("id", id),
        type=type_name(_needed(cloud, "type")),
        schema_version=_number(cloud, "schemaversion"),
        occurred_at=parse_time(_needed(cloud, "time")),
        recorded_at=parse_time(_needed(cloud, "recordedtime")),
        actor=cloud.text("authid"),
        correlation_id=_optional_uuid(cloud, "correlationid"),
        causation_id=_optional_uuid(cloud, "causationid"),
        data=cloud.data,
        client=None,
    )
    return Received(stored, _number(cloud, "incarnation"), part, _needed(cloud, "source"))


def _structured(body: bytes) -> CloudEvent:
    # Strictly, and again for the data's own bytes: of a number that is parsed and written again digits may be lost.
    # The envelope is one level around the data.
    parsed = parse_json(body, depth=limits.JSON_DEPTH + 1)
    if not isinstance(parsed, dict):
        raise InvalidInput("a structured CloudEvent is a JSON object")
    raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if "data_base64" in parsed:
        raise InvalidInput(f'"data_base64" holds bytes, and everlog reads JSON: send "data" as {JSON}')
    told: dict[str, Any] = {name: value for name, value in parsed.items() if name != "data" and value is not None}
    for name, value in told.items():
        if not isinstance(value, str | int):
            raise InvalidInput(f'attribute "{name}" is {value!r:.60}: a CloudEvents attribute is text or a number')
    return CloudEvent(told, bytes(raw["data"]) if "data" in raw else None)


def _needed(cloud: CloudEvent, name: str) -> str:
    text = cloud.text(name)
    if not text:
        raise InvalidInput(f'"{name}" is missing: this CloudEvent was not sent by a relay of everlog')
    return text


def _number(cloud: CloudEvent, name: str, default: str | None = None) -> int:
    text = cloud.text(name) or default or _needed(cloud, name)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidInput(f'"{name}" is {text!r:.60}, which is no whole number')
    return int(text)


def _optional_uuid(cloud: CloudEvent, name: str) -> bytes | None:
    text = cloud.text(name)
    return None if text is None else _uuid(name, text)


def _uuid(name: str, text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError as error:
        raise InvalidInput(f'"{name}" is {text!r:.60}, which is no UUID') from error
