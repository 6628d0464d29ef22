"""What an append requires of the log, checked under the head lock in the moment it is stored."""

from dataclasses import dataclass

from everlog.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class NoStream:
    """The stream has no event yet."""

    def holds(self, version: int) -> bool:
        return version == 0

    def __str__(self) -> str:
        return "0 (no stream)"


@dataclass(frozen=True, slots=True)
class Exactly:
    """The stream's last event has this version (0: no event yet)."""

    version: int

    def __post_init__(self) -> None:
        if self.version < 0:
            raise InvalidInput(f"Exactly({self.version}): a version is 0 or more")

    def holds(self, version: int) -> bool:
        return version == self.version

    def __str__(self) -> str:
        return str(self.version)


@dataclass(frozen=True, slots=True)
class StreamExists:
    """The stream has at least one event."""

    def holds(self, version: int) -> bool:
        return version > 0

    def __str__(self) -> str:
        return "1 or more (stream exists)"


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever the stream's version, append behind it."""

    def holds(self, version: int) -> bool:
        return True

    def __str__(self) -> str:
        return "anything"


ANYTHING = Anything()
Expect = NoStream | Exactly | StreamExists | Anything


@dataclass(frozen=True, slots=True)
class Match:
    """Events of any of these stored (type, schema version) pairs that carry all of these tags.

    No types means any type; no tags means any tags. `versions` may be left out of a pair with `None`.
    """

    types: tuple[tuple[str, int | None], ...] = ()
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.types and not self.tags:
            raise InvalidInput("a Match needs a type or a tag: one that matches every event guards nothing useful")


@dataclass(frozen=True, slots=True)
class NoneMatching:
    """The dynamic boundary: no event of the tenant after position `after` matches any of `matches`.

    Read what the decision rests on, remember the position you read up to, and append under it: whatever would have
    changed the decision and came in between refuses the append (dynamic consistency boundary, dcb.events).
    """

    matches: tuple[Match, ...]
    after: int = 0
