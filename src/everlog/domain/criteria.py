"""`Criteria`: which events, in the words of the business code; for reads and for dynamic consistency boundaries."""

from dataclasses import dataclass

from everlog.core.errors import InvalidInput
from everlog.core.expect import Match
from everlog.domain.types import EventTypes


@dataclass(frozen=True, slots=True, init=False)
class Criteria:
    """Events of any of these classes that carry all of these tags: `Criteria(Placed, tags=["order:o-1"])`."""

    types: tuple[type, ...]
    tags: tuple[str, ...]

    def __init__(self, *types: type, tags: tuple[str, ...] | list[str] = ()) -> None:
        if not types and not tags:
            raise InvalidInput("Criteria needs an event class or a tag")
        if isinstance(tags, str):  # its letters would be the tags, which guard nothing
            raise InvalidInput(f"Criteria has the tags {tags!r}, one text: write tags=[{tags!r}]")
        object.__setattr__(self, "types", types)
        object.__setattr__(self, "tags", tuple(tags))

    def match(self, known: EventTypes) -> Match:
        """As stored: old types that yield the asked ones included, so a boundary may refuse once too often, never once
        too seldom."""
        return Match(known.matching(self.types), self.tags)
