"""A point in the past, by one of four measures (design D16). A bare `int` is a position wherever one is asked for."""

from dataclasses import dataclass
from datetime import datetime

from everlog.core.clock import micros
from everlog.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class AtPosition:
    """The log up to and with this position."""

    position: int


@dataclass(frozen=True, slots=True)
class AtVersion:
    """The stream up to and with this version."""

    version: int


@dataclass(frozen=True, slots=True)
class RecordedAt:
    """What we knew then: everything recorded up to and with this moment."""

    moment: datetime

    def __post_init__(self) -> None:
        micros(self.moment)


@dataclass(frozen=True, slots=True)
class OccurredAt:
    """What was true then: events that occurred up to and with this moment, whenever they were recorded."""

    moment: datetime

    def __post_init__(self) -> None:
        micros(self.moment)


At = AtPosition | AtVersion | RecordedAt | OccurredAt


def as_point(at: "At | int | None") -> "At | None":
    """A bare integer as a position; refuses one below 0."""
    point = AtPosition(at) if isinstance(at, int) else at
    number = point.position if isinstance(point, AtPosition) else point.version if isinstance(point, AtVersion) else 0
    if number < 0:
        raise InvalidInput(f"{point} lies before the beginning: positions and versions are 0 or more")
    return point
