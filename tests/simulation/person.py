"""What people do while everything goes wrong: retry, skip, pause, resume, reset, rebuild; at last they put it right."""

from __future__ import annotations

from collections.abc import Callable

from everlog.app.lanes import LaneOperator
from everlog.app.rebuild import Rebuild
from everlog.core.errors import EverlogError
from everlog.processing.contract import LaneFilter
from tests.simulation.database import Tables
from tests.simulation.handlers import FOLD, TYPES
from tests.simulation.scheduler import Process
from tests.simulation.worker import Parts

PERSON = "person"
"""The name of the task in which a person acts."""


class Person:
    """Acts in a process of their own, which may crash too: then they come back. `look` shows what is on the screen."""

    def __init__(self, number: int, parts: Parts, look: Callable[[], Tables], over: Callable[[], bool]) -> None:
        self._number, self._parts, self._look, self._over = number, parts, look, over
        self._trouble, self._scheduler = parts.trouble, parts.trouble.scheduler
        self._random, self._seen, self._setup = parts.trouble.random, parts.trouble.seen, parts.trouble.setup
        self._desk, self._checkpoints = parts.backend.desk, parts.backend.checkpoints
        self.come()

    def come(self) -> None:
        if not self._over():
            process = Process(f"{PERSON}{self._number}")
            process.ended = self.come
            self._scheduler.spawn(process, PERSON, self._act)

    def _act(self) -> None:
        while not self._over():
            try:
                if self._trouble.mended:
                    self._scheduler.sleep(1.0)
                    self._put_right()
                else:
                    hurries = self._random.random() < 0.5
                    self._scheduler.sleep(0.0 if hurries else self._random.expovariate(self._setup.pace))
                    self._one_act()
            except EverlogError:
                self._seen["a person was refused"] += 1

    def _one_act(self) -> None:
        tables, random = self._look(), self._random
        name = random.choice(self._parts.processors).name
        keys = [key for of, key in tables.lanes if of == name]
        acts = ["pause"] if random.random() < 0.1 else ["resume"]
        acts += ["retry", "canary", "canary", "skip", "skip"] if keys else []
        act = random.choice([*acts, "reset"] if FOLD in tables.subscriptions else acts)
        self._scheduler.tell(PERSON, act, name)
        match act:
            case "retry" | "canary":
                where = LaneFilter(name, random.choice(keys) if random.random() < 0.25 else None)
                self._seen[act] += self._desk.lanes.retry(where, canary=act == "canary") > 0
            case "skip":
                idle = [key for key in keys if tables.lanes[name, key].status != "retrying"]
                LaneOperator(self._parts.backend, "ann").skip(name, random.choice(idle or keys), "no use")
            case "pause" if tables.subscriptions:
                self._checkpoints.set_status(random.choice(list(tables.subscriptions)), "paused")
                self._seen["paused"] += 1
            case "resume":
                self._resume(tables)
            case "reset" if random.random() < self._setup.rebuilds:
                self._seen["rebuilds"] += 1
                self._scheduler.spawn(Process(f"rebuild{self._seen['rebuilds']}"), "main", self._rebuild)
            case "reset":
                self._checkpoints.reset(FOLD)
                self._seen["resets"] += 1

    def _rebuild(self) -> None:
        """Of either version, in a process of its own."""
        fold = self._parts.handlers.fold(self._random.choice((1, 2)))
        try:
            Rebuild(fold, TYPES, self._parts.backend, lease_seconds=self._setup.lease).run(
                lambda progress: None, resume=self._random.random() < 0.3
            )
            self._seen["rebuilt"] += 1
        except EverlogError:
            self._seen["rebuilds given up"] += 1

    def _resume(self, tables: Tables) -> None:
        for row in tables.subscriptions.values():
            if row.status != "running":
                self._checkpoints.set_status(row.name, "running")

    def _put_right(self) -> None:
        self._resume(self._look())
        for one in self._parts.processors:
            self._desk.lanes.retry(LaneFilter(one.name), canary=False)
