"""One seed: a log, workers that crash and sleep, handlers that fail, and a person who does what people do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, NamedTuple, cast

from everlog.app.following import ProcessorCalls, subscription_of
from everlog.app.lanes import LaneOperator
from everlog.app.rebuild import Rebuild
from everlog.app.stores import Backend
from everlog.core.envelope import NewEvent
from everlog.core.errors import EverlogError, OutcomeUnknown, StoreUnavailable
from everlog.domain.event import event
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.processing.contract import LaneFilter
from everlog.processing.processor import Processor, Retry, Transient, processor
from everlog.processing.run import ProcessorHandler
from everlog.projection.fold import Fold
from everlog.projection.run import FoldHandler
from everlog.subscription.backoff import Backoff
from everlog.subscription.contract import Claim
from everlog.subscription.follower import Follower, Handler, Subscription
from everlog.subscription.tail import Tail
from tests.simulation.judge import Judge
from tests.simulation.memory import Database, MemoryCheckpoints, MemoryEffects, MemoryLog, Subscribed
from tests.simulation.scheduler import SECOND, Bell, Crashed, Flag, Process, Scheduler, Side, Task, WriteLock

STEPS = 60_000
PATIENCE = 240.0
"""Seconds, of the scheduler's time, after which everything must be done once nothing disturbs any more."""
LOCK_SECONDS = 5.0
PLANNED = "planned"
PERSON = "person"


@event("thing.happened")
class Happened:
    number: int


@event("thing.ignored")
class Ignored:
    number: int


TYPES = EventTypes([Happened, Ignored])


@dataclass(frozen=True, slots=True)
class Setup:
    """How one seed is set up. Every trouble is absent from some seeds, so that what it hides is found too."""

    workers: int
    events: int
    keys: int
    page: int
    concurrency: int
    attempts: int
    lease: float
    max_lanes: int
    max_parked: int
    inbox: bool
    plain: bool
    fold: bool
    stay: float
    crashes: float
    freezes: float
    naps: float
    trouble: float
    deafness: float
    poison: float
    people: int
    pace: float
    slowness: float
    rebuilds: float
    deploys: float
    skew: float

    @classmethod
    def draw(cls, random: Random) -> Setup:
        def some(most: float, share: float = 0.6) -> float:
            return random.uniform(0, most) if random.random() < share else 0.0

        inbox = random.random() < 0.5
        plain = not inbox or random.random() < 0.2
        return cls(
            workers=random.choice((1, 2, 2, 3)),
            events=random.randint(4, 40),
            keys=random.randint(1, 6),
            page=random.randint(1, 8),
            concurrency=random.randint(1, 3),
            attempts=random.randint(1, 3),
            lease=random.choice((0.5, 1.0, 2.0)),
            max_lanes=random.choice((1, 2, 100, 100)),
            max_parked=random.choice((2, 5, 100, 100, 100)),
            inbox=inbox,
            plain=plain,
            fold=random.random() < 0.4,
            stay=random.choice((0.2, 0.6, 0.9)),
            crashes=some(0.02),
            freezes=some(0.01),
            naps=some(0.02),
            trouble=some(0.04, 0.4),
            deafness=some(1.0, 0.5),
            poison=some(0.8, 0.8),
            people=random.choice((0, 1, 1, 2)),
            pace=random.uniform(1.0, 10.0),
            slowness=some(0.6),
            rebuilds=some(1.0, 0.5),
            deploys=some(1.0, 0.4),
            skew=some(1.0, 0.3),
        )


class SimulatedGate:
    """Before every read, and before and after every commit, the turn may pass on, and the store may refuse."""

    def __init__(self, world: World) -> None:
        self._world, self._scheduler = world, world.scheduler
        self._lock = WriteLock(world.scheduler)

    def read(self) -> None:
        self._scheduler.point("read")
        self._world.trouble()

    def acquire(self) -> bool:
        self._scheduler.point("write")
        self._world.trouble()
        return self._lock.acquire(LOCK_SECONDS)

    def release(self) -> None:
        self._lock.release()

    def before_commit(self) -> None:
        self._scheduler.point("commit")
        self._world.trouble(at_commit=True)

    def after_commit(self) -> None:
        self._scheduler.point("committed")
        self._world.trouble(at_commit=True)


class CountingCheckpoints(MemoryCheckpoints):
    """Counts the commits that the fence refused."""

    def __init__(self, database: Database, seen: Counter[str]) -> None:
        super().__init__(database)
        self._seen = seen

    def may_commit(self, known: Subscribed, claim: Claim, position: int) -> bool:
        if known.epoch != claim.epoch:
            self._seen["commits fenced"] += 1
        return super().may_commit(known, claim, position)


class Outcome(NamedTuple):
    """What came of one seed."""

    seed: str
    failures: Sequence[tuple[str, BaseException | None]]
    seen: Counter[str]


class World:
    def __init__(self, seed: str, tell: Callable[[str], None] | None = None) -> None:
        self.seed, self.random = seed, Random(seed)
        self.setup = setup = Setup.draw(self.random)
        self.scheduler = Scheduler(self.random, setup.stay, limit=STEPS, tell=tell)
        self.seen = self.scheduler.seen
        self.scheduler.tell(str(setup))
        self.scheduler.disturb = self._disturb
        self.boots, self.booted_at = 1, 0
        self.version = self.random.choice((1, 2))
        self.mended = self.over = False
        self.scripts: dict[tuple[str, int], list[str]] = {}
        inboxes = ["inbox"] if setup.inbox else []
        names = [*inboxes, *(["plain"] if setup.plain else [])]
        self.judge = Judge(
            names,
            self.scheduler.fail,
            wanted="thing.happened",
            inboxes=inboxes,
            fold="trail",
            attempts=setup.attempts,
        )
        self.judge.seen = self.seen
        database = Database(self._wall, self._boot, SimulatedGate(self))
        database.watch = self.judge.committed
        self.log = MemoryLog(database)
        self.log.appended = self.judge.appended
        self.log.checkpoints = CountingCheckpoints(database, self.seen)
        # Those who follow a log call the few methods of a store that this one has.
        self.backend = cast(Backend, self.log)
        self.processors = [self._processor(name) for name in names]
        self.lives: list[Life] = []

    def run(self) -> Outcome:
        setup, scheduler = self.setup, self.scheduler
        at = 0.0
        for number in range(setup.events):
            scheduler.after(at, partial(self._append, number))
            at += self.random.choice((0.0, 0.0, self.random.uniform(0, setup.lease)))
        for slot in range(setup.workers):
            scheduler.after(self.random.uniform(0, at / 2), partial(self._start, slot))
        if setup.deploys:
            self._deploy()
        for number in range(setup.people):
            self._come(number)
        scheduler.after(at + self.random.uniform(0, self.random.choice((5, 10, 20)) * setup.lease), self._mend)
        scheduler.run()
        if not scheduler.failures:
            self.judge.at_end(self.log.database.now)
        self.seen["steps"] = scheduler.steps
        self.seen["seeds"] = 1
        return Outcome(self.seed, scheduler.failures, self.seen)

    # ---- Clocks.

    def _wall(self) -> int:
        return self.scheduler.now + 1_790_000_000 * SECOND

    def _boot(self) -> tuple[str, int]:
        return f"boot {self.boots}", self.scheduler.now - self.booted_at

    def monotonic(self) -> float:
        return self.scheduler.now / SECOND

    # ---- The log.

    def _append(self, number: int) -> None:
        """By somebody else, whose append is tested elsewhere: the event is there, at once."""
        random, setup = self.random, self.setup
        key = random.randrange(setup.keys)
        what = TYPES.encode(Ignored(number) if random.random() < 0.2 else Happened(number))
        new = NewEvent(number.to_bytes(16, "big"), f"k-{key}", what.type, what.schema_version, what.data)
        position = self.log.put(f"t{key % 2}", new).position
        for one in [*(one.name for one in self.processors), "trail"]:
            if random.random() < setup.poison:
                self.scripts[one, position] = self._script()
        for life in self.lives:
            life.tail.hint()

    def _script(self) -> list[str]:
        """What happens the first times that an event is handled; later it goes well."""
        random, most = self.random, 3 * self.setup.attempts + 3
        if random.random() < 0.1:
            return ["permanent"] + ["exit"] * most
        what = random.choice(("permanent", "permanent", "late", "exit", "mixed", "transient", "slow", "key"))
        if what == "mixed":
            return random.choices(("permanent", "late", "exit", "transient", "slow"), k=random.randint(2, 6))
        return [what] * random.randint(1, most if what in ("permanent", "exit", "late") else 3)

    def next_in(self, name: str, position: int, kinds: Sequence[str]) -> str:
        script = self.scripts.get((name, position))
        if self.mended or not script or script[0] not in kinds:
            return "well"
        return script.pop(0)

    # ---- Handlers.

    def _processor(self, name: str) -> Processor[Happened]:
        setup = self.setup

        def key(event: Recorded[Happened]) -> str:
            if self.next_in(name, event.position, ("key",)) == "key":
                raise ValueError(PLANNED)
            return event.stream

        declare = processor(
            name,
            on=Happened,
            key=key,
            inbox=name == "inbox",
            retry=Retry(setup.attempts, Backoff(0.05, 0.5)),
            concurrency=setup.concurrency,
            max_lanes=setup.max_lanes,
            max_parked=setup.max_parked,
        )

        if name == "inbox":

            def take(event: Recorded[Happened], tx: MemoryEffects) -> None:
                def effect() -> None:
                    row = name, self.judge.key_of[event.position]
                    tx.tables.taken[row] = (*tx.tables.taken.get(row, ()), event.position)

                self._handle(name, event.position, effect)

            return declare(take)
        return declare(lambda event: self._handle(name, event.position, lambda: None))

    def _handle(self, name: str, position: int, effect: Callable[[], None]) -> None:
        self.scheduler.point("handler")
        if not self.mended and self.random.random() < self.setup.slowness:
            self.scheduler.sleep(self.random.uniform(0, 0.5))
        match self.next_in(name, position, ("permanent", "transient", "exit", "slow", "late")):
            case "permanent":
                raise ValueError(PLANNED)
            case "transient":
                self.seen["transient errors"] += 1
                raise Transient(PLANNED)
            case "slow":
                self.seen["slow handlers"] += 1
                self.scheduler.sleep(self.random.uniform(0, 2 * self.setup.lease))
                effect()
            case "late":
                effect()
                self.scheduler.point("effect")
                raise ValueError(PLANNED)
            case "exit":
                self.seen["exits"] += 1
                process = self.scheduler.current.process
                self.judge.killed_by(name, position)
                self.scheduler.kill(process)
                raise Crashed
            case _:
                effect()
        self.scheduler.point("handled")

    def fold(self, version: int) -> Fold[str]:
        fold = Fold("trail", initial="", version=version)

        @fold.on(Happened, key=lambda e: e.stream)
        def step(trail: str, e: Recorded[Happened]) -> str:
            if self.next_in("trail", e.position, ("permanent", "late")) != "well":
                raise ValueError(PLANNED)
            return f"{trail} {e.position}"

        return fold

    # ---- Workers.

    def _start(self, slot: int) -> None:
        if not self.over:
            Life(self, slot)

    def ended(self, life: Life) -> None:
        self.lives.remove(life)
        if not self.over and not self.scheduler.failures:
            self.scheduler.after(self.random.uniform(0, self.setup.lease), lambda: self._start(life.slot))

    # ---- Trouble.

    def _disturb(self, task: Task) -> None:
        if self.mended:
            return
        setup, chance = self.setup, self.random.random()
        hesitates = 0.1 if task.name == PERSON else 0.0
        if chance < setup.crashes * 0.05:
            self._power_cut()
        elif chance < setup.crashes:
            self.seen["crashes"] += 1
            self.scheduler.kill(task.process)
        elif (chance := chance - setup.crashes) < setup.freezes:
            seconds = self.random.uniform(0, 3 * setup.lease)
            self.seen["pauses past the lease" if seconds > setup.lease else "short pauses"] += 1
            self.scheduler.freeze(task.process, seconds)
        elif chance - setup.freezes < setup.naps + hesitates:
            self.seen["naps of one thread"] += 1
            self.scheduler.sleep(self.random.uniform(0, 2 * setup.lease))

    def _power_cut(self) -> None:
        self.seen["power cuts"] += 1
        self.boots, self.booted_at = self.boots + 1, self.scheduler.now
        for life in list(self.lives):
            self.scheduler.kill(life.process)

    def trouble(self, *, at_commit: bool = False) -> None:
        if self.mended or self.random.random() >= self.setup.trouble:
            return
        if at_commit:
            self.seen["outcomes unknown"] += 1
            raise OutcomeUnknown(PLANNED)
        self.seen["store unavailable"] += 1
        raise StoreUnavailable(PLANNED)

    def deaf(self) -> bool:
        return not self.mended and self.random.random() < self.setup.deafness

    # ---- A person.

    def _come(self, number: int) -> None:
        if not self.over and not self.scheduler.failures:
            person = Process(f"{PERSON}{number}")
            person.ended = lambda: self._come(number)
            self.scheduler.spawn(person, PERSON, self._act)

    def _act(self) -> None:
        while not self.over:
            hurries = not self.mended and self.random.random() < 0.5
            pause = 1.0 if self.mended else self.random.expovariate(self.setup.pace)
            self.scheduler.sleep(0.0 if hurries else pause)
            try:
                if self.mended:
                    self._retry_everything()
                else:
                    self._one_act()
            except EverlogError:
                self.seen["a person was refused"] += 1

    def _deploy(self) -> None:
        if not self.mended:
            if self.lives:
                self.seen["deploys"] += 1
                self.random.choice(self.lives).stop()
            self.scheduler.after(self.random.expovariate(self.setup.deploys), self._deploy)

    def _one_act(self) -> None:
        random, desk, checkpoints = self.random, self.log.desk, self.log.checkpoints
        name = random.choice(self.processors).name
        tables = self.log.database.now  # as seen on a screen, a moment ago
        rows = list(tables.subscriptions.values())
        lanes = {key: lane for (of, key), lane in tables.lanes.items() if of == name}
        acts = ["pause"] if random.random() < 0.1 else ["resume"]
        acts += ["retry", "canary", "canary", "skip", "skip"] if lanes else []
        act = random.choice([*acts, "reset"] if self.setup.fold else acts)
        self.scheduler.tell("person", act, name)
        if act in ("retry", "canary"):
            key = random.choice(list(lanes)) if random.random() < 0.25 else None
            self.seen[act] += desk.lanes.retry(LaneFilter(name, key), canary=act == "canary") > 0
        elif act == "skip":
            keys = [key for key, lane in lanes.items() if lane.status != "retrying"]
            LaneOperator(self.backend, "ann").skip(name, random.choice(keys or list(lanes)), "no use")
        elif act == "pause" and rows:
            self.seen["paused"] += checkpoints.set_status(random.choice(rows).name, "paused")
        elif act == "resume":
            for row in rows:
                if row.status != "running":
                    checkpoints.set_status(row.name, "running")
        elif act == "reset" and "trail" in tables.subscriptions:
            if random.random() < self.setup.rebuilds:
                process = Process(f"rebuild{self.seen['rebuilds']}")
                self.seen["rebuilds"] += 1
                self.scheduler.spawn(process, "main", self._rebuild)
            else:
                self.seen["resets"] += 1
                checkpoints.reset("trail")

    def _rebuild(self) -> None:
        version = self.random.choice((1, 2))
        rebuild = Rebuild(self.fold(version), TYPES, self.backend, lease_seconds=self.setup.lease)
        try:
            rebuild.run(lambda progress: None, resume=self.random.random() < 0.3)
            self.seen["rebuilt"] += 1
        except EverlogError:
            self.seen["rebuilds given up"] += 1

    def _mend(self) -> None:
        """From now on nothing goes wrong any more, and a person tries until everything is done."""
        self.scheduler.tell("mended")
        self.mended = True
        self._come(self.setup.people)
        self._until_done(self.scheduler.now + int(PATIENCE * SECOND))

    def _retry_everything(self) -> None:
        rows = self.log.checkpoints.progress()
        for row in rows:
            if row.status != "running":
                self.log.checkpoints.set_status(row.name, "running")
        for one in self.processors:
            self.log.desk.lanes.retry(LaneFilter(one.name), canary=False)
        # A worker takes its own version up when it starts only, and somebody may have rebuilt another one since.
        rebuilt = any(row.name == "trail" and row.version != self.version for row in rows)
        for life in list(self.lives):
            if rebuilt or life.version != self.version:
                life.stop()

    def _until_done(self, deadline: int) -> None:
        if self._done():
            self.over = True
            for life in list(self.lives):
                life.stop()
        elif self.scheduler.now > deadline:
            self.scheduler.fail(f"not done {PATIENCE:.0f} s after the last trouble: {self.log.database.now}")
        else:
            self.scheduler.after(0.5, lambda: self._until_done(deadline))

    def _done(self) -> bool:
        tables, head = self.log.database.now, len(self.log.events)
        names = [*(one.name for one in self.processors), *(["trail"] if self.setup.fold else [])]
        rows = [tables.subscriptions.get(name) for name in names]
        return not tables.lanes and all(row and row.position == head and row.status == "running" for row in rows)


class Life:
    """One process of a worker, from its start to its end; the next one of its slot has another owner's name."""

    def __init__(self, world: World, slot: int) -> None:
        self._world, self.slot = world, slot
        world.seen["lives"] += 1
        self.owner = f"w{slot}.{world.seen['lives']}"
        self.process = Process(self.owner)
        self.process.ended = lambda: world.ended(self)
        self.stopping = Flag(world.scheduler)
        self.tail = Tail(world.backend, shortest=0.05, longest=0.5, monotonic=world.monotonic)
        self.tail._changed = Bell(world.scheduler, world.deaf)
        deploying = world.setup.deploys and not world.mended
        self.version = world.random.choice((1, 2)) if deploying else world.version
        self._skew = int(world.random.uniform(-world.setup.skew, world.setup.skew) * SECOND)
        world.lives.append(self)
        world.scheduler.spawn(self.process, "main", self._main)

    def stop(self) -> None:
        self.stopping.set()
        self.tail.hint()

    def _main(self) -> None:
        world = self._world
        try:
            calls = ProcessorCalls(world.backend, lambda event: None)
        except StoreUnavailable:
            return
        for one in world.processors:
            subscription = replace(subscription_of(one, TYPES), page=world.setup.page)
            self._follow(subscription, self._handler(one, calls))
        if world.setup.fold:
            fold = world.fold(self.version)
            handler = FoldHandler(fold, TYPES, world.log.checkpoints, world.log.fold_states)
            self._follow(replace(subscription_of(fold, TYPES), page=world.setup.page), handler)

    def _follow(self, subscription: Subscription, handler: Handler) -> None:
        world = self._world
        follower = Follower(
            subscription,
            handler,
            world.backend,
            world.log.checkpoints,
            self.tail,
            owner=self.owner,
            stopping=self.stopping,
            lease_seconds=world.setup.lease,
            monotonic=world.monotonic,
        )
        world.scheduler.spawn(self.process, subscription.name, follower.run)

    def _handler(self, one: Processor[Any], calls: ProcessorCalls) -> ProcessorHandler:
        world = self._world
        call = calls.of(one)

        def watched(claim: Claim, event: Recorded[Any]) -> None:
            world.scheduler.point("call")
            well = False
            world.judge.called(self.process, one.name, claim, event.position)
            try:
                call(claim, event)
                well = True
            finally:
                world.judge.returned(self.process, one.name, event.position, well=well)

        return ProcessorHandler(
            one,
            watched,
            TYPES,
            world.backend,
            world.log.checkpoints,
            world.log.desk,
            clock=lambda: world._wall() + self._skew,
            stopping=self.stopping,
            random=world.random,
            lease_seconds=world.setup.lease,
            crash=world.scheduler.point,
            pool=Side(world.scheduler, self.process, one.concurrency, one.name),
            monotonic=world.monotonic,
        )


def simulate(seed: str, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed; what everlog logs about its planned failures is nobody's news."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        return World(seed, tell).run()
    finally:
        logging.disable(disabled)
