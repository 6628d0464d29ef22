"""Whole worker processes fed by a broker: killed anywhere, standing still, many at once (T14, T16, T18)."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from everlog import Log, Platform
from everlog.core.envelope import StoredEvent
from tests.faults.powercut import memory_directory
from tests.feed.parts import Copy, eventually, on_both, rows, stored
from tests.following import program
from tests.following.nursery import Nursery
from tests.following.program import KEYS, Orders, Running, Trap, running

SEED = os.environ.get("EVERLOG_SEED", "fed")
FED = ("keep", "send")
POINTS = (
    "checkpoint.before_commit", "checkpoint.after_commit", "keep.effect", "send.begin", "processor.marked",
    "processor.effects",
)  # fmt: skip
ANY_MOMENT = "any moment"


def event_at(position: int) -> StoredEvent:
    return stored(position, KEYS[position % len(KEYS)])


def fed(url: str, copy: Copy, **more: object) -> Orders:
    return Orders(url, follow=FED, fed_from=copy.url, relay=copy.relay, **more)  # type: ignore[arg-type]


def kept(log: Log) -> dict[str, int]:
    return dict(rows(log, "SELECT key, n FROM kept"))


def expected(last: int) -> Counter[str]:
    return Counter(KEYS[position % len(KEYS)] for position in range(1, last + 1))


def check_notes(notes: Path, last: int) -> None:
    """At least once, always under the same key, and first times in order for each key."""
    sent = [line.split() for line in notes.read_text().splitlines()]
    assert {int(position) for _, position, _ in sent} == set(range(1, last + 1))
    assert len({stable for _, _, stable in sent}) == last
    for key in KEYS:
        first = list(dict.fromkeys(int(position) for one, position, _ in sent if one == key))
        assert first == sorted(first)


@on_both
def test_however_often_it_is_killed_every_message_counts_once(copy: Copy, url: str) -> None:
    random = Random(SEED)
    kills: Counter[str] = Counter()
    with memory_directory() as folder, Nursery() as nursery:
        notes, told, last = folder / "notes", str(folder / "told"), 0
        for _ in range(16):
            sent = random.randint(2, 20)
            # Now and then what was sent is sent again, from anywhere on: a refill.
            first = random.randint(1, last + 1) if random.random() < 0.3 else last + 1
            copy.send([event_at(position) for position in range(first, last + sent + 1)])
            last += sent
            where = random.choice([*POINTS, ANY_MOMENT])
            traps = () if where == ANY_MOMENT else (Trap(where, random.randint(1, 12)),)
            orders = fed(url, copy, lease=0.05, until_quiet=True, notes=str(notes), traps=traps)
            code = nursery.run(orders, told, random.uniform(0.2, 0.6) if where == ANY_MOMENT else None)
            kills[where] += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL), Path(told).read_text()[-3000:]
        orders = fed(url, copy, lease=0.05, until_quiet=True, notes=str(notes))
        assert nursery.run(orders, told) == 0, Path(told).read_text()[-3000:]
        with Platform(url, program.inline).open() as log:
            assert kept(log) == expected(last)
            assert rows(log, "SELECT key FROM everlog_lane") == []
        check_notes(notes, last)
    assert kills.total() >= 6, kills


@on_both
@pytest.mark.parametrize("point", ["processor.marked", "processor.effects"])
def test_an_owner_that_stood_still_keeps_nothing_of_what_it_had_in_hand(copy: Copy, url: str, point: str) -> None:
    """T18: stopped for longer than its lease, replaced, and let go on. Alone, or it might stop with SQLite's lock."""
    copy.send([event_at(position) for position in range(1, 41)])
    alone = replace(fed(url, copy, lease=0.5), follow=("keep",))
    with running(replace(alone, traps=(Trap(point, 1, signal.SIGSTOP),))) as first:
        first.wait_until_it_says(f"at {point}")
        with running(alone), Platform(url, program.inline).open() as log:
            eventually(lambda: _settled(log, "keep") == 40)
            first.process.send_signal(signal.SIGCONT)
            eventually(lambda: any(line.startswith("fenced") for line in first.lines))
            copy.send([event_at(position) for position in range(41, 61)])
            eventually(lambda: _settled(log, "keep") == 60)
            assert kept(log) == expected(60)


@on_both
def test_workers_that_share_the_broker_come_and_go(copy: Copy, url: str) -> None:
    copy.send([event_at(position) for position in range(1, 101)])
    workers = [Running(fed(url, copy, lease=0.4)) for _ in range(3)]
    try:
        with Platform(url, program.inline).open() as log:
            for round in range(1, 3):
                eventually(lambda round=round: _settled(log, "keep") == 100 * round)  # type: ignore[misc]
                gone = workers.pop(0)
                gone.process.kill()
                gone.ended()
                workers.append(Running(fed(url, copy, lease=0.4)))
                copy.send([event_at(p) for p in range(100 * round + 1, 100 * round + 101)])
            eventually(lambda: _settled(log, "keep") == 300)
            assert kept(log) == expected(300)
    finally:
        for one in workers:
            one.process.kill()
            one.ended()


def _settled(log: Log, name: str) -> int:
    return len(log.store.desk.inbox.known(name, 1, range(1, 500)))
