"""Reading your own write: wait until a projection has passed a position."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everlog.app.following import Projection, subscription_of
from everlog.app.stores import Backend
from everlog.app.worker import Worker
from everlog.core.errors import SubscriptionFailed, WaitTimeout
from everlog.domain.types import EventTypes
from everlog.projection.fold import Fold
from everlog.subscription.contract import Progress

FIRST_POLL, LONGEST_POLL = 0.001, 0.05
WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Knows how far projections are: from the worker of this process when there is one, else from their checkpoints."""

    backend: Backend
    types: EventTypes
    worker: Worker | None = None

    def wait(self, projections: Sequence[Projection], position: int, timeout: float) -> None:
        """Block until all have passed `position`; raises `WaitTimeout`, or `SubscriptionFailed` when one has failed."""
        until, pause = time.monotonic() + timeout, FIRST_POLL
        while late := self.late(projections, position):
            left = until - time.monotonic()
            if left <= 0:
                raise self.timeout(late, position, timeout)
            self._sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_POLL)

    def late(self, projections: Sequence[Projection], position: int) -> list[Projection]:
        """Those that have not passed `position` yet."""
        late = [one for one in projections if not self._inline(one) and not self._followed(one, position)]
        if not late:
            return []
        progress = {one.name: one for one in self.backend.checkpoints.progress()}
        return [one for one in late if not self._passed(one, position, progress)]

    def timeout(self, late: Sequence[Projection], position: int, seconds: float) -> WaitTimeout:
        names = ", ".join(one.name for one in late)
        return WaitTimeout(
            f"{names} did not reach position {position} within {seconds:g} s (the event is stored): "
            "look at everlog projection status, and that a worker runs"
        )

    def _sleep(self, seconds: float) -> None:
        if self.worker is None:
            time.sleep(seconds)
        else:
            with self.worker.moved:
                self.worker.moved.wait(seconds)

    def _inline(self, projection: Projection) -> bool:
        return isinstance(projection, Fold) and projection.inline

    def _followed(self, projection: Projection, position: int) -> bool:
        follower = self.worker.followers.get(projection.name) if self.worker else None
        return follower is not None and follower.reached >= position

    def _passed(self, projection: Projection, position: int, progress: Mapping[str, Progress]) -> bool:
        known = progress.get(projection.name)
        at = known.position if known is not None and known.version == projection.version else 0
        # A worker that starts tries again what failed, so until it has tried that is no news.
        follower = self.worker.followers.get(projection.name) if self.worker else None
        news = follower is None or follower.owns is not None
        if known is not None and known.status == "failed" and known.failed_position <= position and news:
            raise SubscriptionFailed(projection.name, known.failed_position, known.error)
        if at >= position:
            return True
        # Nothing it handles lies between: then it is as good as there, and its checkpoint follows within a second.
        where = subscription_of(projection, self.types).where
        return known is not None and next(self.backend.read(where, after=at, upto=position, limit=1), None) is None
