"""What the workload does, as data: one seed gives the same steps to the process under test and to its checker.

Nothing here knows everlog. Every event's place is planned too, because a single client that asks for one thing after
the other leaves the store no choice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, assert_never

Kind = Literal["append", "batch", "each", "again", "joined", "import", "release", "save", "prune", "reopen"]
_SMALL: tuple[Kind, ...] = ("append", "batch", "each", "again", "joined", "release", "save", "prune", "reopen")
DECKS: Mapping[str, tuple[Kind, ...]] = {"small": _SMALL, "all": (*_SMALL, "import")}
"""The kinds of steps a plan shuffles, by name."""

FILE = "log.db"
TENANTS = ("acme", "zeta")
STREAMS = ("order-1", "order-2", "seat-1")
IMPORTED = 100
FINGERPRINT = hashlib.sha256(b"the state of these tests").digest()


class Event(NamedTuple):
    position: int
    tenant: str
    stream: str
    version: int
    id: bytes
    type: str
    schema_version: int
    occurred_at: int | None
    actor: str | None
    data: bytes
    client: bytes | None
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one request: all are stored, or none. A stale one expects what does not hold and must be refused."""

    events: tuple[Event, ...]
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Appending:
    how: Literal["append", "each", "joined"]
    batches: tuple[Batch, ...]


@dataclass(frozen=True, slots=True)
class Again:
    """A request answered long ago is sent once more."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Releasing:
    positions: tuple[int, ...]
    act: Literal["archive", "erasure"]


class Snapshot(NamedTuple):
    tenant: str
    stream: str
    version: int
    position: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Saving:
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Pruning:
    """Delete a tenant's snapshots."""

    tenant: str


@dataclass(frozen=True, slots=True)
class Reopening:
    pass


Step = Appending | Again | Releasing | Saving | Pruning | Reopening


@dataclass(frozen=True, slots=True)
class Content:
    """What a store holds: the first `events` of the plan's events, and what became of them."""

    events: int = 0
    released: frozenset[int] = frozenset()
    notes: frozenset[bytes] = frozenset()
    snapshots: frozenset[Snapshot] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    events: tuple[Event, ...]
    contents: tuple[Content, ...]
    """After no step, one step, two steps …"""

    def acks(self, number: int) -> list[bytes]:
        """What the workload says when this step is done: a line for each event, then one for the step."""
        step = self.steps[number]
        events = [event for batch in stored(step) for event in batch.events]
        return [*(event.id.hex().encode() for event in events), b"step %d" % number]

    def in_flight(self, done: int) -> Sequence[Event]:
        """The events of the one call that may be stored without having been acknowledged."""
        return [event for step in self.steps[done : done + 1] for batch in stored(step) for event in batch.events]

    def possible(self, done: int) -> list[Content]:
        """What may be stored when `done` steps were acknowledged and the next one was perhaps under way."""
        before = self.contents[done]
        if done == len(self.steps):
            return [before]
        step = self.steps[done]
        if isinstance(step, Appending) and step.how == "each":
            return list(_growing(before, stored(step)))
        return [before, self.contents[done + 1]]


def stored(step: Step) -> list[Batch]:
    """The batches a step adds to the log."""
    return [batch for batch in step.batches if not batch.stale] if isinstance(step, Appending) else []


def done_steps(acks: Iterable[bytes]) -> int:
    return sum(ack.startswith(b"step ") for ack in acks)


def make_plan(seed: str, deck: str) -> Plan:
    """One step of each kind in the deck, in an order drawn from the seed."""
    return _Planner(seed).plan(DECKS[deck])


def _growing(content: Content, batches: Iterable[Batch]) -> Iterator[Content]:
    yield content
    for batch in batches:
        content = _added(content, len(batch.events))
        yield content


def _added(content: Content, events: int) -> Content:
    return Content(content.events + events, content.released, content.notes, content.snapshots)


class _Planner:
    def __init__(self, seed: str) -> None:
        self._seed, self._random = seed, Random(seed)
        self._events: list[Event] = []
        self._batches: list[Batch] = []
        self._versions: Counter[tuple[str, str]] = Counter()
        self._released: set[int] = set()

    def plan(self, kinds: Sequence[Kind]) -> Plan:
        drawn = self._random.sample(kinds, len(kinds))
        steps = tuple(self._step(kind) for kind in drawn)
        contents = [Content()]
        for step in steps:
            contents.append(_after(contents[-1], step))
        return Plan(steps, tuple(self._events), tuple(contents))

    def _step(self, kind: Kind) -> Step:
        if not self._events and kind in ("again", "release", "save", "prune"):
            kind = "append"  # there is nothing yet for such a step to work on
        random = self._random
        match kind:
            case "append":
                return Appending("append", (self._batch(1),))
            case "batch":
                return Appending("append", (self._batch(random.randint(2, 6)),))
            case "each":
                batches = [self._batch(random.randint(1, 3)) for _ in range(3)]
                batches.insert(random.randint(0, 3), self._stale())
                return Appending("each", tuple(batches))
            case "joined":
                return Appending("joined", tuple(self._batch(random.randint(1, 3)) for _ in range(2)))
            case "import":
                return Appending("append", (self._batch(IMPORTED),))
            case "again":
                return Again(random.choice(self._batches))
            case "release":
                return self._release()
            case "save":
                return self._save()
            case "prune":
                return Pruning(random.choice(TENANTS))
            case "reopen":
                return Reopening()
            case _:
                assert_never(kind)

    def _batch(self, size: int) -> Batch:
        tenant = self._random.choice(TENANTS)
        batch = Batch(tuple(self._event(tenant) for _ in range(size)))
        self._batches.append(batch)
        return batch

    def _stale(self) -> Batch:
        tenant, stream = self._random.choice(TENANTS), "stale-1"
        return Batch((self._described(0, tenant, stream, 0, b"stale%d" % len(self._events)),), stale=True)

    def _event(self, tenant: str) -> Event:
        stream = self._random.choice(STREAMS)
        self._versions[tenant, stream] += 1
        position = len(self._events) + 1
        event = self._described(position, tenant, stream, self._versions[tenant, stream], b"%d" % position)
        self._events.append(event)
        return event

    def _described(self, position: int, tenant: str, stream: str, version: int, name: bytes) -> Event:
        random = self._random
        id = hashlib.sha256(self._seed.encode() + b"/" + name).digest()[:16]
        return Event(
            position,
            tenant,
            stream,
            version,
            id,
            type=random.choice(("seat.taken", "seat.freed")),
            schema_version=random.randint(1, 2),
            occurred_at=random.choice((None, 1_700_000_000_000_000 + position)),
            actor=random.choice((None, "ann")),
            # Content that only this event has; now and then larger than a page.
            data=b'"%s"' % (id.hex().encode() * random.choice((1, 1, 2, 5, 5, 200 if position % 7 == 0 else 9))),
            client=random.choice((None, None, b'{"ip":"10.0.0.%d"}' % (position % 200))),
            tags=tuple(sorted(random.sample(("guest:ann", "seat:1", "seat:2"), random.randint(0, 2)))),
        )

    def _release(self) -> Releasing:
        here = [event.position for event in self._events if event.position not in self._released]
        positions = tuple(self._random.sample(here, min(len(here), self._random.randint(1, 4))))
        self._released.update(positions)
        return Releasing(positions, self._random.choice(("archive", "erasure")))

    def _save(self) -> Saving:
        event = self._random.choice(self._events)
        state = hashlib.sha256(event.id).digest() * (1 + event.position % 40)
        return Saving(Snapshot(event.tenant, event.stream, event.version, event.position, state))


def _after(content: Content, step: Step) -> Content:
    events, released, notes, snapshots = content.events, content.released, content.notes, content.snapshots
    match step:
        case Appending():
            batches = stored(step)
            events += sum(len(batch.events) for batch in batches)
            if step.how == "joined":
                notes |= {note(step)}
        case Releasing(positions):
            released |= set(positions)
        case Saving(snapshot):
            snapshots |= {snapshot}
        case Pruning(tenant):
            snapshots = frozenset(kept for kept in snapshots if kept.tenant != tenant)
        case Again() | Reopening():
            pass
        case _:
            assert_never(step)
    return Content(events, released, notes, snapshots)


def note(step: Appending) -> bytes:
    """What the caller of a joined transaction writes into a table of their own."""
    return step.batches[0].events[0].id
