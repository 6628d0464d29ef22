"""Threads that take turns, in an order and at times that one seed decides.

Every task is a thread, and runs only while it holds the baton. At each `point` it may give the baton back; whoever
holds it next goes on, a moment or a minute later on the one clock there is. So the code between two points is what one
machine would run undisturbed, and any seed can be run again, step by step.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import ParamSpec

P = ParamSpec("P")

SECOND = 1_000_000
_INSTANT = 20  # microseconds between two points, so that time also passes for those who never wait


class Crashed(BaseException):
    """The process ended here, without another word: what it had in memory and had not committed is gone."""


class Process:
    """What crashes, and stands still, as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until = 0
        self.tasks: set[Task] = set()
        self.ended: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return self.name


class Task:
    """One thread of a process. `turn` tells this wait from its earlier ones, whose alarms are stale."""

    __slots__ = ("baton", "call", "name", "process", "turn", "waiting")

    def __init__(self, process: Process, name: str, call: Callable[[], None], baton: threading.Lock) -> None:
        self.process, self.name, self.call, self.baton = process, name, call, baton
        self.turn, self.waiting = 0, False

    def __repr__(self) -> str:
        return f"{self.process}/{self.name}"


class _Runner:
    """A thread that runs one task after another, of one seed after another."""

    idle: list[_Runner] = []  # noqa: RUF012  (of the whole process)

    def __init__(self) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.scheduler: Scheduler
        self.task: Task
        threading.Thread(target=self._serve, name="simulated", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.baton.acquire()
            scheduler, task = self.scheduler, self.task
            try:
                if not task.process.dead:
                    task.call()
            except Crashed:
                pass
            except BaseException as error:
                scheduler.fail(f"{task} ended with {type(error).__name__}: {error}", error)
            del self.scheduler, self.task
            _Runner.idle.append(self)
            scheduler._end(task)


class Scheduler:
    """`random` decides whose turn it is; `stay` is how probably a task goes on at a point."""

    def __init__(self, random: Random, stay: float, *, limit: int, tell: Callable[[str], None] | None = None) -> None:
        self.random, self.limit = random, limit
        self.now = 1_000 * SECOND
        self.steps = 0
        self.seen: Counter[str] = Counter()
        self.failures: list[tuple[str, BaseException | None]] = []
        self.disturb: Callable[[Task], None] = lambda task: None
        self._stay, self._tell = stay, tell
        self._chance = random.random
        self._current: Task | None = None  # whoever runs; nobody while the next one is chosen
        self._runnable: list[Task] = []
        self._doomed: list[Task] = []  # they unwind first: a process that is killed does nothing slowly
        self._alarms: list[tuple[int, int, Task | Callable[[], None], int]] = []
        self._numbers = count()
        self._processes: list[Process] = []
        self._tasks = 0
        self._finished = threading.Lock()
        self._finished.acquire()

    # ---- For the world outside.

    def run(self) -> None:
        """Until no task is left and nothing is to come; or until something failed, and all are unwound."""
        task = self._next()
        if task is not None:
            self._hand_to(task)
            self._finished.acquire()

    def spawn(self, process: Process, name: str, call: Callable[P, None], *args: P.args, **named: P.kwargs) -> Task:
        runner = _Runner.idle.pop() if _Runner.idle else _Runner()
        task = Task(process, name, lambda: call(*args, **named), runner.baton)
        runner.scheduler, runner.task = self, task
        if not process.tasks:
            self._processes.append(process)
        process.tasks.add(task)
        self._tasks += 1
        self._runnable.append(task)
        return task

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Something that happens at a moment, between two steps of whoever runs."""
        heappush(self._alarms, (self.now + int(seconds * SECOND), next(self._numbers), act, 0))

    def kill(self, process: Process) -> None:
        """At once: its tasks unwind before anybody else goes on, and every further step of theirs raises `Crashed`."""
        if process.dead:
            return
        process.dead = True
        self.tell("killed", process)
        for task in sorted(process.tasks, key=lambda task: task.name):
            if task in self._runnable:
                self._runnable.remove(task)
            elif task is self._current:
                continue
            task.turn += 1
            self._doomed.append(task)

    def freeze(self, process: Process, seconds: float) -> None:
        """None of its tasks gets a turn until then, whatever they wait for."""
        process.frozen_until = self.now + int(seconds * SECOND)
        self.tell("frozen", process, f"{seconds:.1f} s")

    def fail(self, what: str, error: BaseException | None = None) -> None:
        """Something is wrong: note it, and end everything."""
        self.failures.append((what, error))
        self.tell("FAILURE", what)
        self._alarms.clear()
        for process in list(self._processes):
            self.kill(process)

    def tell(self, what: str, *about: object) -> None:
        if self._tell is not None:
            self._tell(f"{self.now / SECOND:11.6f} {' '.join(map(str, (what, *about)))}")

    @property
    def processes(self) -> list[Process]:
        """Those that have not ended yet."""
        return list(self._processes)

    # ---- For tasks.

    @property
    def current(self) -> Task:
        assert self._current is not None
        return self._current

    def point(self, name: str) -> None:
        """A place where a thread may be put aside, and a process may end."""
        me = self.current
        if me.process.dead:
            raise Crashed
        self.steps += 1
        self.now += _INSTANT
        if self._tell is not None:
            self.tell(str(me), name)
        self.disturb(me)
        if me.process.dead:
            raise Crashed
        alarms = self._alarms
        if self._chance() < self._stay and not (alarms and alarms[0][0] <= self.now) and not me.process.frozen_until:
            return
        self._runnable.append(me)
        self._give_back(me)

    def wait(self, seconds: float, among: list[Task]) -> None:
        """Until `seconds` are over, or until somebody wakes all of `among`, where this task lies meanwhile."""
        me = self.current
        if me.process.dead:
            raise Crashed
        self.steps += 1
        among.append(me)
        me.waiting = True
        heappush(self._alarms, (self.now + max(1, int(seconds * SECOND)), next(self._numbers), me, me.turn))
        self._give_back(me)
        if me in among:
            among.remove(me)

    def sleep(self, seconds: float) -> None:
        self.wait(seconds, [])

    def wake(self, among: list[Task]) -> None:
        for task in among:
            if task.waiting:
                self._rouse(task)
        among.clear()

    def _rouse(self, task: Task) -> None:
        if not task.process.dead:
            task.turn, task.waiting = task.turn + 1, False
            self._runnable.append(task)

    # ---- The baton.

    def _give_back(self, me: Task) -> None:
        self._current = None
        task = self._next()
        assert task is not None  # `me` has a turn or an alarm
        if task is me:
            self._current = me
        else:
            self._hand_to(task)
            me.baton.acquire()
        if me.process.dead:
            raise Crashed

    def _hand_to(self, task: Task) -> None:
        self._current = task
        task.baton.release()

    def _end(self, task: Task) -> None:
        """The thread of `task` is done, and hands the baton on for the last time."""
        self._current = None
        process = task.process
        process.tasks.discard(task)
        self._tasks -= 1
        if not process.tasks:
            self._processes.remove(process)
            process.ended()
        following = self._next()
        if following is None:
            self._finished.release()
        else:
            self._hand_to(following)

    def _next(self) -> Task | None:
        """Whose turn it is now. Time jumps when all wait; it only ever goes forward."""
        while True:
            if self.steps > self.limit and not self.failures:
                self.fail(f"still busy after {self.steps} steps")
            if self._doomed:
                return self._doomed.pop()
            self._ring()
            if self._doomed:
                continue
            runnable = self._runnable
            if runnable:
                place = int(self._chance() * len(runnable))
                task, runnable[place] = runnable[place], runnable[-1]
                runnable.pop()
                if task.process.frozen_until > self.now:
                    heappush(self._alarms, (task.process.frozen_until, next(self._numbers), task, task.turn))
                    continue
                task.process.frozen_until = 0
                return task
            if not self._alarms:
                if self._tasks and not self.failures:
                    self.fail("nobody can go on, and nothing is to come")
                    continue
                return None
            self.now = max(self.now, self._alarms[0][0])

    def _ring(self) -> None:
        alarms = self._alarms
        while alarms and alarms[0][0] <= self.now:
            _, _, what, turn = heappop(alarms)
            if not isinstance(what, Task):
                what()
            elif what.turn == turn:
                self._rouse(what)


class Flag(threading.Event):
    """`threading.Event` on the scheduler's time."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._waiting: list[Task] = []
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._scheduler.wake(self._waiting)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._scheduler.wait(3600.0 if timeout is None else timeout, self._waiting)
        return self._set


class Bell(threading.Condition):
    """`threading.Condition` on the scheduler's time; holding it means nothing, as only one task ever runs.

    `deaf` says whether a ring is lost this time.
    """

    def __init__(self, scheduler: Scheduler, deaf: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._scheduler, self._deaf = scheduler, deaf
        self._listening: list[Task] = []

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *error: object) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        self._scheduler.wait(3600.0 if timeout is None else timeout, self._listening)
        return True

    def notify_all(self) -> None:
        if self._listening and self._deaf():
            self._scheduler.seen["wake-ups lost"] += 1
            return
        self._scheduler.wake(self._listening)


class WriteLock:
    """One holder at a time, whoever is lucky among those who wait; false after `seconds`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: list[Task] = []
        self._held = False

    def acquire(self, seconds: float) -> bool:
        until = self._scheduler.now + int(seconds * SECOND)
        while self._held:
            left = until - self._scheduler.now
            if left <= 0:
                return False
            self._scheduler.wait(left / SECOND, self._waiting)
        self._held = True
        return True

    def release(self) -> None:
        self._held = False
        self._scheduler.wake(self._waiting)


class Side:
    """A pool (`everlog.processing.pool`) of so many tasks side by side."""

    def __init__(self, scheduler: Scheduler, process: Process, number: int, name: str) -> None:
        self._scheduler, self._process, self._free, self._name = scheduler, process, number, name
        self._queue: list[tuple[Future[None], Callable[[], None]]] = []
        self._waiting: list[Task] = []

    def start(self, call: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> Future[None]:
        future: Future[None] = Future()
        self._queue.append((future, lambda: call(*arguments, **named)))
        if self._free:
            self._free -= 1
            self._scheduler.spawn(self._process, f"{self._name}.{self._free}", self._work)
        return future

    def unfinished(self, works: Iterable[Future[None]], seconds: float) -> set[Future[None]]:
        until, works = self._scheduler.now + int(seconds * SECOND), list(works)
        while (left := {work for work in works if not work.done()}) and self._scheduler.now < until:
            self._scheduler.wait((until - self._scheduler.now) / SECOND, self._waiting)
        return left

    def close(self) -> None: ...

    def _work(self) -> None:
        while self._queue and not self._process.dead:
            future, call = self._queue.pop(0)
            try:
                call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            self._scheduler.wake(self._waiting)
        self._free += 1
