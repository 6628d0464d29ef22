"""What comparing folds and comparing tables share: which rows, what came of it, and taking a projection over."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from everlog.app.stores import Backend
from everlog.core.envelope import FoldKey
from everlog.core.errors import Fenced, StoreUnavailable
from everlog.domain.types import EventTypes
from everlog.projection.sample import Draw
from everlog.subscription.contract import Checkpoints, Claim
from everlog.subscription.taking_over import taken_over


@dataclass(frozen=True, slots=True)
class Everything:
    """Every row there is or should be."""


Which = Everything | Draw | Sequence[FoldKey]


@dataclass(slots=True)
class Outcome:
    """What a verification came to; `rows` were compared, the last of them at `position`. `complete`: all there are."""

    rows: int = 0
    differing: int = 0
    repaired: int = 0
    position: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What to compare, where, and how: the rows of the subscription `of`, by its `checkpoints`. `on_progress` hears how
    far the log was run once more."""

    types: EventTypes
    backend: Backend
    of: str
    checkpoints: Checkpoints
    tenant: str | None
    most_positions: int
    lease_seconds: float
    on_progress: Callable[[int], None]

    @contextmanager
    def owning(self, partition: str, build: int) -> Iterator[Claim]:
        """Take a partition over from whoever runs it, who goes on once it is left: what it keeps in memory, such as a
        wrong state, is forgotten then."""
        checkpoints = self.checkpoints
        claim = taken_over(checkpoints, partition, f"repair by {os.getpid()}", self.lease_seconds)
        try:
            if claim.anew or claim.build != build:
                raise StoreUnavailable(f"{partition!r} is being built anew: nothing was mended, verify it again after")
            yield claim
        finally:
            checkpoints.leave(claim)

    def keep(self, claims: Sequence[Claim]) -> None:
        """Begin their leases anew; raises `Fenced` where one is lost, for it may have gone on meanwhile."""
        for claim in claims:
            if self.checkpoints.renew(claim, self.lease_seconds) is None:
                raise Fenced(claim.name, claim.epoch)
