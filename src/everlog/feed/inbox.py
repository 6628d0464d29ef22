"""`CommandInbox`: CloudEvents from anybody, at a subject of the broker, become commands of ours, once each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.ids import derived_id
from everlog.core.names import DEFAULT_TENANT, tenant_name
from everlog.domain.decider import Decider
from everlog.processing.processor import RETRY, Retry
from everlog.relay.cloudevents import CloudEvent, read
from everlog.relay.contract import Message
from everlog.subscription.naming import subscription_name

C = TypeVar("C")


class Order(NamedTuple):
    """What a message asks for: a command to one aggregate of one tenant, under an id that a repeat has too."""

    tenant: str
    id: str
    command: Any
    request_id: str
    correlation_id: UUID | None


@dataclass(frozen=True)
class CommandInbox(Generic[C]):
    """A part of a platform: messages below `subject` are commands for the decider `to`.

    With `command` the data of the CloudEvent are that command, and its `subject` is the id of the aggregate. `map`
    makes id and command of it in your words, `None` for what asks for nothing. Raise `InvalidInput`, or anything else,
    for what cannot be understood. `tenant` is whose commands these are, or a function that says so of a CloudEvent:
    what others write into one is theirs to say, so check it there. `stream` is the broker's, if the subject is not
    kept in the one that the worker is fed from.

    Raises `Misconfigured`.
    """

    name: str
    subject: str
    to: Decider[C, Any, Any]
    command: type[C] | None = None
    map: Callable[[CloudEvent], tuple[str, C] | None] | None = None
    tenant: str | Callable[[CloudEvent], str] = DEFAULT_TENANT
    stream: str | None = None
    retry: Retry = RETRY

    def __post_init__(self) -> None:
        subscription_name(self.name)
        if (self.command is None) == (self.map is None):
            raise Misconfigured(
                f"command inbox {self.name!r} needs one of command=, the class that the data are, and map=, a function"
            )
        if not self.subject or any(not word or " " in word for word in self.subject.split(".")):
            raise Misconfigured(f"command inbox {self.name!r}: {self.subject!r} is no subject, such as shop.orders.>")
        if isinstance(self.tenant, str):
            tenant_name(self.tenant)

    def order(self, message: Message) -> Order | None:
        """What a message asks for, `None` for nothing; raises `InvalidInput` when that cannot be understood."""
        event = read(message)
        tenant = tenant_name(self.tenant if isinstance(self.tenant, str) else self.tenant(event))
        made = self._decoded(event) if self.map is None else self.map(event)
        if made is None:
            return None
        source, id = event.text("source") or "", event.text("id") or ""
        # Also by our name: two inboxes may make something of the same event.
        request = derived_id(tenant, "command inbox", self.name, source, id).hex()
        return Order(tenant, *made, request_id=f"{self.name} {request}", correlation_id=_correlation(event))

    def _decoded(self, event: CloudEvent) -> tuple[str, C]:
        assert self.command is not None
        id = event.text("subject")
        if not id:
            raise InvalidInput('"subject" is missing: it is the id of what the command is for')
        try:
            return id, msgspec.json.decode(event.data or b"", type=self.command)
        except msgspec.DecodeError as error:  # a ValidationError too
            raise InvalidInput(f"the data are no {self.command.__name__}: {error}") from error


def _correlation(event: CloudEvent) -> UUID | None:
    try:
        return UUID(event.text("correlationid") or "")
    except ValueError:
        return None
