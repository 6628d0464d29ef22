"""What can be done for an append before the head is locked: check it, salt it, hash it."""

import os
from dataclasses import dataclass
from typing import NamedTuple

from everlog.core import limits
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import InvalidInput
from everlog.core.names import printable, stream_name, tenant_name, type_name
from everlog.store.leaf import SALT_BYTES, Segment, content_hash, segment_hashes


class PreparedEvent(NamedTuple):
    new: NewEvent
    salt: bytes
    client_salt: bytes | None
    segment_hashes: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class PreparedAppend:
    request: Append
    events: tuple[PreparedEvent, ...]


def prepare(request: Append, log_id: bytes) -> PreparedAppend:
    """Check every rule and limit that needs no database; raises `InvalidInput` and names the one that was broken."""
    _check_batch(request)
    tenant = request.tenant
    return PreparedAppend(request, tuple([_prepare_event(tenant, event, log_id) for event in request.events]))


def _prepare_event(tenant: str, event: NewEvent, log_id: bytes) -> PreparedEvent:
    _check_event(event)
    salts = os.urandom(2 * SALT_BYTES)
    salt, client_salt = salts[:SALT_BYTES], None
    segments = [Segment("data", salt, event.data)]
    if event.client is not None:
        client_salt = salts[SALT_BYTES:]
        segments.append(Segment("client", client_salt, event.client))
    hashes = segment_hashes(segments)
    return PreparedEvent(event, salt, client_salt, hashes, content_hash(log_id, tenant, event, hashes))


def _check_batch(request: Append) -> None:
    tenant_name(request.tenant)
    events = request.events
    if not events:
        raise InvalidInput("an append needs at least one event")
    if len(events) > limits.BATCH_EVENTS:
        raise InvalidInput(f"a batch holds at most {limits.BATCH_EVENTS} events, not {len(events)}: split it")
    if len(events) > 1:
        size = sum(len(event.data) for event in events)
        if size > limits.BATCH_BYTES:
            raise InvalidInput(f"a batch holds at most {limits.BATCH_BYTES} bytes of data, not {size}: split it")
        if len({event.id for event in events}) != len(events):
            raise InvalidInput("two events of one batch have the same id: give each its own")
    for stream in request.expect.keys() - {event.stream for event in events}:
        raise InvalidInput(f"a condition names {stream}, but the batch has no event for it: use a boundary instead")


def _check_event(event: NewEvent) -> None:
    stream_name(event.stream)
    type_name(event.type)
    if len(event.id) != 16:
        raise InvalidInput(f"an event id has 16 bytes, not {len(event.id)}")
    if event.schema_version < 1:
        raise InvalidInput(f"{event.type} has schema version {event.schema_version}: they start at 1")
    if len(event.data) + len(event.client or b"") > limits.EVENT_BYTES:
        raise InvalidInput(
            f"{event.type} has {len(event.data)} bytes, more than {limits.EVENT_BYTES}: "
            "keep large content elsewhere and put its address and hash in the event"
        )
    if event.actor is not None:
        printable("actor", event.actor)
    if len(event.tags) > limits.EVENT_TAGS:
        raise InvalidInput(f"{event.type} has {len(event.tags)} tags, more than {limits.EVENT_TAGS}")
    for tag in event.tags:
        printable("tag", tag)
