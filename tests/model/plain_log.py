"""What a store must answer, as the shortest Python that says it: a list of events and a few loops.

Slow, in memory, and written from the contract (`everlog.store.contract`, design D2 and D4), not from an adapter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from everlog.core.envelope import (
    Append,
    Appended,
    Head,
    NewEvent,
    Place,
    StoredEvent,
    StoredSnapshot,
    StreamHead,
)
from everlog.core.errors import (
    AppendConditionFailed,
    EverlogError,
    IdempotencyConflict,
    InvalidInput,
    WrongExpectedVersion,
)
from everlog.core.expect import Anything, Exactly, Expect, NoneMatching, NoStream, StreamExists
from everlog.store.query import Filter


class Kept(NamedTuple):
    """An event as it was appended, and where it came to lie."""

    position: int
    version: int
    recorded_at: int
    tenant: str
    new: NewEvent

    @property
    def occurred_at(self) -> int:
        return self.recorded_at if self.new.occurred_at is None else self.new.occurred_at


Refusal = type[EverlogError]
T = TypeVar("T")


class PlainLog:
    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.released: set[int] = set()
        self.snapshots: dict[tuple[str, str, bytes, int], StoredSnapshot] = {}
        self.damaged: set[tuple[str, str, bytes, int]] = set()

    @property
    def recorded_at(self) -> int:
        return self.kept[-1].recorded_at if self.kept else 0

    def version(self, tenant: str, stream: str) -> int:
        return sum((kept.tenant, kept.new.stream) == (tenant, stream) for kept in self.kept)

    def append(self, request: Append, now: int) -> Appended | Refusal:
        known = [kept for event in request.events for kept in self.kept if kept.new.id == event.id]
        if _invalid(request):
            return InvalidInput
        if known:
            return self._first_answer(request, known)
        if any(not _holds(expect, self.version(request.tenant, s)) for s, expect in request.expect.items()):
            return WrongExpectedVersion
        if request.boundary and any(_covers(request.tenant, request.boundary, kept) for kept in self.kept):
            return AppendConditionFailed
        return self._place(request, max(now, self.recorded_at))

    def _first_answer(self, request: Append, known: Sequence[Kept]) -> Appended | Refusal:
        if len(known) < len(request.events) or not all(map(self._same, request.events, known)):
            return IdempotencyConflict
        if any(kept.tenant != request.tenant for kept in known):
            return IdempotencyConflict
        places = tuple(Place(kept.position, kept.version) for kept in known)
        return Appended(places, max(kept.recorded_at for kept in known), replayed=True)

    def _same(self, again: NewEvent, kept: Kept) -> bool:
        """Content is stream, type, schema version, claimed time and, where they are still here, the bytes."""
        data = again.data if kept.position in self.released else kept.new.data
        return _content(again) == _content(kept.new._replace(data=data))

    def _place(self, request: Append, recorded_at: int) -> Appended:
        places = []
        for event in request.events:
            place = Place(len(self.kept) + 1, self.version(request.tenant, event.stream) + 1)
            self.kept.append(Kept(*place, recorded_at, request.tenant, event))
            places.append(place)
        return Appended(tuple(places), recorded_at)

    def stored(self, kept: Kept) -> StoredEvent:
        new, gone = kept.new, kept.position in self.released
        return StoredEvent(
            kept.position, kept.tenant, new.stream, kept.version, new.id, new.type, new.schema_version,
            kept.occurred_at, kept.recorded_at, new.actor, new.correlation_id, new.causation_id,
            None if gone else new.data, None if gone else new.client,
        )  # fmt: skip

    def read(
        self,
        where: Filter,
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[StoredEvent]:
        last = len(self.kept) if upto is None else upto
        found = [kept for kept in self.kept if after < kept.position <= last and self._matches(where, kept)]
        return [self.stored(kept) for kept in _turned(found, backwards)][:limit]

    def _matches(self, where: Filter, kept: Kept) -> bool:
        new = kept.new
        client = {} if new.client is None or kept.position in self.released else json.loads(new.client)
        asked = [
            (where.tenant, kept.tenant),
            (where.stream, new.stream),
            (where.category, new.stream.partition("-")[0]),
            (where.actor, new.actor),
            (where.correlation_id, new.correlation_id),
            (where.causation_id, new.causation_id),
            (where.ip, client.get("ip")),
            (where.user_agent, client.get("user_agent")),
        ]
        return (
            all(wanted is None or wanted == found for wanted, found in asked)
            and _of_types(where.types, new)
            and set(where.tags) <= set(new.tags)
            and _between(where.occurred_since, kept.occurred_at, where.occurred_until)
            and _between(where.recorded_since, kept.recorded_at, where.recorded_until)
        )

    def read_stream(
        self, tenant: str, stream: str, *, after: int = 0, upto: int | None = None, backwards: bool = False
    ) -> list[StoredEvent]:
        events = [event for event in self.read(Filter(tenant, stream)) if after < event.version]
        return _turned([event for event in events if upto is None or event.version <= upto], backwards)

    def find(self, tenant: str, ids: Sequence[bytes]) -> dict[bytes, StoredEvent]:
        return {event.id: event for event in self.read(Filter(tenant)) if event.id in ids}

    def streams(self, tenant: str | None, category: str | None) -> list[StreamHead]:
        events = self.read(Filter(tenant, category=category))
        last = {(event.tenant, event.stream): event for event in events}
        return [StreamHead(*name, last[name].version, last[name].position) for name in sorted(last)]

    def version_at(self, tenant: str, stream: str, *, position: int | None, recorded_at: int | None) -> int:
        return len(self.read(Filter(tenant, stream, recorded_until=recorded_at), upto=position))

    def head(self, first: Head) -> Head:
        return first._replace(position=len(self.kept), recorded_at=self.recorded_at)

    def release(self, positions: Sequence[int]) -> int:
        lost = {position for position in positions if 0 < position <= len(self.kept)} - self.released
        self.released |= lost
        return len(lost)

    def save(self, snapshot: StoredSnapshot) -> None:
        self.snapshots[snapshot[:4]] = snapshot
        self.damaged.discard(snapshot[:4])

    def latest(
        self, tenant: str, stream: str, fingerprint: bytes, *, version: int, occurred_at: int | None
    ) -> StoredSnapshot | None:
        fits = [
            snapshot
            for key, snapshot in self.snapshots.items()
            if key not in self.damaged and key[:3] == (tenant, stream, fingerprint) and key[3] <= version
            if occurred_at is None or snapshot.occurred_at <= occurred_at
        ]
        return max(fits, key=lambda snapshot: snapshot.version, default=None)

    def delete(self, tenant: str | None, stream: str | None, older_than_version: int | None) -> int:
        gone = [
            key
            for key in self.snapshots
            if tenant in (None, key[0]) and stream in (None, key[1])
            if older_than_version is None or key[3] < older_than_version
        ]
        for key in gone:
            del self.snapshots[key]
        self.damaged.difference_update(gone)
        return len(gone)


def _turned(found: list[T], backwards: bool) -> list[T]:
    return found[::-1] if backwards else found


def _invalid(request: Append) -> bool:
    ids = [event.id for event in request.events]
    named = {event.stream for event in request.events}
    return not ids or len(set(ids)) < len(ids) or not request.expect.keys() <= named


def _content(event: NewEvent) -> tuple[object, ...]:
    return event.stream, event.type, event.schema_version, event.occurred_at, event.data


def _holds(expect: Expect, version: int) -> bool:
    match expect:
        case NoStream():
            return version == 0
        case Exactly(wanted):
            return version == wanted
        case StreamExists():
            return version >= 1
        case Anything():
            return True


def _covers(tenant: str, boundary: NoneMatching, kept: Kept) -> bool:
    if kept.tenant != tenant or kept.position <= boundary.after:
        return False
    tags = set(kept.new.tags)
    return any(_of_types(match.types, kept.new) and tags.issuperset(match.tags) for match in boundary.matches)


def _of_types(types: Sequence[tuple[str, int | None]], event: NewEvent) -> bool:
    return not types or any(name == event.type and version in (None, event.schema_version) for name, version in types)


def _between(since: int | None, at: int, until: int | None) -> bool:
    return (since is None or since <= at) and (until is None or at <= until)
