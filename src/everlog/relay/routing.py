"""`Relay`: which events leave, under which subjects and in which form. Nothing leaves that is not listed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from everlog.core.envelope import StoredEvent
from everlog.core.errors import Misconfigured
from everlog.core.names import category_of, tenant_name
from everlog.domain.event import is_event, kind_of
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.relay.cloudevents import Mode, message
from everlog.relay.contract import Message
from everlog.relay.subjects import Address, subject, word
from everlog.store.query import Filter
from everlog.subscription.naming import subscription_name
from everlog.subscription.start import BEGINNING, Start


class All(Enum):
    """The one member says that every type may leave, also those that nobody has thought of yet."""

    ALL = "all"


ALL: Final = All.ALL

Transform = Callable[[Recorded[Any]], object | None]
"""Pure: the payload to send, a JSON object or an event of a declared type, or `None` to send nothing."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A part of a platform: events of these `types` go to the broker, in order; `types=ALL` must be said.

    `tenants` and `tags` narrow it further: of these tenants only, and carrying all of these tags. Subjects begin with
    `prefix` (default: the name), which no other sender may use. What is sent is what is stored, byte for byte, unless
    `transform` makes something else of it. Every `compare_every` seconds, when there is nothing to send, it looks
    whether the broker still holds what it was given. Raises `Misconfigured`.
    """

    name: str
    types: Sequence[type] | Literal[All.ALL]
    tenants: Sequence[str] | None = None
    tags: Sequence[str] = ()
    transform: Transform | None = None
    mode: Mode = "binary"
    prefix: str = ""
    start: Start = BEGINNING
    compare_every: float = 10.0

    def __post_init__(self) -> None:
        subscription_name(self.name)
        listed = () if self.types is ALL else self.types
        if self.types is not ALL and not listed:
            raise Misconfigured(f"relay {self.name!r} lists no type, so nothing would leave: name them, or types=ALL")
        for one in listed:
            if not (isinstance(one, type) and is_event(one)):
                raise Misconfigured(f"relay {self.name!r}: {one!r} is no event class; to let everything out, types=ALL")
        if isinstance(self.tags, str) or isinstance(self.tenants, str):
            raise Misconfigured(f"relay {self.name!r}: tenants and tags are lists, not one text")
        if self.tenants is not None and not self.tenants:
            raise Misconfigured(f"relay {self.name!r}: no tenant is left; leave tenants out for all of them")
        if self.mode not in ("binary", "structured"):
            raise Misconfigured(f"relay {self.name!r}: mode is {self.mode!r}, not 'binary' or 'structured'")
        for tenant in self.tenants or ():
            tenant_name(tenant)

    @property
    def word(self) -> str:
        """The first word of its subjects."""
        return word(self.prefix or self.name)

    @property
    def events(self) -> tuple[type, ...]:
        """The classes it names."""
        return () if self.types is ALL else tuple(self.types)


def relayed(relay: Relay, types: EventTypes) -> Filter:
    """What the database is asked for. Several tenants are told apart behind it."""
    tenant = relay.tenants[0] if relay.tenants is not None and len(set(relay.tenants)) == 1 else None
    # Also versions newer than this code knows: they are relayed as they are.
    listed = types.matching(relay.events) if relay.types is not ALL else ()
    return Filter(tenant, types=listed, tags=tuple(relay.tags))


class Outgoing:
    """Makes the messages of one relay. The same event gives the same messages, as long as the code is the same."""

    def __init__(self, relay: Relay, types: EventTypes, *, source: str, incarnation: int) -> None:
        self.relay, self.source, self.incarnation = relay, source, incarnation
        self._types = types
        self._tenants = None if relay.tenants is None else frozenset(relay.tenants)

    def messages(self, stored: StoredEvent) -> Iterator[tuple[int, Message]]:
        """None for what does not leave, one as a rule, several where a transformed event was split; with their parts.

        Raises what `transform` raises, and `UnreadableEvent` where it is to see an event that nobody can read.
        """
        if self._tenants is not None and stored.tenant not in self._tenants:
            return
        if self.relay.transform is None:
            yield 0, self._message(stored, 0)
            return
        if stored.data is None:  # nobody can say any more whether it was to leave
            return
        for event in self._types.each([stored], self.relay.events):
            made = self.relay.transform(event)
            if made is not None:
                yield event.part, self._message(self._with(stored, event, made), event.part)

    def _with(self, stored: StoredEvent, event: Recorded[Any], made: object) -> StoredEvent:
        if is_event(type(made)):
            kind = kind_of(type(made))
            data = self._types.encode(made).data
            return stored._replace(type=kind.name, schema_version=kind.version, data=data)
        if not isinstance(made, Mapping):
            raise Misconfigured(
                f"the transform of relay {self.relay.name!r} gave {type(made).__name__} for {event.type}: "
                "give a JSON object, an event, or None to send nothing"
            )
        return stored._replace(type=event.type, schema_version=event.schema_version, data=msgspec.json.encode(made))

    def _message(self, stored: StoredEvent, part: int) -> Message:
        address = Address(self.relay.prefix or self.relay.name, stored.tenant, category_of(stored.stream), stored.type)
        return message(
            stored,
            subject(address),
            source=self.source,
            incarnation=self.incarnation,
            part=part,
            mode=self.relay.mode,
        )
