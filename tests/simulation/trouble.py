"""What goes wrong by chance, until it is mended: processes end and stand still, the store refuses, hints are lost."""

from __future__ import annotations

from collections import Counter

from everlog.core.errors import OutcomeUnknown, StoreUnavailable
from everlog.subscription.contract import Claim
from tests.simulation.database import Database, Subscribed
from tests.simulation.memory import MemoryCheckpoints
from tests.simulation.scheduler import Scheduler, Task, WriteLock
from tests.simulation.setup import Setup

PLANNED = "planned"
LOCK_SECONDS = 5.0
_HESITATION = 0.1


class Trouble:
    """Disturbs every task at its points. `slow` names the tasks that think between any two of theirs."""

    def __init__(self, setup: Setup, scheduler: Scheduler, *, slow: str) -> None:
        self.setup, self.scheduler, self.random, self.seen = setup, scheduler, scheduler.random, scheduler.seen
        self.mended = False
        self._slow = slow
        self._boots, self._booted_at = 1, 0
        scheduler.disturb = self._disturb

    def boot(self) -> tuple[str, int]:
        """The clock of leases: a power cut begins it anew."""
        return f"boot {self._boots}", self.scheduler.now - self._booted_at

    def strike(self, *, at_commit: bool = False) -> None:
        """A call of the store, as it comes through or does not."""
        if self.mended or self.random.random() >= self.setup.trouble:
            return
        if at_commit:
            self.seen["outcomes unknown"] += 1
            raise OutcomeUnknown(PLANNED)
        self.seen["store unavailable"] += 1
        raise StoreUnavailable(PLANNED)

    def deaf(self) -> bool:
        return not self.mended and self.random.random() < self.setup.deafness

    def _disturb(self, task: Task) -> None:
        if self.mended:
            return
        setup, chance = self.setup, self.random.random()
        naps = setup.naps + (_HESITATION if task.name == self._slow else 0.0)
        if chance < setup.crashes * 0.05:
            self._power_cut()
        elif chance < setup.crashes:
            self.seen["crashes"] += 1
            self.scheduler.kill(task.process)
        elif (chance := chance - setup.crashes) < setup.freezes:
            seconds = self.random.uniform(0, 3 * setup.lease)
            self.seen["pauses past the lease" if seconds > setup.lease else "short pauses"] += 1
            self.scheduler.freeze(task.process, seconds)
        elif chance - setup.freezes < naps:
            self.seen["naps of one thread"] += 1
            self.scheduler.sleep(self.random.uniform(0, 2 * setup.lease))

    def _power_cut(self) -> None:
        self.seen["power cuts"] += 1
        self._boots, self._booted_at = self._boots + 1, self.scheduler.now
        for process in self.scheduler.processes:
            self.scheduler.kill(process)


class TroubledGate:
    """Before every read, and before and after every commit, the turn may pass on, and the store may refuse."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble, self._scheduler = trouble, trouble.scheduler
        self._lock = WriteLock(trouble.scheduler)

    def read(self) -> None:
        self._scheduler.point("read")
        self._trouble.strike()

    def acquire(self) -> bool:
        self._scheduler.point("write")
        self._trouble.strike()
        return self._lock.acquire(LOCK_SECONDS)

    def release(self) -> None:
        self._lock.release()

    def before_commit(self) -> None:
        self._scheduler.point("commit")
        self._trouble.strike(at_commit=True)

    def after_commit(self) -> None:
        self._scheduler.point("committed")
        self._trouble.strike(at_commit=True)


class CountingCheckpoints(MemoryCheckpoints):
    """Counts the commits that the fence refused."""

    def __init__(self, database: Database, seen: Counter[str]) -> None:
        super().__init__(database)
        self._seen = seen

    def may_commit(self, known: Subscribed, claim: Claim, position: int) -> bool:
        if known.epoch != claim.epoch:
            self._seen["commits fenced"] += 1
        return super().may_commit(known, claim, position)
