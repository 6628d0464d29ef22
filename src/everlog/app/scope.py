"""What a session of one tenant asks of the floors below, as values: shared by the blocking and the async session."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypedDict, TypeVar
from uuid import UUID

import msgspec

from everlog.command.execute import Context, Execution, new_event
from everlog.command.load import Loader
from everlog.core.clock import micros
from everlog.core.envelope import Append
from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.expect import ANYTHING, Expect, NoneMatching
from everlog.core.ids import derived_id, new_id
from everlog.core.names import actor_name
from everlog.domain.criteria import Criteria
from everlog.domain.decider import Decider
from everlog.domain.recorded import client_field
from everlog.domain.types import EventTypes
from everlog.store.query import Filter
from everlog.telemetry import Counters

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")


class Acting(TypedDict, total=False):
    """Who acts and why: recorded with every event of the session."""

    actor: str | None
    ip: str | None
    user_agent: str | None
    correlation_id: UUID | None
    causation_id: UUID | None


class Where(TypedDict, total=False):
    """Which events: all conditions given must hold. Times are aware, both ends included; `tags` must all be carried.

    `named` are stored type names, whatever their version, declared or not. Of what is found, `after` < position <=
    `upto`, in log order or `backwards`, at most `limit` events.
    """

    stream: str | None
    category: str | None
    named: Sequence[str]
    tags: Sequence[str]
    actor: str | None
    correlation_id: UUID | None
    causation_id: UUID | None
    ip: str | None
    user_agent: str | None
    occurred_since: datetime | None
    occurred_until: datetime | None
    recorded_since: datetime | None
    recorded_until: datetime | None
    after: int
    upto: int | None
    backwards: bool
    limit: int | None


class Write:
    """Events for one stream, as part of a batch: `Write("order-1", Placed(…), expect=NoStream())`."""

    __slots__ = ("events", "expect", "occurred_at", "stream")

    def __init__(self, stream: str, *events: object, expect: Expect = ANYTHING, occurred_at: datetime | None = None):
        self.stream, self.events, self.expect, self.occurred_at = stream, events, expect, occurred_at


@dataclass(frozen=True, slots=True)
class Scope:
    """One tenant (`None`: all, for the admin), one context, and the platform's types."""

    types: EventTypes
    loaders: Mapping[str, Loader[Any]]
    counters: Counters
    tenant: str | None
    context: Context

    def acting(self, acting: Acting) -> "Scope":
        return replace(self, context=_context(self.context, acting))

    def bound(self) -> str:
        if self.tenant is None:
            raise Misconfigured("this needs a tenant: use log.tenant(name)")
        return self.tenant

    def filter(self, types: Sequence[type], where: Where) -> Filter:
        return Filter(
            tenant=self.tenant,
            stream=where.get("stream"),
            category=where.get("category"),
            types=self.types.matching(types)
            + tuple((name, None) for name in _several(where.get("named", ()), "named")),
            tags=_several(where.get("tags", ()), "tags"),
            actor=where.get("actor"),
            correlation_id=_bytes(where.get("correlation_id")),
            causation_id=_bytes(where.get("causation_id")),
            ip=where.get("ip"),
            user_agent=where.get("user_agent"),
            occurred_since=_micros(where.get("occurred_since")),
            occurred_until=_micros(where.get("occurred_until")),
            recorded_since=_micros(where.get("recorded_since")),
            recorded_until=_micros(where.get("recorded_until")),
        )

    def append(
        self,
        writes: Sequence[Write],
        unless: Criteria | Sequence[Criteria],
        after: int,
        ids: Sequence[UUID] | None,
        request_id: str | None,
    ) -> Append:
        tenant = self.bound()
        made = iter(_ids(tenant, sum([len(write.events) for write in writes]), ids, request_id))
        expect = {write.stream: write.expect for write in writes}
        if len(expect) != len(writes):
            raise InvalidInput("a batch names a stream twice: put all events of a stream into one Write")
        new = [
            new_event(self.types, write.stream, event, next(made), self.context, _micros(write.occurred_at))
            for write in writes
            for event in write.events
        ]
        return Append(tenant, tuple(new), expect, self.boundary(unless, after))

    def request(self, id: str) -> bytes:
        """The id of the first event of a request."""
        return _ids(self.bound(), 1, None, id)[0]

    def execution(
        self,
        decider: Decider[C, S, E],
        id: str,
        command: C,
        request_id: str | None,
        attempts: int,
        boundary: NoneMatching | None,
    ) -> Execution[S, E]:
        return Execution(
            self.loader(decider), self.types, self.counters, self.bound(), decider.stream(id), command,
            self.context, request_id, attempts, boundary,
        )  # fmt: skip

    def boundary(self, unless: Criteria | Sequence[Criteria], after: int) -> NoneMatching | None:
        """The dynamic boundary of an append: no event matching any of `unless` behind `after`."""
        criteria = [unless] if isinstance(unless, Criteria) else unless
        if after and not criteria:
            raise InvalidInput(f"after={after} alone asks nothing: say with unless= what must not lie behind it")
        return NoneMatching(tuple(one.match(self.types) for one in criteria), after) if criteria else None

    def loader(self, decider: Decider[Any, S, Any]) -> Loader[S]:
        loader = self.loaders.get(decider.name)
        if loader is None or loader.decider is not decider:
            raise Misconfigured(f"decider {decider.name!r} is not part of this platform: give it to Platform(…)")
        return loader


def _context(base: Context, acting: Acting) -> Context:
    client = base.client
    if "ip" in acting or "user_agent" in acting:
        before = {name: client_field(client, name) for name in ("ip", "user_agent")}
        named = {name: acting.get(name, before[name]) for name in before}
        known = {name: value for name, value in named.items() if value is not None}
        client = msgspec.json.encode(known) if known else None
    actor = acting.get("actor", base.actor)
    return Context(
        actor=None if actor is None else actor_name(actor),
        client=client,
        correlation_id=_bytes(acting["correlation_id"]) if "correlation_id" in acting else base.correlation_id,
        causation_id=_bytes(acting["causation_id"]) if "causation_id" in acting else base.causation_id,
    )


def _ids(tenant: str, count: int, ids: Sequence[UUID] | None, request_id: str | None) -> list[bytes]:
    if ids is not None and request_id is not None:
        raise InvalidInput("give ids or a request_id, not both")
    if ids is not None:
        if len(ids) != count:
            raise InvalidInput(f"{count} events need {count} ids, not {len(ids)}")
        return [id.bytes for id in ids]
    if request_id is not None:
        return [derived_id(tenant, "request", request_id, number) for number in range(count)]
    return [new_id() for _ in range(count)]


def _several(texts: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(texts, str):  # a sequence of texts too, each of one letter, which would find nothing
        raise InvalidInput(f"{what}={texts!r} is one text: write {what}=[{texts!r}]")
    return tuple(texts)


def _bytes(value: UUID | None) -> bytes | None:
    return None if value is None else value.bytes


def _micros(value: datetime | None) -> int | None:
    return None if value is None else micros(value)
