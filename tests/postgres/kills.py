"""Writers that go on while their server is killed, stopped and robbed of its sessions (T04).

Eight clients with ids of their own, over two stores as if they were two processes. One store is patient and rides
through an outage by itself; the other gives up after half a second, and its clients come again with the same ids. After
each fault the next one waits until both have been answered, so every run also shows that they recover by themselves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from random import Random
from typing import NamedTuple

import psycopg

from everlog.app.stores import open_store
from everlog.testing.postgres import Server, running
from everlog.testing.postgres.postmaster import lives
from tests.concurrency.checker import Operation, check
from tests.concurrency.workload import client, exercised, logged, run_threads, streams
from tests.postgres.retrying import Retrying

WRITERS = 4  # over each store
STREAMS = 3
IMPATIENT_SECONDS = 0.5
RECOVERY_SECONDS = 10.0
# Recovery would otherwise make every file of the cluster durable, one by one, which says nothing about us.
SETTINGS = {"max_connections": "50", "recovery_init_sync_method": "syncfs"}
CRASHES = ("kill", "kill", "kill", "immediate stop", "kill one backend", "restart")


class Report(NamedTuple):
    """Which faults were injected and what was done meanwhile; `recovery` is the longest time to the next answers."""

    faults: Counter[str]
    done: Counter[str]
    recovery: float
    violations: list[str]


def crash_often(seed: str, kills: int) -> Report:
    """So many crashes of one server under load, each after some lost sessions; then everything is looked at."""
    random, faults, recovery = Random(seed), Counter[str](), 0.0
    with running(settings=SETTINGS) as server:
        url = server.url()
        with (
            closing(open_store(url)) as patient,
            closing(open_store(f"{url}?lock_timeout={IMPATIENT_SECONDS}")) as impatient,
        ):
            targets = [Retrying(patient), Retrying(impatient)]
            with _writing(targets, seed) as history:
                for number in range(kills):
                    for _ in range(random.randrange(3)):
                        faults["terminated sessions"] += _terminate(server, random)
                        time.sleep(random.uniform(0, 0.05))
                    crash = CRASHES[number % len(CRASHES)]
                    time.sleep(random.uniform(0, 0.15))
                    _CRASH[crash](server, random)
                    faults[crash] += 1
                    recovery = max(recovery, _recovered(targets))
        with closing(open_store(url)) as store:
            log = logged(store)
            violations = [f"{found.kind}: {found.detail}" for found in check(history, log)]
            violations += [f"{one.check}: {one.seen}" for one in store.examine(deep=True) if one.level == "problem"]
    done = exercised(history) + Counter({"events": len(log)})
    for target in targets:
        done.update(target.seen)
    return Report(faults, done, recovery, violations)


@contextmanager
def _writing(targets: list[Retrying], seed: str) -> Iterator[list[Operation]]:
    """The clients run while the block does; what they saw is there when it has ended."""
    history: list[Operation] = []
    stop = threading.Event()
    with ThreadPoolExecutor(len(targets)) as pool:
        crews = [
            [client(f"{store}.{writer}", seed, streams(STREAMS)) for writer in range(WRITERS)]
            for store in range(len(targets))
        ]
        running = [
            pool.submit(run_threads, target, crew, 3600.0, stop=stop)
            for target, crew in zip(targets, crews, strict=True)
        ]
        try:
            yield history
        finally:
            stop.set()
            for crew in running:
                history += crew.result()


def _recovered(targets: list[Retrying]) -> float:
    began = time.monotonic()
    for target in targets:
        target.answered.clear()
        assert target.answered.wait(RECOVERY_SECONDS), f"no answer {RECOVERY_SECONDS} s after the server was back"
    return time.monotonic() - began


def _terminate(server: Server, random: Random) -> int:
    """End one session of everlog's, at whatever it is doing."""
    with psycopg.connect(server.url(), autocommit=True) as session:
        pids = session.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'everlog' ORDER BY pid")
        victims = [row[0] for row in pids]
        if victims:
            session.execute("SELECT pg_terminate_backend(%s)", (random.choice(victims),))
    return len(victims[:1])


def _kill(server: Server, random: Random) -> None:
    server.kill()
    time.sleep(random.uniform(0, 0.1))
    server.start()


def _stop_immediately(server: Server, random: Random) -> None:
    os.kill(server.pid, signal.SIGQUIT)
    server.stop()
    server.start()


def _restart(server: Server, random: Random) -> None:
    """As an operator does it; away for longer than the impatient wait."""
    server.stop()
    time.sleep(2 * IMPATIENT_SECONDS)
    server.start()


def _kill_one_backend(server: Server, random: Random) -> None:
    """The postmaster cannot know what that one did to shared memory, so it ends all others and recovers."""
    with psycopg.connect(server.url(), autocommit=True) as session:
        pids = session.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'everlog' ORDER BY pid")
        victim = random.choice([row[0] for row in pids])
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + RECOVERY_SECONDS
        while lives(session.info.backend_pid) and time.monotonic() < deadline:
            time.sleep(0.005)


_CRASH = {
    "kill": _kill,
    "immediate stop": _stop_immediately,
    "restart": _restart,
    "kill one backend": _kill_one_backend,
}
