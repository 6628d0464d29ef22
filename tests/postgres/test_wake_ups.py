"""Who follows another process's appends is woken by NOTIFY, and finds by itself what it was not told of (T15)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from everlog.adapters.postgres.announce import Announcer
from everlog.app.stores import Backend, open_store
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from everlog.subscription.tail import LONGEST_POLL, Tail

EVENTS = 10
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


@dataclass
class Waiting:
    """A follower in another process than the writer's, as far as hints go: a store of its own."""

    writer: Backend
    reader: Backend
    hints: list[float] = field(default_factory=list)
    longest: float = LONGEST_POLL

    def __post_init__(self) -> None:
        self.tail = Tail(self.reader, longest=self.longest)
        self.hinted = threading.Event()
        self.reader.on_append(self._hint)

    def _hint(self) -> None:
        self.hints.append(time.monotonic())
        self.hinted.set()
        self.tail.hint()

    def delay(self) -> float:
        """Seconds from an append's answer to the moment this one sees it, which has been waiting for a while."""
        after = self.reader.head().position
        seen: list[float] = []
        waiting = threading.Thread(target=lambda: seen.append(self._wait(after)))
        waiting.start()
        time.sleep(0.3)  # by now it polls as seldom as it will
        self.writer.append(Append("acme", (NewEvent(new_id(), "seat-1", "seat.taken", 1, b"{}"),)))
        committed = time.monotonic()
        waiting.join(30)
        return seen[0] - committed

    def _wait(self, after: int) -> float:
        while self.tail.wait(after, 10.0) <= after:
            pass
        return time.monotonic()


@contextmanager
def waiting(url: str, longest: float = LONGEST_POLL) -> Iterator[Waiting]:
    with closing(open_store(url)) as writer, closing(open_store(url)) as reader:
        yield Waiting(writer, reader, longest=longest)


def test_with_every_notification_dropped_an_event_costs_a_poll(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[None] = []
    monkeypatch.setattr(Announcer, "appended", lambda self: dropped.append(None))
    with waiting(database) as one:
        assert one.hinted.wait(5)  # it listens, and was told so
        told = len(one.hints)
        delays = [one.delay() for _ in range(EVENTS)]
        print(f"{len(dropped)} notifications dropped, seen within {max(delays):.3f} s")
        assert len(one.hints) == told
    assert len(dropped) == EVENTS
    assert max(delays) <= LONGEST_POLL + 1.0


def test_a_notification_wakes_a_follower_in_another_process(database: str) -> None:
    with waiting(database, longest=20.0) as one:
        assert one.hinted.wait(5)
        assert one.delay() < 1.0


def test_a_listener_whose_connection_is_killed_comes_back_and_says_so(database: str) -> None:
    killed = 0
    with waiting(database, longest=20.0) as one, psycopg.connect(database, autocommit=True) as session:
        for _ in range(5):
            assert one.hinted.wait(5)
            one.hinted.clear()
            [(pid,)] = session.execute(LISTENERS).fetchall()
            killed += session.execute("SELECT pg_terminate_backend(%s)", (pid,)).rowcount
            # It asks again as soon as it is back: something may have been appended while it was deaf.
            assert one.hinted.wait(3)
            assert one.delay() < 1.0
    print(f"{killed} listeners killed")
    assert killed == 5
