"""End to end under fire: `python -m benchmarks.endurance --events N --json`.

N events are appended to a real PostgreSQL, relayed through a real three-node JetStream cluster, and consumed by four
worker processes into another database. A worker is killed every five seconds and another one started; a node of the
cluster is killed twice, and comes back. Then every event must have had its effect once, in order for each key.
"""

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Annotated

import msgspec
import psycopg
import typer

from benchmarks.endurance_parts import EFFECTS, Orders, sizes
from everlog.app.stores import migrate_store
from everlog.testing import nats, postgres

WORKERS = 4
KILL_SECONDS = 5.0
NODE_KILLS = 2
NODE_DOWN_SECONDS = 4.0
STALLED_SECONDS = 120.0
LOOK_SECONDS = 0.25


@dataclass
class Report:
    """What must hold: `effects` is `appended`, and `missing`, `doubled` and `out_of_order` are 0."""

    appended: int = 0
    effects: int = 0
    missing: int = 0
    doubled: int = 0
    out_of_order: int = 0
    kills: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.effects == self.appended and not (self.missing or self.doubled or self.out_of_order)


@dataclass
class Fire:
    """Kills a worker every few seconds, and a node of the cluster as a third and two thirds of the work are done."""

    start: Callable[[], "subprocess.Popen[bytes]"]
    cluster: nats.Cluster
    events: int
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    random: Random = field(default_factory=lambda: Random(5))
    _next: float = 0.0
    _node_back: float | None = None
    _node: int = 0

    def begin(self) -> None:
        self.workers += [self.start() for _ in range(WORKERS)]
        self._next = time.monotonic() + KILL_SECONDS

    def burn(self, done: int) -> None:
        """Called all the time, with how many effects there are."""
        now = time.monotonic()
        if now >= self._next:
            self._next += KILL_SECONDS
            victim = self.workers.pop(self.random.randrange(len(self.workers)))
            victim.kill()
            victim.wait()
            self.workers.append(self.start())
            self.kills["worker"] += 1
        if self._node_back is not None and now >= self._node_back:
            self.cluster.start(self._node)
            self._node_back = None
        due = self.events * (self.kills["node"] + 1) // (NODE_KILLS + 1)
        if self._node_back is None and self.kills["node"] < NODE_KILLS and done >= due:
            self._node = self.random.randrange(len(self.cluster.nodes))
            self.cluster.kill(self._node)
            self._node_back = now + NODE_DOWN_SECONDS
            self.kills["node"] += 1


def run(events: int, *, say: Callable[[str], None] = lambda line: None) -> Report:
    """One run; raises `TimeoutError` when nothing has happened for two minutes."""
    report = Report()
    with contextlib.ExitStack() as end:
        server = end.enter_context(postgres.running(settings={"max_connections": "200"}))
        cluster = end.enter_context(nats.running(3))
        orders = _prepared(server.url(), cluster.url("ENDURANCE"), events)
        database = end.enter_context(psycopg.connect(orders.consumers, autocommit=True))
        fire = Fire(lambda: _started("consume", orders), cluster, events)
        began = time.monotonic()
        end.callback(lambda: _end(fire.workers))
        relay, appender = _started("relay", orders), _started("append", orders)
        end.callback(lambda: _end([relay, appender]))
        fire.begin()
        for done in _effects(database, events):
            fire.burn(done)
            say(f"{done} of {events} after {time.monotonic() - began:.0f} s, {dict(fire.kills)}")
        report.seconds = round(time.monotonic() - began, 1)
        if appender.wait(30):
            raise RuntimeError("the appender failed; see above")
        with psycopg.connect(orders.log) as log:
            [(report.appended,)] = log.execute("SELECT position FROM everlog_log").fetchall()
        _end(fire.workers)
        report.kills = fire.kills.total()
        _check(report, database, events)
    return report


def _prepared(url: str, broker: str, events: int) -> Orders:
    with psycopg.connect(url, autocommit=True) as admin:
        for name in ("endurance_log", "endurance_consumers"):
            admin.execute(f"CREATE DATABASE {name}")
    base = url.rsplit("/", 1)[0]
    log, consumers = f"{base}/endurance_log", f"{base}/endurance_consumers"
    for one in (log, consumers):
        migrate_store(one)
    with psycopg.connect(consumers, autocommit=True) as database:
        database.execute(EFFECTS)
    return Orders(log, broker, consumers, events)


def _started(role: str, orders: Orders) -> "subprocess.Popen[bytes]":
    told = msgspec.json.encode(orders).decode()
    return subprocess.Popen([sys.executable, "-m", "benchmarks.endurance_parts", role, told], stdout=subprocess.DEVNULL)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for one in processes:
        one.terminate()
    for one in processes:
        try:
            one.wait(30)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def _effects(database: "psycopg.Connection[tuple[int]]", events: int) -> Iterator[int]:
    """How many rows there are, again and again, until there are enough."""
    done, moved = 0, time.monotonic()
    while done < events:
        found = database.execute("SELECT count(*) FROM endurance_effect").fetchone()
        assert found is not None
        if found[0] > done:
            done, moved = found[0], time.monotonic()
        elif time.monotonic() - moved > STALLED_SECONDS:
            raise TimeoutError(f"{done} of {events} effects, and no more in {STALLED_SECONDS:.0f} s")
        yield done
        time.sleep(LOOK_SECONDS)


def _check(report: Report, database: "psycopg.Connection[tuple[int]]", events: int) -> None:
    expected = dict(sizes(events))
    rows = database.execute("SELECT key, n FROM endurance_effect ORDER BY key, place").fetchall()
    report.effects = len(rows)
    found: Counter[str] = Counter()
    for key, group in itertools.groupby(rows, lambda row: str(row[0])):
        numbers = [int(row[1]) for row in group]  # type: ignore[misc]
        found[key] = len(set(numbers))
        report.doubled += len(numbers) - len(set(numbers))
        report.out_of_order += sum(later < earlier for earlier, later in itertools.pairwise(numbers))
    report.missing = sum(size - found[key] for key, size in expected.items())


def main(
    events: Annotated[int, typer.Option(min=1, help="How many are appended.")] = 100_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Append, relay through a cluster, consume, and kill all the time; exits with 1 when an effect is not once."""
    said = [0.0]

    def say(line: str) -> None:
        if time.monotonic() - said[0] > 5:
            said[0] = time.monotonic()
            print(line, file=sys.stderr)

    report = run(events, say=say)
    told = asdict(report)
    print(json.dumps(told) if as_json else "\n".join(f"{name:14}{value}" for name, value in told.items()))
    raise typer.Exit(0 if report.holds else 1)


if __name__ == "__main__":
    typer.run(main)
