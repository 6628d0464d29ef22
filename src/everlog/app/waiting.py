"""Reading your own write: wait until a projection or a processor has passed a position."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from everlog.app.following import Follows, followed, subscription_of
from everlog.app.stores import Backend
from everlog.app.worker import Worker
from everlog.core.errors import SubscriptionFailed, WaitTimeout
from everlog.domain.types import EventTypes
from everlog.projection.fold import Fold
from everlog.subscription.contract import Progress
from everlog.subscription.partition import as_one

FIRST_POLL, LONGEST_POLL = 0.001, 0.05
WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Knows how far each one is: from the worker of this process when there is one, else from their checkpoints."""

    backend: Backend
    types: EventTypes
    worker: Worker | None = None

    def wait(self, parts: Sequence[Follows], position: int, timeout: float) -> None:
        """Block until all have passed `position`; raises `WaitTimeout`, or `SubscriptionFailed` when one has failed."""
        until, pause = time.monotonic() + timeout, FIRST_POLL
        while late := self.late(parts, position):
            left = until - time.monotonic()
            if left <= 0:
                raise self.timeout(late, position, timeout)
            self._sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_POLL)

    def late(self, parts: Sequence[Follows], position: int) -> list[Follows]:
        """Those that have not passed `position` yet."""
        late = [one for one in parts if not self._inline(one) and not self._followed(one, position)]
        if not late:
            return []
        # A worker that starts tries again what failed, so until it has tried, a failure is no news. Asked before the
        # progress, which is then of no earlier worker.
        tried = {one.name for one in late if self._has_tried(one)}
        known = as_one(self.backend.checkpoints.progress())
        progress = {one.name: known.get(followed(one, known) or one.name) for one in late}
        return [one for one in late if not self._passed(one, position, progress.get(one.name), one.name in tried)]

    def timeout(self, late: Sequence[Follows], position: int, seconds: float) -> WaitTimeout:
        names = ", ".join(one.name for one in late)
        return WaitTimeout(
            f"{names} did not reach position {position} within {seconds:g} s (the event is stored): "
            "look at everlog projection list and processor list, and that a worker runs"
        )

    def _sleep(self, seconds: float) -> None:
        if self.worker is None:
            time.sleep(seconds)
        else:
            with self.worker.moved:
                self.worker.moved.wait(seconds)

    def _inline(self, part: Follows) -> bool:
        return isinstance(part, Fold) and part.inline

    def _followed(self, part: Follows, position: int) -> bool:
        return self.worker is not None and self.worker.reached(part.name) >= position

    def _has_tried(self, part: Follows) -> bool:
        return self.worker is None or self.worker.has_tried(part.name)

    def _passed(self, part: Follows, position: int, known: Progress | None, tried: bool) -> bool:
        subscription = subscription_of(part, self.types)
        at = known.position if known is not None and known.version == subscription.version else 0
        if at >= position:
            return True
        if known is not None and known.status in ("failed", "stopped") and known.failed_position <= position and tried:
            raise SubscriptionFailed(part.name, known.failed_position, known.error)
        # Nothing it handles lies between: then it is as good as there, and its checkpoint follows within a second.
        between = self.backend.read(subscription.where, after=at, upto=position, limit=1)
        return known is not None and next(between, None) is None
