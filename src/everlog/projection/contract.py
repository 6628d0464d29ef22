"""What folds need of a database beside `Checkpoints`: states by projection, tenant and key."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from everlog.core.envelope import FoldKey, FoldState
from everlog.subscription.contract import Effects


class FoldStates(Protocol):
    """States of folds, each projection version its own set. Writes go through a subscription's transaction."""

    def load(self, projection: str, version: int, keys: Iterable[FoldKey]) -> Mapping[FoldKey, FoldState]:
        """The stored ones of these keys."""
        ...

    def store(self, effects: Effects, projection: str, version: int, states: Iterable[FoldState]) -> None: ...

    def clear(self, effects: Effects, projection: str, version: int) -> None:
        """Delete the states of one version."""
        ...

    def keep_only(self, effects: Effects, projection: str, version: int) -> None:
        """Delete the states of every other version."""
        ...

    def all(self, projection: str, version: int, tenant: str | None) -> Iterator[FoldState]:
        """By tenant and key, a page at a time; `tenant=None` gives every tenant's."""
        ...
