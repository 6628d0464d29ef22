"""`Recorded[E]`: an event as it lies in the log, envelope and lazily decoded data (design D7)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from everlog.core.clock import moment
from everlog.core.envelope import StoredEvent
from everlog.core.errors import PayloadReleased, UnreadableEvent
from everlog.domain.cloudevents import attributes, event_key

E_co = TypeVar("E_co", covariant=True)

_UNREAD: Any = object()


class Recorded(Generic[E_co]):
    """One event as read. Immutable; equal when log position and part are.

    `part` counts the events an upcaster made of one stored event; they share position, id and version.
    """

    __slots__ = ("_data", "_decode", "_raw", "part", "schema_version", "stored", "type")

    def __init__(
        self,
        stored: StoredEvent,
        decode: Callable[[Any], E_co],
        raw: Any,
        type_name: str,
        schema_version: int,
        part: int,
    ) -> None:
        self.stored = stored
        self.type = type_name
        self.schema_version = schema_version
        self.part = part
        self._decode = decode
        self._raw = raw
        self._data = _UNREAD

    @classmethod
    def of(cls, stored: StoredEvent, data: Any, type_name: str, schema_version: int, part: int) -> "Recorded[Any]":
        """An event whose data is decoded already, such as one that came from another process."""
        made: Recorded[Any] = cls(stored, lambda raw: data, stored.data, type_name, schema_version, part)
        made._data = data
        return made

    @property
    def key(self) -> str:
        """Stable and unique: give it to services that drop what they have seen before."""
        return event_key(self.stored, self.part)

    @property
    def data(self) -> E_co:
        """The event itself. Raises `UnknownEventType`, `PayloadReleased` or `UnreadableEvent`, naming the position."""
        if self._data is _UNREAD:
            if self._raw is None:
                raise PayloadReleased(self.position, self.type, self.schema_version, "its bytes were released")
            try:
                self._data = self._decode(self._raw)
            except UnreadableEvent:
                raise
            except Exception as error:  # a type may check itself, and raise what it likes
                raise UnreadableEvent(self.position, self.type, self.schema_version, str(error)) from error
        return self._data  # type: ignore[no-any-return]

    @property
    def position(self) -> int:
        return self.stored.position

    @property
    def version(self) -> int:
        return self.stored.version

    @property
    def stream(self) -> str:
        return self.stored.stream

    @property
    def tenant(self) -> str:
        return self.stored.tenant

    @property
    def actor(self) -> str | None:
        return self.stored.actor

    @property
    def id(self) -> UUID:
        return UUID(bytes=self.stored.id)

    @property
    def correlation_id(self) -> UUID | None:
        return _uuid(self.stored.correlation_id)

    @property
    def causation_id(self) -> UUID | None:
        return _uuid(self.stored.causation_id)

    @property
    def occurred_at(self) -> datetime:
        return moment(self.stored.occurred_at)

    @property
    def recorded_at(self) -> datetime:
        return moment(self.stored.recorded_at)

    @property
    def ip(self) -> str | None:
        return client_field(self.stored.client, "ip")

    @property
    def user_agent(self) -> str | None:
        return client_field(self.stored.client, "user_agent")

    def json(self) -> dict[str, Any]:
        """The data as a plain JSON object, whether or not its type is declared."""
        if self._raw is None:
            raise PayloadReleased(self.position, self.type, self.schema_version, "its bytes were released")
        return msgspec.json.decode(self._raw) if isinstance(self._raw, bytes) else dict(self._raw)

    def cloudevent(self, source: str = "everlog") -> dict[str, Any]:
        """The CloudEvents 1.0 JSON form (structured mode); positions are strings, absent attributes are left out."""
        told = attributes(self.stored, source, type_name=self.type, schema_version=self.schema_version, part=self.part)
        personal = {"clientip": self.ip, "useragent": self.user_agent}
        data = {} if self._raw is None else {"data": self.json()}
        return {**told, **{name: value for name, value in personal.items() if value is not None}, **data}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recorded) and (self.stored, self.part) == (other.stored, other.part)

    def __hash__(self) -> int:
        return hash((self.stored, self.part))

    def __repr__(self) -> str:
        return f"Recorded({self.type} v{self.schema_version} at {self.position}, {self.stream} v{self.version})"


def client_field(client: bytes | None, name: str) -> str | None:
    """`ip` or `user_agent` of a stored client segment."""
    return None if client is None else msgspec.json.decode(client).get(name)


def _uuid(raw: bytes | None) -> UUID | None:
    return None if raw is None else UUID(bytes=raw)
