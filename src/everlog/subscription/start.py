"""Where a subscription begins the first time it runs; afterwards its checkpoint decides."""

from dataclasses import dataclass
from datetime import datetime

from everlog.core.clock import micros
from everlog.core.errors import InvalidInput
from everlog.store.contract import Pages
from everlog.store.query import Filter


@dataclass(frozen=True, slots=True)
class FromBeginning:
    """Every event there ever was."""

    def position(self, store: Pages) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class AfterPosition:
    """The events behind this position."""

    after: int

    def __post_init__(self) -> None:
        if self.after < 0:
            raise InvalidInput(f"AfterPosition({self.after}): positions are 0 or more")

    def position(self, store: Pages) -> int:
        return self.after


@dataclass(frozen=True, slots=True)
class FromTime:
    """The events recorded at or after this moment."""

    moment: datetime

    def __post_init__(self) -> None:
        micros(self.moment)

    def position(self, store: Pages) -> int:
        first = next(store.read(Filter(None, recorded_since=micros(self.moment)), limit=1), None)
        return store.head().position if first is None else first.position - 1


@dataclass(frozen=True, slots=True)
class FromNow:
    """Only what is appended from now on; a rebuild, or a new version, begins at a now of its own."""

    def position(self, store: Pages) -> int:
        return store.head().position


Start = FromBeginning | AfterPosition | FromTime | FromNow
"""A closed set: where a subscription may begin."""
BEGINNING = FromBeginning()
