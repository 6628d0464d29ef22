"""Comparing a projection with the log it is made of, and mending the rows that differ; while it runs, or not.

What the projection has is read together with how far it is; the same is made of the log up to there, elsewhere, and
compared. So nothing is held open, and a row that is being changed is no difference.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from everlog.app.comparing import Outcome, Which, Work
from everlog.app.following import Projection
from everlog.app.stores import Backend
from everlog.app.verify_fold import FoldComparison
from everlog.app.verify_table import TableComparison
from everlog.core.errors import Misconfigured
from everlog.domain.types import EventTypes
from everlog.projection.fold import Fold
from everlog.projection.verify import RowDifference
from everlog.subscription.follower import LEASE_SECONDS
from everlog.subscription.partition import BUILDING
from everlog.subscription.start import FromNow

BATCH = 5000
"""Differing rows that are looked into, and mended, together."""
MOST_POSITIONS = 1000
"""Of the events behind a row, so many are named."""

F = TypeVar("F")


class Comparison(Protocol[F]):
    """One kind of projection, compared. What it finds is looked into and mended by the batch."""

    def find(self, which: Which, outcome: Outcome) -> Iterator[F]: ...

    def tell(self, found: Sequence[F], *, repaired: bool) -> Iterator[RowDifference]: ...

    def mend(self, found: Sequence[F]) -> None:
        """Make these rows what the log makes of them by now, and let the worker go on."""
        ...

    def close(self) -> None: ...


class Verification:
    """Of one projection; `run` may be called again and again."""

    def __init__(
        self,
        projection: Projection,
        types: EventTypes,
        backend: Backend,
        *,
        tenant: str | None = None,
        most_positions: int = MOST_POSITIONS,
        lease_seconds: float = LEASE_SECONDS,
        building: bool = False,
        on_progress: Callable[[int], None] = lambda position: None,
    ) -> None:
        """`building`: not what serves, but what is being built beside it."""
        if isinstance(projection.start, FromNow):
            raise Misconfigured(
                f"{projection.name!r} begins at a now that is written down nowhere, so it cannot be recomputed: "
                "let it begin AfterPosition(…)"
            )
        self._projection, self._backend, self._building = projection, backend, building
        of = projection.name + BUILDING if building else projection.name
        self._work = Work(types, backend, of, backend.checkpoints, tenant, most_positions, lease_seconds, on_progress)
        self.outcome = Outcome()

    def run(self, which: Which, *, repair: bool = False) -> Iterator[RowDifference]:
        """Every row that differs; each one mended before it is given, with `repair`. `outcome` is what it came to."""
        outcome = self.outcome = Outcome()
        with self._comparison() as comparison:
            for batch in _batches(comparison.find(which, outcome), BATCH):
                if repair:
                    comparison.mend(batch)
                    outcome.repaired += len(batch)
                outcome.differing += len(batch)
                yield from comparison.tell(batch, repaired=repair)

    @contextmanager
    def _comparison(self) -> "Iterator[Comparison[Any]]":
        one = self._projection
        with ExitStack() as held:
            if isinstance(one, Fold):
                yield held.enter_context(closing(FoldComparison(one, self._work)))
                return
            work, tables = self._work, self._backend.tables
            if self._building:
                shadow = held.enter_context(closing(self._backend.shadows.open(one.name)))
                work, tables = replace(work, checkpoints=shadow.checkpoints), shadow.tables
            yield held.enter_context(closing(TableComparison(one, work, tables)))


def _batches(found: Iterator[F], size: int) -> Iterator[list[F]]:
    batch: list[F] = []
    for one in found:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
