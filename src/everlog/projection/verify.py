"""What a verification finds: rows that are not what the log makes of them, field by field, with the events behind."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.domain.codec import Codec
from everlog.domain.fields import MISSING, differing, flatten
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.projection.contract import TableRow, TableShape
from everlog.projection.fold import Fold, Step
from everlog.projection.run import keyed_events

S = TypeVar("S")

Fault = Literal["missing", "invented", "stale", "edited", "unreadable"]
"""No row though events made one; a row no event made; one that later events never reached; one that differs in any
other way; one that today's code cannot decode."""

LAST_EVENT = "@position"
"""The path of what a row says of itself: the last event that changed it."""
COPIES = "@rows"
"""The path that tells how often a row is there, in a table without a key."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field: as it is stored, and as the log has it; `"<missing>"` where there is none."""

    path: str
    stored: object
    expected: object


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One row that is not what the log, folded up to `position`, makes of it.

    `place` is the fold's or the table's name. `events` counts the events behind the row, and `positions` are the last
    of them; both are `None` for rows of a table that were not traced, because too many differ.
    """

    place: str
    fault: Fault
    key: Mapping[str, object]
    fields: tuple[FieldDifference, ...]
    position: int
    events: int | None = None
    positions: tuple[int, ...] | None = None
    repaired: bool = False

    @property
    def cut(self) -> bool:
        """Whether not all events behind it are named."""
        return self.positions is not None and self.events != len(self.positions)


Compared = tuple[Fault, tuple[FieldDifference, ...]]


def compare_states(codec: Codec[Any], stored: FoldState | None, expected: FoldState | None) -> Compared | None:
    """How a stored state differs from the expected one; `None` where it does not.

    A state equal to the fold's initial one is a row like any other: the projection stores it for a key that an event
    touched, and none for other keys.
    """
    if stored is None or expected is None or stored == expected:
        if stored is None and expected is not None:
            return "missing", _fields({}, flatten(codec.decode(expected.state)))
        if stored is not None and expected is None:
            return "invented", _fields(_shown(codec, stored), {})
        return None
    right = flatten(codec.decode(expected.state))
    try:
        found = flatten(codec.decode(stored.state))
    except Exception as error:  # whatever a codec makes of bytes that anybody may have written
        told = {"state": f"{type(error).__name__}: {error}"}
        return "unreadable", _fields(told, right)
    fields = _fields(found, right)
    if stored.position != expected.position:
        fields += (FieldDifference(LAST_EVENT, stored.position, expected.position),)
    if not fields:  # other bytes for the same state, such as a field that has a default by now
        return None
    return "stale" if stored.position < expected.position else "edited", fields


def compare_rows(shape: TableShape, stored: TableRow | None, expected: TableRow | None) -> Compared | None:
    """The same for a row of a table."""
    if stored is None or expected is None:
        if stored is expected:
            return None
        fault: Fault = "missing" if stored is None else "invented"
        return fault, _fields(_columns(shape, stored), _columns(shape, expected))
    if stored.times != expected.times:
        fault = "missing" if stored.times < expected.times else "invented"
        return fault, (FieldDifference(COPIES, stored.times, expected.times),)
    pairs = zip(shape.columns, stored.values, expected.values, strict=True)
    fields = tuple(FieldDifference(name, one, other) for name, one, other in pairs if not _same(one, other))
    return ("edited", fields) if fields else None


def narrowed(fold: Fold[S], wanted: Callable[[FoldKey], bool]) -> Fold[S]:
    """The same fold, of no other keys than these."""

    def keys_of(step: Step[S]) -> Callable[[Recorded[Any]], Iterable[str]]:
        return lambda event: [key for key in step.keys(event) if wanted(FoldKey(event.tenant, key))]

    some = copy.copy(fold)
    some.steps = {name: replace(step, key=keys_of(step)) for name, step in fold.steps.items()}
    return some


@dataclass(slots=True)
class Behind:
    """The events behind one row, up to `position`."""

    position: int
    positions: "deque[int]"
    events: int = 0
    _last: int = 0

    def add(self, position: int) -> None:
        """Count an event, once also where it was split into several."""
        if position <= self.position and position != self._last:
            self.events += 1
            self.positions.append(position)
            self._last = position


def trace(
    fold: Fold[Any], types: EventTypes, log: Iterable[StoredEvent], upto: Mapping[FoldKey, int], most: int
) -> Mapping[FoldKey, Behind]:
    """The events behind these rows, each up to its position: how many, and the last `most` of them."""
    behind = {key: Behind(position, deque(maxlen=most)) for key, position in upto.items()}
    some = narrowed(fold, behind.__contains__)
    for stored in log:
        for key, event in keyed_events(some, types, [stored]):
            behind[key].add(event.position)
    return behind


def _fields(stored: Mapping[str, object], expected: Mapping[str, object]) -> tuple[FieldDifference, ...]:
    return tuple(
        FieldDifference(path, stored.get(path, MISSING), expected.get(path, MISSING))
        for path in differing(stored, expected)
    )


def _shown(codec: Codec[Any], stored: FoldState) -> Mapping[str, object]:
    """As its type has it, or as it lies there."""
    try:
        return flatten(codec.decode(stored.state))
    except Exception:  # whatever a codec makes of bytes that anybody may have written
        return {"state": stored.state.decode(errors="backslashreplace")}


def _columns(shape: TableShape, row: TableRow | None) -> Mapping[str, object]:
    return {} if row is None else dict(zip(shape.columns, row.values, strict=True))


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (
        one == other or (one != one and other != other)
    )  # what is no number equals nothing


def key_of(shape: TableShape, row: TableRow) -> Mapping[str, object]:
    """What tells a row from others, for people: its key, or all of it."""
    names: Sequence[str] = shape.key
    return dict(zip(names, row.key, strict=True)) if names else _columns(shape, row)
