"""What projections need of a database beside `Checkpoints`: states of folds, and tables, each with how far they are."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from everlog.core.envelope import FoldKey, FoldState
from everlog.projection.pin import Pin
from everlog.subscription.contract import Checkpoints, Effects


class FoldStates(Protocol):
    """States of folds, each build of a projection its own set, under `version`. Writes go through a subscription's
    transaction."""

    def load(self, projection: str, version: int, keys: Iterable[FoldKey]) -> Mapping[FoldKey, FoldState]:
        """The stored ones of these keys."""
        ...

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None: ...

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        """Delete the states of one version."""
        ...

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        """By tenant and key, a page at a time; `tenant=None` gives every tenant's."""
        ...


class MendableStates(FoldStates, Protocol):
    """States of folds that can be compared with the log, and mended."""

    def delete(self, effects: Effects, projection: str, version: int, keys: Iterable[FoldKey]) -> None: ...

    def keys(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldKey]:
        """Of `all`, in the same order."""
        ...

    def pinned(
        self, projection: str, version: int, keys: Sequence[FoldKey], *, subscription: str = "", inline: bool = False
    ) -> "PinnedStates":
        """The stored ones of at most `AT_ONCE` keys, and how far the projection was in the same moment, or how far
        `subscription` was, which builds another of it. Raises `NotFound` where it never ran.
        """
        ...

    def mend_inline(self, projection: str, version: int, mend: Callable[[int], "Mended"]) -> None:
        """Write what `mend` makes of the head's position, which moves no further meanwhile."""
        ...


AT_ONCE = 500
"""Keys that are looked up together."""


class PinnedStates(NamedTuple):
    """States of folds, and how far the projection was when they were so."""

    pin: Pin
    states: Mapping[FoldKey, FoldState]


class Mended(NamedTuple):
    """States to be written, and keys that are to have none."""

    states: Sequence[FoldState]
    gone: Sequence[FoldKey]


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table as its rows can be compared and written.

    `columns` are those whose values come from the projection's statements: not the numbers a sequence hands out, which
    no second run repeats. `key` tells rows apart; where it is empty, equal rows are counted instead, by the text of the
    `whole` row. `written` are those an INSERT may name. `place` is the table in SQL; `any_of` gives a value of a column
    whose values are all equal.
    """

    name: str
    place: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    written: tuple[str, ...]
    whole: str
    any_of: str = "{}"

    def at(self, other: "TableShape") -> "TableShape":
        """The same table where `other` is."""
        return replace(self, place=other.place)


class TableRow(NamedTuple):
    """One row: what it is found and ordered by, its columns, and how often it is there."""

    key: tuple[object, ...]
    values: tuple[object, ...]
    times: int


class Tables(Protocol):
    """Tables of SQL projections, in one place: among the log's own, or in a shadow."""

    def shape(self, table: str) -> TableShape | None:
        """Of the table of this name in this very place; `None` where there is none."""
        ...

    def pinned(
        self, projection: str, shape: TableShape, after: Sequence[object] | None, most: int
    ) -> tuple[Pin, list[TableRow]]:
        """At most so many rows behind a key, in order of keys, and how far the projection was in the same moment."""
        ...

    def page(
        self, shape: TableShape, after: Sequence[object] | None, upto: Sequence[object] | None, most: int
    ) -> list[TableRow]:
        """At most so many rows behind one key and up to another, in order."""
        ...

    def rows(self, shape: TableShape, keys: Sequence[Sequence[object]]) -> list[TableRow]:
        """The rows of these keys."""
        ...

    def replace(
        self, effects: Effects, shape: TableShape, keys: Sequence[Sequence[object]], rows: Sequence[TableRow]
    ) -> None:
        """Delete the rows of these keys, and put these in their place."""
        ...


class Shadow(Protocol):
    """A place beside the log's own tables, where a `SqlProjection` can be run once more.

    Its functions find the shadow's tables first, and whatever else they read where it always is; what they write
    elsewhere is refused. `checkpoints` are the shadow's own, and begin at nothing.
    """

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def tables(self) -> Tables: ...

    def drop(self) -> None:
        """It is no more, with all that is in it."""
        ...

    def close(self) -> None:
        """Leave it for another time."""
        ...


class Shadows(Protocol):
    """Shadows of one log, each under a name."""

    def open(self, name: str, *, fresh: bool = False) -> Shadow:
        """The one of this name, made where there is none; `fresh`: without what an earlier use left."""
        ...

    def names(self) -> list[str]:
        """Of those that are there."""
        ...

    def swap(self, effects: Effects, name: str, tables: Sequence[str], kept: str) -> None:
        """These tables change places: the shadow's become the log's own, and the other way round.

        Its checkpoints become those of `kept`, the subscription that made what it holds from now on.

        Within a transaction of the projection, whose owner alone writes in either place.
        """
        ...
