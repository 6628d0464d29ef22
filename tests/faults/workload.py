"""The process under test: works a plan through a `SqliteStore` and says what it was promised, at once.

Usage: workload.py DIRECTORY SEED DECK DONE SYNCHRONOUS

After each call it writes the ids of the events that call acknowledged, and that the step is done, in one write. Started
again, it goes on behind the DONE steps that were acknowledged and asks again, with the same ids, for what was not. A
store that is unavailable or does not know is asked again too, on the same store object; every other error ends it.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TypeVar, assert_never

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended, NewEvent, Place, StoredSnapshot
from everlog.core.errors import EverlogError, OutcomeUnknown, StoreUnavailable, WrongExpectedVersion
from everlog.core.expect import Exactly, Expect, NoStream
from everlog.store import group
from everlog.store.contract import Release
from tests.faults.plan import (
    FILE,
    FINGERPRINT,
    Again,
    Appending,
    Batch,
    Event,
    Plan,
    Pruning,
    Releasing,
    Reopening,
    Saving,
    Snapshot,
    Step,
    make_plan,
    note,
)

T = TypeVar("T")

PATIENCE = 200
SECONDS = 60.0
CHECKPOINT_PAGES = 60  # a checkpoint every few steps


def settings(directory: Path, synchronous: str = "FULL") -> SqliteSettings:
    options = f"synchronous={synchronous}&allow_unsafe=synchronous&checkpoint_pages={CHECKPOINT_PAGES}"
    return SqliteSettings.from_url(f"sqlite:///{directory / FILE}?{options}")


def work(
    directory: Path, plan: Plan, seed: str, done: int = 0, synchronous: str = "FULL"
) -> Generator[int, None, None]:
    """Do the steps behind `done`, and give the number of each one just done."""
    worker = _Worker(settings(directory, synchronous), seed)
    try:
        for number, step in enumerate(plan.steps[done:], done):
            worker.take(step)
            worker.look(plan.contents[number + 1].events)
            yield number
    finally:
        worker.store.close()


class _Worker:
    def __init__(self, settings: SqliteSettings, seed: str) -> None:
        self._settings, self._clock = settings, _unsteady_clock(seed)
        self.store = self._open()

    def take(self, step: Step) -> None:
        match step:
            case Appending("append", (batch,)):
                _expect(batch, insist(lambda: self.store.append(request(batch))))
            case Appending("each", batches):
                insist(lambda: self._append_each(batches))
            case Appending():
                self._join(step)
            case Again(batch):
                _expect(batch, insist(lambda: self.store.append(request(batch))), replayed=True)
            case Releasing(positions, act):
                insist(lambda: self.store.release(Release(positions, act, "these tests")))
            case Saving(snapshot):
                insist(lambda: self.store.snapshots.save(_stored(snapshot)))
            case Pruning(tenant):
                insist(lambda: self.store.snapshots.delete(tenant))
            case Reopening():
                self.store.close()
                self.store = self._open()
            case _:
                assert_never(step)

    def look(self, events: int) -> None:
        position = insist(self.store.head).position
        assert position == events, f"the head is {position}, but {events} events were acknowledged"

    def _open(self) -> SqliteStore:
        return insist(lambda: SqliteStore(self._settings, clock=self._clock))

    def _append_each(self, batches: Sequence[Batch]) -> None:
        verdicts = self.store.append_each([request(batch) for batch in batches])
        for batch, verdict in zip(batches, verdicts, strict=True):
            if isinstance(verdict, StoreUnavailable | OutcomeUnknown):
                raise verdict
            if batch.stale:
                assert isinstance(verdict, WrongExpectedVersion), verdict
            else:
                _expect(batch, verdict)

    def _join(self, step: Appending) -> None:
        with closing(sqlite3.connect(self._settings.path or "", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA synchronous={self._settings.synchronous}")
            answers = insist(lambda: self._join_once(step, connection))
        for batch, answer in zip(step.batches, answers, strict=True):
            _expect(batch, answer)

    def _join_once(self, step: Appending, connection: sqlite3.Connection) -> Sequence[Appended]:
        with self.store.join(connection) as joined:
            _caller_writes(connection, note(step))
            for batch in step.batches:
                joined.append(request(batch))
            return joined.flush()


def _caller_writes(connection: sqlite3.Connection, id: bytes) -> None:
    """What an application does in a transaction it shares with everlog; its errors are its own to translate."""
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS note (id BLOB PRIMARY KEY)")
        connection.execute("INSERT OR IGNORE INTO note VALUES (?)", (id,))
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the caller's own statement: {error}") from error


def insist(call: Callable[[], T]) -> T:
    """Call until it is answered, as a client does that knows which errors are worth that."""
    for _ in range(PATIENCE):
        try:
            return call()
        except (StoreUnavailable, OutcomeUnknown) as error:
            print(f"{error.code}: {error}", file=sys.stderr)
    raise SystemExit(f"still no answer after {PATIENCE} attempts")


def request(batch: Batch) -> Append:
    events = tuple(_new(event) for event in batch.events)
    return Append(batch.events[0].tenant, events, _conditions(batch))


def _conditions(batch: Batch) -> dict[str, Expect]:
    """Each stream must be where the plan has it: an event stored twice would refuse the next one."""
    if batch.stale:
        return {batch.events[0].stream: Exactly(7)}
    conditions: dict[str, Expect] = {}
    for event in batch.events:
        conditions.setdefault(event.stream, Exactly(event.version - 1) if event.version > 1 else NoStream())
    return conditions


def _new(event: Event) -> NewEvent:
    return NewEvent(
        event.id,
        event.stream,
        event.type,
        event.schema_version,
        event.data,
        event.tags,
        event.occurred_at,
        event.actor,
        client=event.client,
    )


def _stored(snapshot: Snapshot) -> StoredSnapshot:
    tenant, stream, version, position, state = snapshot
    return StoredSnapshot(tenant, stream, FINGERPRINT, version, position, 0, state)


def _expect(batch: Batch, verdict: Appended | EverlogError, *, replayed: bool = False) -> None:
    """An answer that is not the planned one would be a silent failure."""
    if isinstance(verdict, EverlogError):
        raise verdict
    planned = tuple(Place(event.position, event.version) for event in batch.events)
    assert verdict.places == planned, f"{verdict.places}, where {planned} was planned"
    assert verdict.replayed or not replayed, f"{planned} was stored twice"


def _unsteady_clock(seed: str) -> Clock:
    """One that goes back now and then, and far back with every restart."""
    random, now = Random(seed), 1_800_000_000_000_000

    def clock() -> int:
        nonlocal now
        now += random.randint(-5_000, 10_000)
        return now

    return clock


def make_repeatable() -> None:
    """On a slow machine, too, the calls of one `append_each` share a transaction, so that call N is always the same."""
    group.GROUP_SECONDS = SECONDS


def main(directory: str, seed: str, deck: str, done: str, synchronous: str) -> None:
    make_repeatable()
    plan = make_plan(seed, deck)
    for number in work(Path(directory), plan, seed, int(done), synchronous):
        sys.stdout.buffer.write(b"\n".join([*plan.acks(number), b""]))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
