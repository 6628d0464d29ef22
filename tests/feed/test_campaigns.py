"""Short versions of what is run for hours elsewhere: slow consumer (T20), herd (T41), rebuild with a spy (T38)."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from everlog import Log, Platform, Recorded, Relay
from everlog.app.rebuild import Rebuild
from everlog.core.limits import PAGE_BYTES
from everlog.testing.nats import running
from tests.feed.parts import Copy, Counted, Seen, events, eventually, progress_of, stored
from tests.following.parts import tally

MEGABYTE = 1024 * 1024


def memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_consumer_that_is_far_slower_than_what_comes_stays_small(copy: Copy, url: str) -> None:
    """T20: 100 MB wait at the broker, and hardly more than a page of them is here."""
    go_on, seen = threading.Semaphore(0), Seen()

    def slowly(e: Recorded[Counted]) -> None:
        assert go_on.acquire(timeout=60)

    for first in range(1, 401, 8):
        copy.send([stored(n, f"k{n % 7}")._replace(data=_large(n)) for n in range(first, first + 8)])
    before = memory()
    with copy.fed(Platform(url, seen.processor(slowly)), url) as log:
        assert log.worker is not None
        assert log.worker.feeding is not None
        go_on.release(40)
        seen.until(40)
        pages = log.worker.feeding._pages["seen"]
        eventually(lambda: pages._in_hand)
        grown = memory() - before
        assert sum(len(one.delivered.message.body) for one in pages._in_hand) <= PAGE_BYTES + 2 * MEGABYTE
        assert grown < 50 * MEGABYTE, f"{grown / MEGABYTE:.0f} MB"
        assert log.worker.lags()[0].events > 300
        go_on.release(400)


def test_a_herd_that_lost_the_broker_comes_back_one_by_one() -> None:
    """T41: with full jitter, and nobody loses what it owns."""
    herd = 50
    seen = [Seen() for _ in range(herd)]
    with running() as cluster, Copy.at(cluster.url()) as copy, ExitStack() as logs:
        copy.send(events(1, 3))
        opened: list[Log] = []
        for one in seen:
            platform = Platform("memory:", one.processor(concurrency=1))
            opened.append(logs.enter_context(copy.fed(platform, "memory:", lease=2.0)))
        for one in seen:
            one.until(3)
        epochs = [progress_of(log, "seen").epoch for log in opened]
        cluster.kill()
        places = [log.worker.feeding._pages["seen"].place for log in opened]  # type: ignore[union-attr]
        for place in places:
            eventually(lambda place=place: place._failures >= 4)  # type: ignore[misc]
        next_tries = [place._not_before for place in places]
        cluster.start()
        copy.send(events(4, 5))
        for one in seen:
            one.until(5)
        assert [progress_of(log, "seen").epoch for log in opened] == epochs
        assert all(sorted(one.positions) == [1, 2, 3, 4, 5] for one in seen)
        for log in opened:
            # All at once, not one after another.
            log.worker._stopping.set()  # type: ignore[union-attr]
    busiest = max(sum(start <= moment < start + 0.1 for moment in next_tries) for start in next_tries)
    assert busiest <= herd / 2, next_tries


def test_a_rebuild_sends_nothing_anywhere(copy: Copy, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T38: neither what processors send nor messages, whatever is built or looked at again."""
    seen, fold = Seen(), tally()
    platform = Platform(url, fold, seen.processor(), Relay(copy.relay, [Counted]))
    with platform.open(worker=True, relays_to=copy.url) as log:
        acme = log.tenant("acme")
        for number in range(20):
            acme.append("tally-a", Counted("a", number))
        seen.until(20)
        eventually(lambda: copy.count() == 20)
    sent: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", _spy(sent))
    with platform.open() as log:
        Rebuild(fold, platform.types, log.store).run(lambda progress: None)
        Rebuild(fold, platform.types, log.store).run(lambda progress: None, resume=True)
        assert log.tenant("acme").get(fold, "a") == sum(range(20))
        assert len(list(log.tenant("acme").events(Counted))) == 20
    assert sent == []
    assert len(seen.positions) == 20
    monkeypatch.undo()
    assert copy.count() == 20


def _spy(sent: list[object]) -> Callable[[socket.socket, object], None]:
    def connect(self: socket.socket, address: object) -> None:
        sent.append(address)
        raise ConnectionRefusedError("nothing may leave")

    return connect


def _large(number: int) -> bytes:
    return b'{"key":"k","n":%d,"more":"%s"}' % (number, b"x" * 250_000)
