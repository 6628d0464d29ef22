"""All event types of a platform: from class to bytes, from stored event to what it is today."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput, Misconfigured, UnknownEventType, UnreadableEvent
from everlog.domain.codec import Codec
from everlog.domain.event import EventKind, check_fields, kind_of
from everlog.domain.recorded import Recorded
from everlog.domain.upcast import TypeVersion, Upcaster, UpcasterChain


class Encoded(NamedTuple):
    """One event ready to be stored."""

    type: str
    schema_version: int
    data: bytes
    tags: tuple[str, ...]


class EventTypes:
    """The declared types and their upcasters; immutable, thread-safe, built once with the platform."""

    def __init__(self, classes: Iterable[type], upcasters: Iterable[Upcaster] = ()) -> None:
        self.kinds: Mapping[str, EventKind] = MappingProxyType(_by_name(classes))
        self.chain = UpcasterChain.of(upcasters, {kind.name: kind.version for kind in self.kinds.values()})
        self._codecs: dict[type, tuple[EventKind, Codec[Any]]] = {}
        self._current: dict[tuple[str, int], Codec[Any]] = {}
        for kind in self.kinds.values():
            check_fields(kind.cls)
            codec: Codec[Any] = Codec(kind.cls)
            self._codecs[kind.cls] = (kind, codec)
            self._current[kind.name, kind.version] = codec

    def encode(self, event: object) -> Encoded:
        """Raises `InvalidInput` for an object of a class this platform does not declare, or that JSON cannot hold."""
        found = self._codecs.get(type(event))
        if found is None:
            kind_of(type(event))
            raise InvalidInput(f"{type(event).__name__} is not part of this platform: add the class to Platform(…)")
        kind, codec = found
        return Encoded(kind.name, kind.version, codec.encode(event), kind.tags_of(event))

    def decoders(self, classes: Iterable[type]) -> Mapping[tuple[str, int], Callable[[bytes], Any]]:
        """How today's versions of these classes are decoded, by stored type and version."""
        kinds = [kind_of(cls) for cls in classes]
        return {(kind.name, kind.version): self._current[kind.name, kind.version].decode for kind in kinds}

    def stored_as(self, classes: Iterable[type]) -> tuple[TypeVersion, ...]:
        """Every stored (type, version) that can yield one of `classes`, oldest steps included."""
        found: dict[TypeVersion, None] = {}
        for cls in classes:
            kind = kind_of(cls)
            found.update(dict.fromkeys(self.chain.sources_of(TypeVersion(kind.name, kind.version))))
        return tuple(found)

    def matching(self, classes: Iterable[type]) -> tuple[tuple[str, int | None], ...]:
        """As `stored_as`, in any version of these types: a reader who asks for them must be told of newer ones too."""
        classes = tuple(classes)
        names = dict.fromkeys(kind_of(cls).name for cls in classes)
        older = [source for source in self.stored_as(classes) if source.name not in names]
        return (*((name, None) for name in names), *older)

    def may_become(self, event: Recorded[Any], names: Container[str]) -> bool:
        """Whether an event that could not be upcast, so that it still is what was stored, could be one of `names`."""
        source = TypeVersion(event.type, event.schema_version)
        return source in self.chain.steps and any(one.name in names for one in self.chain.results_of(source))

    def recorded(self, stored: StoredEvent) -> Sequence[Recorded[Any]]:
        """What a stored event is today: usually one, none when dropped, several when split.

        Never raises for a type it does not know, or a newer version: only asking for the `data` of such an event does.
        """
        codec = self._current.get((stored.type, stored.schema_version))
        if codec is not None:
            return (Recorded(stored, codec.decode, stored.data, stored.type, stored.schema_version, 0),)
        source = TypeVersion(stored.type, stored.schema_version)
        if source not in self.chain.steps:
            return (Recorded(stored, _unknown(stored), stored.data, stored.type, stored.schema_version, 0),)
        if stored.data is None:
            return (Recorded(stored, _unknown(stored), None, stored.type, stored.schema_version, 0),)
        return self._upcast(stored, source, stored.data)

    def each(self, events: Iterable[StoredEvent], classes: Sequence[type] = ()) -> Iterator[Recorded[Any]]:
        """The events of these classes (all, when none is named), as they are today."""
        if not classes:
            for stored in events:
                yield from self.recorded(stored)
            return
        wanted = {kind_of(cls).name for cls in classes}
        for stored in events:
            for event in self.recorded(stored):
                if event.type in wanted or self.may_become(event, wanted):
                    yield event

    def _upcast(self, stored: StoredEvent, source: TypeVersion, data: bytes) -> Sequence[Recorded[Any]]:
        try:
            parts = self.chain(source, msgspec.json.decode(data))
        except Exception as error:
            # Only who asks for what the step should have made is stopped, and told where the step failed, and on what.
            reason = f"its upcaster failed: {type(error).__name__}: {error}"
            return (Recorded(stored, _raising(stored, reason), data, *source, 0),)
        return [
            Recorded(stored, self._current[target].convert, changed, *target, number)
            for number, (target, changed) in enumerate(parts)
        ]


def _by_name(classes: Iterable[type]) -> dict[str, EventKind]:
    kinds: dict[str, EventKind] = {}
    for cls in classes:
        kind = kind_of(cls)
        other = kinds.setdefault(kind.name, kind)
        if other.cls is not cls:
            raise Misconfigured(
                f"{_path(cls)} and {_path(other.cls)} are both named {kind.name!r}: rename one, "
                "or keep only the newest version's class and upcast to it"
            )
    return kinds


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _unknown(stored: StoredEvent) -> Callable[[Any], Any]:
    def refuse(raw: object) -> Any:
        raise UnknownEventType(
            stored.position, stored.type, stored.schema_version,
            "this platform declares no such type, or only other versions: deploy the newer code or add an upcaster",
        )  # fmt: skip

    return refuse


def _raising(stored: StoredEvent, reason: str) -> Callable[[Any], Any]:
    def refuse(raw: object) -> Any:
        raise UnreadableEvent(stored.position, stored.type, stored.schema_version, reason)

    return refuse
