"""What can be done for an append before the head is locked: check it, salt it, hash it."""

import os
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from everlog.core import limits
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import InvalidInput
from everlog.core.expect import NoneMatching
from everlog.core.names import actor_name, printable, stream_name, tenant_name, type_name
from everlog.store.leaf import SALT_BYTES, content_hash, segment_hash

_client = msgspec.json.Decoder(dict[str, str | None])


class PreparedEvent(NamedTuple):
    new: NewEvent
    salt: bytes
    client_salt: bytes | None
    segment_hashes: bytes
    content: bytes


class PreparedAppend(NamedTuple):
    request: Append
    events: tuple[PreparedEvent, ...]


def prepare(request: Append, log_id: bytes) -> PreparedAppend:
    """Check every rule and limit that needs no database; raises `InvalidInput` and names the one that was broken."""
    _check_batch(request)
    tenant = request.tenant
    return PreparedAppend(request, tuple([_prepare_event(tenant, event, log_id) for event in request.events]))


def _prepare_event(tenant: str, event: NewEvent, log_id: bytes) -> PreparedEvent:
    _check_event(event)
    salt, client_salt = os.urandom(SALT_BYTES), None
    hashes = segment_hash("data", salt, event.data)
    if event.client is not None:
        client_salt = os.urandom(SALT_BYTES)
        hashes += segment_hash("client", client_salt, event.client)
    return PreparedEvent(event, salt, client_salt, hashes, content_hash(log_id, tenant, event, hashes))


def _check_batch(request: Append) -> None:
    tenant_name(request.tenant)
    events = request.events
    if not events:
        raise InvalidInput("an append needs at least one event")
    if len(events) > limits.BATCH_EVENTS:
        raise InvalidInput(f"a batch holds at most {limits.BATCH_EVENTS} events, not {len(events)}: split it")
    if len(events) > 1:
        size = sum(len(event.data) + len(event.client or b"") for event in events)
        if size > limits.BATCH_BYTES:
            raise InvalidInput(f"a batch holds at most {limits.BATCH_BYTES} bytes, not {size}: split it")
        if len({event.id for event in events}) != len(events):
            raise InvalidInput("two events of one batch have the same id: give each its own")
    for stream in request.expect.keys() - {event.stream for event in events}:
        raise InvalidInput(f"a condition names {stream}, but the batch has no event for it: use a boundary instead")
    if request.boundary is not None:
        _check_boundary(request.boundary)


def _check_event(event: NewEvent) -> None:
    stream_name(event.stream)
    type_name(event.type)
    if len(event.id) != 16:
        raise InvalidInput(f"an event id has 16 bytes, not {len(event.id)}")
    if not 1 <= event.schema_version <= limits.LARGEST_INTEGER:
        raise InvalidInput(f"{event.type} has schema version {event.schema_version}: use 1 or more, up to 64 bits")
    _check_origin(event)
    size = len(event.data) + len(event.client or b"")
    if size > limits.EVENT_BYTES:
        raise InvalidInput(
            f"{event.type} has {size} bytes, more than {limits.EVENT_BYTES}: "
            "keep large content elsewhere and put its address and hash in the event"
        )
    if len(event.tags) > limits.EVENT_TAGS:
        raise InvalidInput(f"{event.type} has {len(event.tags)} tags, more than {limits.EVENT_TAGS}")
    _check_tags(event.tags)


def _check_origin(event: NewEvent) -> None:
    """When, by whom, from where and because of what."""
    if event.occurred_at is not None and not limits.SMALLEST_INTEGER <= event.occurred_at <= limits.LARGEST_INTEGER:
        raise InvalidInput(f"{event.type} occurred at {event.occurred_at}: microseconds have 64 bits")
    if event.actor is not None:
        actor_name(event.actor)
    for id in (event.correlation_id, event.causation_id):
        if id is not None and len(id) != 16:
            raise InvalidInput(f"correlation and causation ids have 16 bytes, not {len(id)}")
    if event.client is not None:
        try:
            _client.decode(event.client)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the client of {event.type} is no JSON object of texts: {error}") from error


def _check_boundary(boundary: NoneMatching) -> None:
    # Whatever no database can bind or plan is refused here: under the lock it would fail its neighbours too.
    terms = sum(len(match.types) + len(match.tags) for match in boundary.matches)
    if terms > limits.BOUNDARY_TERMS:
        raise InvalidInput(f"a boundary holds at most {limits.BOUNDARY_TERMS} types and tags, not {terms}: narrow it")
    if not limits.SMALLEST_INTEGER <= boundary.after <= limits.LARGEST_INTEGER:
        raise InvalidInput(f"a boundary after {boundary.after}: a position has 64 bits")
    for match in boundary.matches:
        _check_tags(match.tags)
        for name, version in match.types:
            type_name(name)
            if version is not None and not 1 <= version <= limits.LARGEST_INTEGER:
                raise InvalidInput(f"a boundary names {name} v{version}: use 1 or more, up to 64 bits")


def _check_tags(tags: Iterable[str]) -> None:
    for tag in tags:
        printable("tag", tag)
