"""Sharing a divided subscription: how many of its partitions one worker may own, so that all have about the same."""

import threading

from everlog.subscription.contract import Attendance


def fair_limit(partitions: int, there: Attendance) -> int:
    """How many partitions are this worker's share: what is over goes to those that come first."""
    each, over = divmod(partitions, there.workers)
    return each + (there.before < over)


class Share:
    """What one worker holds of one subscription. `limit` follows the number of workers; asked by many threads.

    Only who has too little takes, and only who has too much gives, so nothing moves once all have their share.
    """

    def __init__(self) -> None:
        self.limit = 1
        self._held: list[str] = []
        self._lock = threading.Lock()

    def may_own(self, partition: str) -> bool:
        """Whether it may take this partition now, or keep it; those taken last are given first."""
        with self._lock:
            if partition not in self._held and len(self._held) < self.limit:
                self._held.append(partition)
            return partition in self._held[: self.limit]

    def let_go(self, partition: str) -> None:
        """It is not owned after all: another one may be taken instead."""
        with self._lock:
            if partition in self._held:
                self._held.remove(partition)
