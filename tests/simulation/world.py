"""One seed: a log, workers that crash and sleep, handlers that fail, and people who do what people do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple, cast

from everlog.app.stores import Backend
from everlog.core.envelope import NewEvent
from tests.simulation.database import Database
from tests.simulation.handlers import FOLD, INBOX, PLAIN, TYPES, Handlers, Happened, Ignored
from tests.simulation.judge import Judge
from tests.simulation.memory import MemoryLog
from tests.simulation.person import PERSON, Person
from tests.simulation.scheduler import SECOND, Scheduler
from tests.simulation.setup import Setup
from tests.simulation.trouble import CountingCheckpoints, Trouble, TroubledGate
from tests.simulation.worker import Parts, Worker

STEPS = 60_000
PATIENCE = 240
"""Seconds, of the scheduler's time, within which all must be done once nothing goes wrong any more."""


class Outcome(NamedTuple):
    """What came of one seed: what is wrong, the first thing first, and how often what happened."""

    seed: str
    failures: Sequence[tuple[str, BaseException | None]]
    seen: Counter[str]
    options: str = ""

    @property
    def replay(self) -> str:
        return f"{self.seed}{self.options}"


class World:
    def __init__(self, seed: str, tell: Callable[[str], None] | None = None) -> None:
        self.seed, self.random = seed, Random(seed)
        self.setup = setup = Setup.draw(self.random)
        self.scheduler = scheduler = Scheduler(self.random, setup.stay, limit=STEPS, tell=tell)
        scheduler.tell(str(setup))
        self.trouble = Trouble(setup, scheduler, slow=PERSON)
        names = [name for name, wanted in ((INBOX, setup.inbox), (PLAIN, setup.plain)) if wanted]
        self.judge = Judge(
            names,
            scheduler.fail,
            scheduler.seen,
            wanted="thing.happened",
            inboxes=(INBOX,),
            fold=FOLD,
            attempts=setup.attempts,
        )
        self.database = Database(lambda: scheduler.now, self.trouble.boot, TroubledGate(self.trouble))
        self.database.watch = self.judge.committed
        self.log = MemoryLog(self.database)
        self.log.appended = self.judge.appended
        self.log.checkpoints = CountingCheckpoints(self.database, scheduler.seen)
        self.handlers = Handlers(self.trouble, self.judge)
        # Those who follow a log call the few methods of a store that this one has.
        backend = cast(Backend, self.log)
        processors = [self.handlers.processor(name) for name in names]
        self.parts = Parts(backend, processors, self.handlers, self.judge, self.trouble)
        self.workers: list[Worker] = []
        self.version = self.random.choice((1, 2))
        self.over = False

    def run(self) -> Outcome:
        setup, scheduler, random = self.setup, self.scheduler, self.random
        at = 0.0
        for number in range(setup.events):
            scheduler.after(at, partial(self._append, number))
            at += random.choice((0.0, 0.0, random.uniform(0, setup.lease)))
        for slot in range(setup.workers):
            scheduler.after(random.uniform(0, at / 2), partial(self._start, slot))
        if setup.deploys:
            self._deploy()
        for number in range(setup.people):
            self._invite(number)
        scheduler.after(at + random.uniform(0, random.choice((5, 10, 20)) * setup.lease), self._mend)
        scheduler.run()
        if not scheduler.failures:
            self.judge.at_end(self.database.now)
        scheduler.seen.update(steps=scheduler.steps, seeds=1)
        return Outcome(self.seed, scheduler.failures, scheduler.seen)

    def _append(self, number: int) -> None:
        """By somebody else, whose append is tested elsewhere: the event is there, at once."""
        key = self.random.randrange(self.setup.keys)
        what = TYPES.encode(Ignored(number) if self.random.random() < 0.2 else Happened(number))
        new = NewEvent(number.to_bytes(16, "big"), f"k-{key}", what.type, what.schema_version, what.data)
        self.handlers.poison(self.log.put(f"t{key % 2}", new).position)
        for worker in self.workers:
            worker.tail.hint()

    # ---- Who comes and goes.

    def _start(self, slot: int) -> None:
        """A worker, of either version where there are deploys, but of one in the end."""
        if not self.over:
            either = self.setup.deploys and not self.trouble.mended
            version = self.random.choice((1, 2)) if either else self.version
            self.workers.append(Worker(self.parts, slot, version, self._ended))

    def _ended(self, worker: Worker) -> None:
        self.workers.remove(worker)
        if not self._no_more():
            self.scheduler.after(self.random.uniform(0, self.setup.lease), partial(self._start, worker.slot))

    def _invite(self, number: int) -> None:
        Person(number, self.parts, lambda: self.database.now, self._no_more)

    def _no_more(self) -> bool:
        return self.over or bool(self.scheduler.failures)

    def _deploy(self) -> None:
        if not self.trouble.mended:
            if self.workers:
                self.scheduler.seen["deploys"] += 1
                self.random.choice(self.workers).stop()
            self.scheduler.after(self.random.expovariate(self.setup.deploys), self._deploy)

    # ---- The end.

    def _mend(self) -> None:
        """From now on nothing goes wrong, and somebody tries again until everything is done."""
        self.scheduler.tell("mended")
        self.trouble.mended = True
        self._invite(self.setup.people)
        self._until_done(self.scheduler.now + PATIENCE * SECOND)

    def _until_done(self, deadline: int) -> None:
        if self._done():
            self.over = True
            self._stop(self.workers)
        elif self.scheduler.now > deadline:
            self.scheduler.fail(f"not done {PATIENCE} s after the last trouble: {self.database.now}")
        else:
            # A worker takes its version up when it starts only, and somebody may have rebuilt the other one since.
            row = self.database.now.subscriptions.get(FOLD)
            rebuilt = row is not None and row.version != self.version
            self._stop([one for one in self.workers if rebuilt or one.version != self.version])
            self.scheduler.after(0.5, partial(self._until_done, deadline))

    def _stop(self, workers: Sequence[Worker]) -> None:
        for worker in list(workers):
            worker.stop()

    def _done(self) -> bool:
        tables, head = self.database.now, len(self.log.events)
        names = [*(one.name for one in self.parts.processors), *([FOLD] if self.setup.fold else [])]
        rows = [tables.subscriptions.get(name) for name in names]
        return not tables.lanes and all(row and row.position == head and row.status == "running" for row in rows)


def simulate(seed: str, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed. What everlog logs of its planned failures is nobody's news."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        return World(seed, tell).run()
    finally:
        logging.disable(disabled)
