"""A worker process that takes its share of divided subscriptions: `python -m tests.following.sharing URL LEASE`.

Its handlers note every event, in the order handled, and who did it.
"""

from __future__ import annotations

import signal
import sys
import threading

from everlog import Fold, Platform, Recorded, SqlProjection, Transaction, processor
from tests.following.parts import Counted, tally

PARTITIONS = 4
NOTED = "CREATE TABLE IF NOT EXISTS noted (key TEXT, place INTEGER, n INTEGER, owner TEXT, PRIMARY KEY (key, place))"

owner = ""


def take_note(e: Recorded[Counted], tx: Transaction) -> None:
    """Its place in the table is the order of commits, as far as one key goes."""
    place = tx.execute("SELECT coalesce(max(place), 0) + 1 FROM noted WHERE key = ?", (e.data.key,))[0][0]
    tx.execute("INSERT INTO noted (key, place, n, owner) VALUES (?, ?, ?, ?)", (e.data.key, place, e.data.n, owner))


taken = processor("taken", on=Counted, key=lambda e: e.data.key, inbox=True, partitions=PARTITIONS)(take_note)


def shared_tally() -> Fold[int]:
    fold = Fold("shares", initial=0, partitions=PARTITIONS)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        return total + e.data.n

    return fold


shares = shared_tally()
rows = SqlProjection(
    "rows", setup=["CREATE TABLE IF NOT EXISTS summed (key TEXT PRIMARY KEY, n INTEGER)"], tables=["summed"],
    partitions=PARTITIONS, key=lambda e: e.data.key,
)  # fmt: skip


@rows.on(Counted)
def sum_up(e: Recorded[Counted], tx: Transaction) -> None:
    tx.execute(
        "INSERT INTO summed VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET n = summed.n + excluded.n",
        (e.data.key, e.data.n),
    )


platform = Platform("memory:", taken, shares, rows, tally("whole"))


def work(url: str, lease: float) -> None:
    global owner
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with platform.open(url, worker=True, lease_seconds=lease) as log:
        assert log.worker is not None
        owner = log.worker.owner
        print(owner, flush=True)
        while not stopping.wait(0.05):
            pass


if __name__ == "__main__":
    work(sys.argv[1], float(sys.argv[2]))
