"""Processors and a fold that fail by plan, and then go well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everlog.domain.event import event
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.processing.processor import Processor, Retry, Transient, processor
from everlog.projection.fold import Fold
from everlog.subscription.backoff import Backoff
from tests.simulation.database import MemoryEffects
from tests.simulation.judge import Judge
from tests.simulation.scheduler import Crashed
from tests.simulation.trouble import PLANNED, Trouble


@event("thing.happened")
class Happened:
    number: int


@event("thing.ignored")
class Ignored:
    number: int


TYPES = EventTypes([Happened, Ignored])
PLAIN, INBOX, FOLD = "plain", "inbox", "trail"


class Handlers:
    """What is done with an event is told to the judge, or written into the database, where the judge sees it."""

    def __init__(self, trouble: Trouble, judge: Judge) -> None:
        self._trouble, self._judge = trouble, judge
        self._scheduler, self._setup, self._seen = trouble.scheduler, trouble.setup, trouble.seen
        self._random = trouble.random
        self._scripts: dict[tuple[str, int], list[str]] = {}

    def poison(self, position: int) -> None:
        """Some events go wrong, for some of those who follow the log."""
        for name in (PLAIN, INBOX, FOLD):
            if self._random.random() < self._setup.poison:
                self._scripts[name, position] = self._script()

    def processor(self, name: str) -> Processor[Happened]:
        setup = self._setup

        def key(event: Recorded[Happened]) -> str:
            if self._next(name, event.position, ("key",)) == "key":
                raise ValueError(PLANNED)
            return event.stream

        def mail(event: Recorded[Happened]) -> None:
            self._handle(name, event.position, lambda: None)

        def take(event: Recorded[Happened], tx: MemoryEffects) -> None:
            def effect() -> None:
                row = name, self._judge.key_of[event.position]
                tx.tables.taken[row] = (*tx.tables.taken.get(row, ()), event.position)

            self._handle(name, event.position, effect)

        declare = processor(
            name,
            on=Happened,
            key=key,
            inbox=name == INBOX,
            retry=Retry(setup.attempts, Backoff(0.05, 0.5)),
            concurrency=setup.concurrency,
            max_lanes=setup.max_lanes,
            max_parked=setup.max_parked,
        )
        return declare(take if name == INBOX else mail)

    def fold(self, version: int) -> Fold[str]:
        """Lists the positions of each stream."""
        fold = Fold(FOLD, initial="", version=version)

        @fold.on(Happened, key=lambda e: e.stream)
        def step(trail: str, e: Recorded[Happened]) -> str:
            if self._next(FOLD, e.position, ("permanent", "late")) != "well":
                raise ValueError(PLANNED)
            return f"{trail} {e.position}"

        return fold

    def _script(self) -> list[str]:
        """What happens the first times that an event is handled; later it goes well."""
        random, most = self._random, 3 * self._setup.attempts + 3
        if random.random() < 0.1:
            return ["permanent"] + ["exit"] * most
        what = random.choice(("permanent", "permanent", "late", "exit", "mixed", "transient", "slow", "key"))
        if what == "mixed":
            return random.choices(("permanent", "late", "exit", "transient", "slow"), k=random.randint(2, 6))
        return [what] * random.randint(1, most if what in ("permanent", "exit", "late") else 3)

    def _next(self, name: str, position: int, kinds: Sequence[str]) -> str:
        script = self._scripts.get((name, position))
        if self._trouble.mended or not script or script[0] not in kinds:
            return "well"
        return script.pop(0)

    def _handle(self, name: str, position: int, effect: Callable[[], None]) -> None:
        self._scheduler.point("handler")
        if not self._trouble.mended and self._random.random() < self._setup.slowness:
            self._scheduler.sleep(self._random.uniform(0, 0.5))
        match self._next(name, position, ("permanent", "transient", "exit", "slow", "late")):
            case "permanent":
                raise ValueError(PLANNED)
            case "transient":
                self._seen["transient errors"] += 1
                raise Transient(PLANNED)
            case "late":
                effect()
                self._scheduler.point("effect")
                raise ValueError(PLANNED)
            case "exit":
                self._seen["exits"] += 1
                self._judge.killed_by(name, position)
                self._scheduler.kill(self._scheduler.current.process)
                raise Crashed
            case "slow":
                self._seen["slow handlers"] += 1
                self._scheduler.sleep(self._random.uniform(0, 2 * self._setup.lease))
        effect()
        self._scheduler.point("handled")
