"""Random lives of aggregates and of their snapshots (T22): whatever happens to these, the state is that of a replay."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from everlog import AtVersion, Log, OccurredAt, Platform, Session
from tests.command.counting import Add, Added, Counter, Event, Rename, Renamed, counters, evolve
from tests.command.sides import FAST, at_once

DECIDERS = [replace(counters, name=f"every{every}", snapshot_every=every) for every in (1, 3, 10, 100)]
NEVER_COMPARED = 10**9
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Case:
    """One aggregate, and what a naive reader knows of it: its events and when they occurred."""

    random: Random
    log: Log
    path: Path
    id: str
    events: list[tuple[Event, datetime | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decider = self.random.choice(DECIDERS)
        self.stream = self.decider.stream(self.id)
        self.acme: Session = self.log.tenant("acme")

    def live(self) -> None:
        steps: list[Callable[[], None]] = [
            self.append, self.append, self.execute, self.execute, self.execute,
            self.execute_at_once, self.delete, self.corrupt, self.misplace, self.check,
        ]  # fmt: skip
        for _ in range(self.random.randint(3, 10)):
            self.random.choice(steps)()
        self.check()

    def append(self) -> None:
        events: list[Event] = [self._event() for _ in range(self.random.choice([1, 2, 7, 40]))]
        moment = self.random.choice([None, _START + timedelta(hours=self.random.randrange(1000))])
        self.acme.append(self.stream, *events, occurred_at=moment)
        self.events += [(event, moment) for event in events]

    def execute(self) -> None:
        for _ in range(self.random.choice([1, 5])):
            commands: list[Add | Rename] = [Add(self.random.randrange(9)), Rename(self.random.choice("ab"))]
            command = self.random.choice(commands)
            done = self.acme.execute(self.decider, self.id, command)
            self.events += [(event.data, None) for event in done.events]

    def execute_at_once(self) -> None:
        """Several writers of the same snapshots."""
        at_once(*[lambda: self.acme.execute(self.decider, self.id, Add(5), attempts=100)] * 3)
        self.events += [(Added("c", 5), None)] * 3

    def delete(self) -> None:
        self._sql("DELETE FROM everlog_snapshot WHERE stream = ?1 AND (version + ?2) % 3")

    def corrupt(self) -> None:
        damage = self.random.choice(
            ["x'00ff'", "coalesce(substr(state, 2), x'01')", "CAST(state || x'20' AS BLOB)", "x''", "x'7b7d'"]
        )
        self._sql(f"UPDATE everlog_snapshot SET state = {damage} WHERE stream = ?1 AND (version + ?2) % 3")

    def misplace(self) -> None:
        """Snapshots of another history, and one made for other code: right by their checksum."""
        for snapshot in list(self.log.store.snapshots.all("acme", self.stream))[-2:]:
            wrong = self.random.choice([
                snapshot._replace(version=snapshot.version + 1),
                snapshot._replace(version=snapshot.version + 1000, position=snapshot.position + 1000),
                snapshot._replace(fingerprint=os.urandom(32), state=b"{}"),
            ])  # fmt: skip
            if wrong.version not in {one.version for one in self.log.store.snapshots.all("acme", self.stream)}:
                self.log.store.snapshots.save(wrong)

    def check(self) -> None:
        versions = [None, self.random.randint(0, len(self.events) + 1)]
        for version in versions:
            at = None if version is None else AtVersion(version)
            self._same(self.acme.state(self.decider, self.id, at=at), [e for e, _ in self.events[:version]], at)
        moment = _START + timedelta(hours=self.random.randrange(1000))
        occurred = [event for event, at in self.events if at is not None and at <= moment]
        self._same(self.acme.state(self.decider, self.id, at=OccurredAt(moment)), occurred, moment)

    def _same(self, state: Counter, events: list[Event], at: object) -> None:
        expected = Counter()
        for event in events:
            expected = evolve(expected, event)
        assert state == expected, (self.stream, at)

    def _event(self) -> Event:
        events: list[Event] = [Added("c", self.random.randrange(9)), Renamed("c", self.random.choice("abc"))]
        return self.random.choice(events)

    def _sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, (self.stream, self.random.randrange(3)))


def run_cases(count: int, seed: int, path: Path) -> dict[str, int]:
    """So many cases in one log: raises `AssertionError` for a state that is not its replay, gives what was counted."""
    platform = Platform(f"sqlite:///{path}{FAST}", *DECIDERS, compare_snapshots_every=NEVER_COMPARED)
    with platform.open() as log:
        for number in range(count):
            Case(Random(f"{seed}/{number}"), log, path, str(number)).live()
        return log.counters.all()
