"""A consumer a thousand times slower than what it follows, in a process of its own that says what memory it took (T20).

python -m tests.following.backlog sqlite:////tmp/log.db 2.0
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from everlog import Fold, Log, Platform, Recorded, SqlProjection, Transaction, Write, event, processor
from tests.following.parts import ADD, TABLE

MOST = 50_000_000
PAUSE = 0.02  # an append of many takes a thousandth of that for each event
_KEYS = 100
_SECONDS = 3600.0


@event("parcel.came")
class Came:
    key: str
    text: str = ""


@event("parcel.left")
class Left:
    key: str
    text: str = ""


class Took(msgspec.Struct, frozen=True):
    """Bytes: while nothing happened, most while it fell behind, and most when it had caught up."""

    idle: int
    slow: int
    peak: int
    handled: Mapping[str, int]

    @property
    def growth(self) -> int:
        return self.peak - self.idle


class Brake:
    """Lets one event pass in `PAUSE` seconds until it is let go, and counts them."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.passed = 0

    def __call__(self) -> None:
        self.let_go.wait(PAUSE)
        self.passed += 1


def consumers() -> tuple[Platform, Mapping[str, Brake]]:
    fold: Fold[int] = Fold("fold", initial=0)
    table = SqlProjection("table", setup=[TABLE], tables=["counted"])
    brakes = {name: Brake() for name in ("fold", "table", "send")}

    def count(total: int, e: Recorded[Any]) -> int:
        brakes["fold"]()
        return total + 1

    def insert(e: Recorded[Any], tx: Transaction) -> None:
        brakes["table"]()
        tx.execute(ADD, (e.tenant, e.data.key, 1))

    fold.on(Came, key=lambda e: e.data.key)(count)
    fold.on(Left, key=lambda e: e.data.key)(count)
    table.on(Came)(insert)
    table.on(Left)(insert)

    @processor("send", on=(Came, Left), concurrency=1)
    def send(e: Recorded[Came | Left]) -> None:
        brakes["send"]()

    return Platform("memory:", fold, table, send), brakes


def fill(log: Log, events: int, size: int) -> None:
    """So many events of so many bytes, of two types and over a hundred streams in turn."""
    session, text = log.tenant("acme"), "x" * size
    at_once = max(1, min(_KEYS, 900_000 // (size + 1)))
    for start in range(0, events, at_once):
        numbers = range(start, min(start + at_once, events))
        session.append_batch(
            *(Write(f"parcel-{n % _KEYS}", (Came, Left)[n // _KEYS % 2](str(n % _KEYS), text)) for n in numbers)
        )


def consume(url: str, slow_seconds: float) -> Took:
    with Following("memory:") as warm:
        fill(warm.log, 3, 0)
        warm.finish()
        idle = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    with Following(url) as behind:
        time.sleep(slow_seconds)  # not to wait for anything: this is how long it falls behind
        slow = _memory("VmHWM")
        behind.finish()
        return Took(idle, slow, _memory("VmHWM"), {name: brake.passed for name, brake in behind.brakes.items()})


class Following:
    """Consumers at work, their brakes on."""

    def __init__(self, url: str) -> None:
        platform, self.brakes = consumers()
        self.log = platform.open(url, worker=True)

    def finish(self) -> None:
        for brake in self.brakes.values():
            brake.let_go.set()
        assert self.log.worker is not None
        assert self.log.worker.drain(_SECONDS)

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()


def _memory(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise LookupError(what)


def fall_behind(url: str, events: int, size: int, slow_seconds: float) -> Took:
    """What following so many events of so many bytes took, all of them there before anybody followed."""
    with consumers()[0].open(url) as log:
        fill(log, events, size)
    command = [sys.executable, "-m", "tests.following.backlog", url, str(slow_seconds)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    took = msgspec.json.decode(said, type=Took)
    assert set(took.handled.values()) == {events}, took
    return took


if __name__ == "__main__":
    print(msgspec.json.encode(consume(sys.argv[1], float(sys.argv[2]))).decode())
