"""The verdicts on one group of appends: known ids first, then conditions, then places (design D4).

Nothing here knows a database: a `Ground` answers what the group asks of the transaction it is in, and takes the rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from everlog.core.envelope import Append, Appended, Place, StoredEvent
from everlog.core.errors import (
    AppendConditionFailed,
    EverlogError,
    IdempotencyConflict,
    SubscriptionFailed,
    WrongExpectedVersion,
)
from everlog.core.expect import Match, NoneMatching
from everlog.store.contract import Verdict
from everlog.store.inline import InlineStates
from everlog.store.prepare import PreparedAppend, PreparedEvent

StreamKey = tuple[str, str]
"""Tenant and stream."""


class Known(NamedTuple):
    """A stored event as far as a retry is compared with it; `data` is `None` once its bytes were released."""

    position: int
    tenant: str
    stream: str
    version: int
    type: str
    schema_version: int
    claimed_at: int | None
    recorded_at: int
    data: bytes | None


class Placed(NamedTuple):
    """One event that will be stored, and where."""

    position: int
    version: int
    tenant: str
    event: PreparedEvent


class Ground(Protocol):
    """The open transaction, asked and written as the group needs it."""

    def look_up(
        self, requests: Sequence[PreparedAppend], known: Mapping[StreamKey, int]
    ) -> tuple[Iterable[bytes], Mapping[StreamKey, int]]:
        """Which event ids of the requests are stored, and the versions of their streams beyond those `known`."""
        ...

    def find_known(self, ids: Sequence[bytes]) -> Mapping[bytes, Known]: ...

    def first_match(self, tenant: str, match: Match, after: int) -> int | None:
        """The position of one event after `after` that the match covers."""
        ...

    def write(self, placed: Sequence[Placed], recorded_at: int) -> None: ...


class Group:
    """The requests of one transaction, in order. Rows are kept until `write`, so that few statements write many."""

    def __init__(self, ground: Ground, position: int, recorded_at: int, inline: InlineStates | None = None) -> None:
        self._ground, self._inline = ground, inline
        self.position, self.recorded_at = position, recorded_at
        self._versions: dict[StreamKey, int] = {}
        self._ids: set[bytes] = set()
        self._stored: set[bytes] = set()
        self._placed: list[Placed] = []

    @property
    def size(self) -> int:
        """How many events are placed."""
        return len(self._ids)

    def add(self, requests: Sequence[PreparedAppend]) -> list[Verdict]:
        """A verdict on each request; later ones of the group see what earlier ones store."""
        stored, versions = self._ground.look_up(requests, self._versions)
        self._stored.update(stored)
        self._versions.update(versions)
        return [self._add(prepared) for prepared in requests]

    def add_or_raise(self, prepared: PreparedAppend) -> Appended:
        """As `add` for one request, in a transaction that ends with the first refusal."""
        [verdict] = self.add([prepared])
        if isinstance(verdict, EverlogError):
            raise verdict
        return verdict

    def write(self) -> None:
        """Hand over the rows that are kept."""
        if self._placed:
            self._ground.write(self._placed, self.recorded_at)
            self._placed = []
            if self._inline is not None:
                self._inline.write()

    def _add(self, prepared: PreparedAppend) -> Verdict:
        try:
            known = self._known(prepared)
            if known:
                return _first_answer(prepared.request, known)
            self._check(prepared.request)
        except EverlogError as error:
            return error
        try:
            return self._place(prepared)
        except SubscriptionFailed as error:
            return error

    def _known(self, prepared: PreparedAppend) -> Mapping[bytes, Known]:
        ids = [event.new.id for event in prepared.events]
        if self._ids.isdisjoint(ids) and self._stored.isdisjoint(ids):
            return {}
        self.write()
        return self._ground.find_known(ids)

    def _check(self, request: Append) -> None:
        for stream, expect in request.expect.items():
            version = self._versions[request.tenant, stream]
            if not expect.holds(version):
                raise WrongExpectedVersion(stream, str(expect), version)
        if request.boundary is not None:
            self.write()
            self._check_boundary(request.tenant, request.boundary)

    def _check_boundary(self, tenant: str, boundary: NoneMatching) -> None:
        for match in boundary.matches:
            found = self._ground.first_match(tenant, match, boundary.after)
            if found is not None:
                raise AppendConditionFailed(
                    f"an event at position {found} matches the boundary after {boundary.after}: "
                    "read up to it and decide again"
                )

    def _place(self, prepared: PreparedAppend) -> Appended:
        tenant, places, position, versions = prepared.request.tenant, [], self.position, self._versions
        if self._inline is not None:
            self._inline.change(self._as_stored(prepared))
        for event in prepared.events:
            new = event.new
            position += 1
            key = tenant, new.stream
            versions[key] = version = versions[key] + 1
            self._placed.append(Placed(position, version, tenant, event))
            self._ids.add(new.id)
            places.append(Place(position, version))
        self.position = position
        return Appended(tuple(places), self.recorded_at)

    def _as_stored(self, prepared: PreparedAppend) -> list[StoredEvent]:
        """The events as they will lie in the log, for inline folds, which may still refuse them."""
        tenant, at, versions, stored = prepared.request.tenant, self.recorded_at, dict[str, int](), []
        for position, (new, *_) in enumerate(prepared.events, self.position + 1):
            versions[new.stream] = version = versions.get(new.stream, self._versions[tenant, new.stream]) + 1
            occurred_at = at if new.occurred_at is None else new.occurred_at
            stored.append(StoredEvent(
                position, tenant, new.stream, version, new.id, new.type, new.schema_version, occurred_at, at,
                new.actor, new.correlation_id, new.causation_id, new.data, new.client,
            ))  # fmt: skip
        return stored


def _first_answer(request: Append, known: Mapping[bytes, Known]) -> Appended:
    """The answer given when these ids were stored; raises `IdempotencyConflict` unless it is the same append."""
    if any(event.tenant != request.tenant for event in known.values()):
        raise IdempotencyConflict("an event id is not available: give every event a new one")
    if len(known) < len(request.events):
        raise IdempotencyConflict(
            f"{len(known)} of the batch's {len(request.events)} event ids are known: retry exactly the batch of then, "
            "or give the new events new ids"
        )
    places, recorded = [], 0
    for event in request.events:
        found = known[event.id]
        data = event.data if found.data is None else found.data
        stored = (found.stream, found.type, found.schema_version, found.claimed_at, data)
        if stored != (event.stream, event.type, event.schema_version, event.occurred_at, event.data):
            raise IdempotencyConflict(
                f"event id {event.id.hex()} is known with other content, at position {found.position}: "
                "retry with the same content, or give the event a new id"
            )
        places.append(Place(found.position, found.version))
        recorded = max(recorded, found.recorded_at)
    return Appended(tuple(places), recorded, replayed=True)
