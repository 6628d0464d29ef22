"""One seed of relays: workers that crash and sleep, a broker that loses what it likes, and at the end all is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, cast

from everlog.app.relaying import refill
from everlog.app.stores import Backend
from everlog.core.envelope import NewEvent
from everlog.core.errors import EverlogError
from everlog.domain.cloudevents import event_key
from everlog.relay.routing import ALL, Outgoing, Relay
from everlog.relay.run import RelayHandler, source_of
from everlog.relay.state import Relayed, every
from everlog.store.query import Filter
from everlog.subscription.contract import Claim
from everlog.subscription.follower import Follower, Subscription
from everlog.subscription.tail import Tail
from tests.simulation.broker import MemoryBroker, Wire
from tests.simulation.database import Database, MemoryEffects
from tests.simulation.handlers import TYPES, Happened
from tests.simulation.memory import MemoryLog
from tests.simulation.scheduler import SECOND, Bell, Flag, Process, Scheduler
from tests.simulation.setup import Setup
from tests.simulation.trouble import CountingCheckpoints, Trouble, TroubledGate
from tests.simulation.world import PATIENCE, STEPS, Outcome

NAME = "out"
EXERCISED = (
    "crashes", "pauses past the lease", "commits fenced", "requests lost", "requests late", "answers lost",
    "late requests refused", "wiped", "set back", "lost one", "refills", "outcomes unknown",
)  # fmt: skip


class RelayEffects(MemoryEffects):
    """The one statement of a relay's, without SQL."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self.tables.taken["relay", str(values[0])] = cast(Any, tuple(values))
        return []


class RelayCheckpoints(CountingCheckpoints):
    @contextmanager
    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> Iterator[MemoryEffects]:
        with super().transaction(claim, position, upto=upto) as effects:
            yield RelayEffects(effects.tables, effects._begin)


class MemoryRelays:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Relayed]:
        rows = [row for (kind, _), row in self._database.read().taken.items() if kind == "relay"]
        return every(lambda sql, values: rows)


class RelayWorld:
    def __init__(self, seed: str, tell: Callable[[str], None] | None = None) -> None:
        self.seed, self.random = seed, Random(f"relay {seed}")
        self.setup = setup = replace(Setup.draw(self.random), workers=self.random.choice((1, 2, 2, 3)))
        self.scheduler = scheduler = Scheduler(self.random, setup.stay, limit=STEPS, tell=tell)
        scheduler.tell(str(setup))
        self.trouble = Trouble(setup, scheduler, slow="nobody")
        self.database = Database(lambda: scheduler.now, self.trouble.boot, TroubledGate(self.trouble))
        self.log = MemoryLog(self.database)
        self.log.checkpoints = RelayCheckpoints(self.database, scheduler.seen)
        self.relays = MemoryRelays(self.database)
        self.log.relays = self.relays  # type: ignore[attr-defined]
        self.broker = MemoryBroker()
        self.broker.stored = self._check_order
        self.harmed = False
        self.relay = Relay(NAME, types=ALL, compare_every=self.random.uniform(0.2, 3.0))
        self.stoppings: list[tuple[Flag, Tail]] = []
        self.started, self.over = 0, False

    def run(self) -> Outcome:
        setup, scheduler, random = self.setup, self.scheduler, self.random
        at = 0.0
        for number in range(setup.events):
            scheduler.after(at, partial(self._append, number))
            at += random.choice((0.0, 0.0, random.uniform(0, setup.lease)))
        for _ in range(setup.workers):
            scheduler.after(random.uniform(0, at / 2), self._start)
        for _ in range(random.choice((0, 0, 1, 2, 4))):
            scheduler.after(random.uniform(0, at + 5), self._harm)
        if random.random() < 0.3:
            scheduler.after(random.uniform(0, at + 5), self._ask_refill)
        scheduler.after(at + random.uniform(0, 10 * setup.lease), self._mend)
        scheduler.run()
        scheduler.seen.update(steps=scheduler.steps, seeds=1)
        return Outcome(self.seed, scheduler.failures, scheduler.seen, " --relay")

    def _append(self, number: int) -> None:
        what = TYPES.encode(Happened(number))
        key = self.random.randrange(self.setup.keys)
        new = NewEvent(number.to_bytes(16, "big"), f"k-{key}", what.type, what.schema_version, what.data)
        self.log.put(f"t{key % 2}", new)
        for _, tail in self.stoppings:
            tail.hint()

    def _start(self) -> None:
        """A process that relays, from its start to its end; then another one."""
        if self.over or self.scheduler.failures:
            return
        self.started += 1
        process = Process(f"r{self.started}")
        process.ended = self._ended
        stopping = Flag(self.scheduler)
        backend = cast(Backend, self.log)
        tail = Tail(backend, shortest=0.05, longest=0.5, monotonic=self._monotonic)
        tail._changed = Bell(self.scheduler, self.trouble.deaf)
        self.stoppings.append((stopping, tail))
        handler = RelayHandler(
            self.relay,
            TYPES,
            Wire(self.broker, self.trouble),
            backend,
            backend.checkpoints,
            self.relays,
            clock=lambda: self.scheduler.now,
            stopping=stopping,
            lease_seconds=self.setup.lease,
            random=self.random,
            monotonic=self._monotonic,
            crash=self.scheduler.point,
        )
        follower = Follower(
            Subscription(NAME, "relay", Filter(None), page=self.setup.page),
            handler,
            backend,
            backend.checkpoints,
            tail,
            owner=process.name,
            stopping=stopping,
            lease_seconds=self.setup.lease,
            monotonic=self._monotonic,
        )
        self.scheduler.spawn(process, NAME, follower.run)

    def _ended(self) -> None:
        if not self.over and not self.scheduler.failures:
            self.scheduler.after(self.random.uniform(0, self.setup.lease), self._start)

    def _monotonic(self) -> float:
        return self.scheduler.now / SECOND

    # ---- What goes wrong at the broker, and what a person does.

    def _harm(self) -> None:
        if self.trouble.mended:
            return
        broker, seen = self.broker, self.scheduler.seen
        self.harmed = True
        match self.random.randrange(5):
            case 0:
                broker.wipe()
                seen["wiped"] += 1
            case 1 | 2:
                broker.copy()
                self.scheduler.after(self.random.uniform(0, 5), self._set_back)
            case 3:
                broker.lose(self.random.randrange(100))
                seen["lost one"] += 1
            case _:
                self.scheduler.after(self.random.uniform(0, 5), self._harm)

    def _set_back(self) -> None:
        if not self.trouble.mended:
            self.broker.set_back(self.random.choice)
            self.scheduler.seen["set back"] += 1

    def _ask_refill(self) -> None:
        self.scheduler.spawn(Process("person"), "refill", self._refill)

    def _refill(self) -> None:
        try:
            refill(cast(Backend, self.log), NAME)
            self.scheduler.seen["refills"] += 1
        except EverlogError:
            return

    def _check_order(self) -> None:
        """No two relays, and nothing late, may ever write a message twice or behind a later one.

        But for a relay that slept while the broker lost all: it may add some once, before it is noticed. And an end
        that is removed message by message may be added to meanwhile.
        """
        ids = [one.message.id for one in self.broker.messages]
        if not self.harmed and ids != [f"{NAME}:{event_key(event, 0)}" for event in self.log.events[: len(ids)]]:
            self.scheduler.fail(f"the broker holds {ids}")

    # ---- The end.

    def _mend(self) -> None:
        self.scheduler.tell("mended")
        self.trouble.mended = True
        self._until_done(self.scheduler.now + PATIENCE * SECOND)

    def _until_done(self, deadline: int) -> None:
        difference = self.difference()
        row = self.database.now.subscriptions.get(NAME)
        if not difference and row is not None and row.position == len(self.log.events):
            self.over = True
            for stopping, tail in self.stoppings:
                stopping.set()
                tail.hint()
        elif self.scheduler.now > deadline:
            self.scheduler.fail(f"not whole {PATIENCE} s after the last trouble: {difference}; {row}")
        else:
            self.scheduler.after(0.5, partial(self._until_done, deadline))

    def difference(self) -> str:
        """Why the broker does not hold what the log says, in order, each once."""
        outgoing = Outgoing(self.relay, TYPES, source=source_of(b"l" * 16), incarnation=1)
        wanted = [(one.id, one.body) for event in self.log.events for _, one in outgoing.messages(event)]
        found = [(one.message.id, one.message.body) for one in self.broker.messages]
        return "" if wanted == found else f"{len(found)} messages for {len(wanted)} events, or in another order"


def simulate_relay(seed: str, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed. What everlog logs of its planned failures is nobody's news."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        return RelayWorld(seed, tell).run()
    finally:
        logging.disable(disabled)
