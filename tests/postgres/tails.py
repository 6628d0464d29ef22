"""Readers at the end of the log, against writers that hold what they have written (T09).

Some writers join a transaction and sleep in it before and after they take the head, some roll back, some just append.
Beside them transactions that have nothing to do with the log are open in this database and the next, prepared ones
too, and one of each for as long as the run takes. Three readers follow: page by page, at a `Tail`, as a `Follower`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import NamedTuple

import psycopg

from everlog.app.stores import Backend, open_store
from everlog.core.envelope import Append, NewEvent, StoredEvent
from everlog.core.ids import derived_id
from everlog.store.query import Filter
from everlog.subscription.contract import Claim, Effects
from everlog.subscription.follower import Follower, Subscription, Taken
from everlog.subscription.tail import Tail

TENANT = "acme"
EVERYTHING = Filter(None)
LONGEST_HOLD = 0.010
JOINING, APPENDING, UNRELATED = 4, 2, 3
THEIRS = "CREATE TABLE IF NOT EXISTS theirs (id serial PRIMARY KEY, told text)"
WRITE_THEIRS = "INSERT INTO theirs (told) VALUES (%s)"
PATIENCE = 10.0


class Report(NamedTuple):
    """What was injected, what was read; `delay` is the longest from a commit's answer to its being seen, in seconds."""

    faults: Counter[str]
    done: Counter[str]
    delay: float
    violations: list[str]


class RolledBack(Exception):
    """A caller's own mind changed."""


@dataclass
class Reader:
    """What one reader saw: positions with ids, in the order they came, and when."""

    name: str
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    at: dict[bytes, float] = field(default_factory=dict)

    def see(self, events: Sequence[StoredEvent]) -> None:
        now = time.monotonic()
        for event in events:
            self.seen.append((event.position, event.id))
            self.at.setdefault(event.id, now)

    @property
    def after(self) -> int:
        return self.seen[-1][0] if self.seen else 0


def follow(seed: str, url: str, elsewhere: str, seconds: float) -> Report:
    """Write and read for so long on the empty database at `url`; `elsewhere` is another one of the same server."""
    run = Run(seed, url, time.monotonic() + seconds)
    readers = [Reader("pages"), Reader("tail"), Reader("follower")]
    with ExitStack() as end:
        stores = [end.enter_context(closing(open_store(url))) for _ in range(3)]
        for database in (url, elsewhere):
            with psycopg.connect(database, autocommit=True) as session:
                session.execute(THEIRS)
            end.enter_context(open_transaction(database))
            end.enter_context(prepared_transaction(database, "as long as it takes"))
            run.faults["open for the whole run"] += 2
        reading = end.enter_context(ThreadPoolExecutor(len(readers)))
        done = threading.Event()
        end.callback(done.set)  # also where a writer fails
        follows = [
            reading.submit(read, stores[2], reader, done)
            for read, reader in zip((read_pages, read_at_tail, read_as_follower), readers, strict=True)
        ]
        writers: list[Callable[[int], None]] = [run.join] * JOINING
        writers += [lambda number, store=store: run.append(number, store) for store in stores[:APPENDING]]  # type: ignore[misc]
        writers += [lambda number: run.be_in_the_way(number, elsewhere)] * UNRELATED
        with ThreadPoolExecutor(len(writers)) as pool:
            for outcome in [pool.submit(writer, number) for number, writer in enumerate(writers)]:
                outcome.result()
        head = stores[0].head().position
        deadline = time.monotonic() + PATIENCE
        while any(reader.after < head for reader in readers) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)  # whoever sees something twice may do so now
        done.set()
        for one in follows:
            one.result()
        log = [(event.position, event.id) for event in stores[0].read(EVERYTHING)]
    violations = [*run.violations, *judged(run, log, readers)]
    delay = max(reader.at.get(id, 0.0) - at for reader in readers for id, at in run.committed.items())
    return Report(run.faults, Counter(events=len(log), readers=len(readers)), delay, violations)


def judged(run: Run, log: Sequence[tuple[int, bytes]], readers: Sequence[Reader]) -> Iterator[str]:
    """Everything committed is in the log, nothing else is, and each reader saw exactly that, in order."""
    ids = {id for _, id in log}
    if [position for position, _ in log] != list(range(1, len(log) + 1)):
        yield "positions are not 1..n"
    if missing := run.committed.keys() - ids:
        yield f"{len(missing)} committed events are not in the log"
    if undone := ids & run.undone:
        yield f"{len(undone)} events of transactions that were rolled back are in the log"
    for reader in readers:
        seen = Counter(id for _, id in reader.seen)
        if missed := ids - seen.keys():
            yield f"{reader.name} missed {len(missed)} of {len(ids)} events"
        if twice := [id for id, times in seen.items() if times > 1]:
            yield f"{reader.name} saw {len(twice)} events twice"
        if [position for position, _ in reader.seen] != sorted(position for position, _ in reader.seen):
            yield f"{reader.name} saw events out of order"
        if seen.keys() - ids:
            yield f"{reader.name} saw {len(seen.keys() - ids)} events that are not in the log"


@dataclass
class Run:
    seed: str
    url: str
    until: float
    committed: dict[bytes, float] = field(default_factory=dict)
    undone: set[bytes] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def join(self, number: int) -> None:
        """Transactions of a caller's, one after the other, that take their time and sometimes come to nothing."""
        random = Random(f"{self.seed}/join/{number}")
        with closing(open_store(self.url)) as store, psycopg.connect(self.url, autocommit=True) as theirs:
            for turn in self._turns():
                request = self._request(random, "join", number, turn)
                ids = [event.id for event in request.events]
                back = random.random() < 0.2
                try:
                    with store.join(theirs) as joining:
                        theirs.execute(WRITE_THEIRS, (str(turn),))
                        joining.append(request)
                        time.sleep(random.uniform(0, LONGEST_HOLD))
                        joining.flush()
                        time.sleep(random.uniform(0, LONGEST_HOLD))
                        if back:
                            raise RolledBack
                except RolledBack:
                    self.undone.update(ids)
                    self.faults["rolled back"] += 1
                else:
                    self.committed.update(dict.fromkeys(ids, time.monotonic()))
                    self.faults["held"] += 1

    def append(self, number: int, store: Backend) -> None:
        random = Random(f"{self.seed}/append/{number}")
        for turn in self._turns():
            request = self._request(random, "append", number, turn)
            store.append(request)
            self.committed.update(dict.fromkeys([event.id for event in request.events], time.monotonic()))
            time.sleep(random.uniform(0, LONGEST_HOLD))

    def be_in_the_way(self, number: int, elsewhere: str) -> None:
        """Transactions that have nothing to do with the log, here and elsewhere, some of them prepared."""
        random = Random(f"{self.seed}/unrelated/{number}")
        for turn in self._turns():
            kind, where = random.choice((open_transaction, prepared_transaction)), random.choice((self.url, elsewhere))
            with kind(where, f"{number}.{turn}"):
                time.sleep(random.uniform(0, 10 * LONGEST_HOLD))
            self.faults[f"{kind.__name__.replace('_', ' ')} {'here' if where == self.url else 'elsewhere'}"] += 1

    def _turns(self) -> Iterator[int]:
        for turn in count():
            if time.monotonic() >= self.until:
                return
            yield turn

    def _request(self, random: Random, who: str, number: int, turn: int) -> Append:
        """To a stream of the writer's own, so that nothing but the head keeps writers apart."""
        ids = [derived_id(TENANT, self.seed, who, number, turn, part) for part in range(random.randint(1, 4))]
        return Append(TENANT, tuple(NewEvent(id, f"{who}-{number}", "seat.taken", 1, b"{}") for id in ids))


@contextmanager
def open_transaction(url: str, told: str = "") -> Iterator[None]:
    """One that has written, so that it has a number and holds back every snapshot."""
    with psycopg.connect(url) as session:
        session.execute(WRITE_THEIRS, (told,))
        yield


@contextmanager
def prepared_transaction(url: str, name: str) -> Iterator[None]:
    """Names are one for all databases of a server."""
    unique = f"{url.rpartition('/')[2]} {name}"
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("BEGIN")
        session.execute(WRITE_THEIRS, (name,))
        session.execute(f"PREPARE TRANSACTION '{unique}'")
        try:
            yield
        finally:
            session.execute(f"COMMIT PREPARED '{unique}'")


def read_pages(store: Backend, reader: Reader, done: threading.Event) -> None:
    sizes = Random(0)
    while not done.is_set():
        reader.see(list(store.read(EVERYTHING, after=reader.after, limit=sizes.randint(1, 20))))


def read_at_tail(store: Backend, reader: Reader, done: threading.Event) -> None:
    tail = Tail(store)
    store.on_append(tail.hint)
    while not done.is_set():
        if tail.wait(reader.after, 0.2) > reader.after:
            reader.see(list(store.read(EVERYTHING, after=reader.after)))


def read_as_follower(store: Backend, reader: Reader, done: threading.Event) -> None:
    follow_with(Sees(store, reader), store, done)


def follow_with(handler: Sees, store: Backend, done: threading.Event) -> None:
    subscription = Subscription("seen", "projection", EVERYTHING, page=50)
    Follower(subscription, handler, store, store.checkpoints, Tail(store), owner="me", stopping=done).run()


@dataclass
class Sees:
    """A handler that tells its reader."""

    backend: Backend
    reader: Reader

    def begin(self, claim: Claim) -> None:
        pass

    def handle(self, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        with self.backend.checkpoints.transaction(claim, upto) as effects:
            self.take(page, effects)
        return Taken(upto, upto)

    def take(self, page: Sequence[StoredEvent], effects: Effects) -> None:
        self.reader.see(page)

    def save(self, claim: Claim, at: int) -> None:
        with self.backend.checkpoints.transaction(claim, at):
            pass

    def idle(self, claim: Claim) -> bool:
        return False
