"""The processes of the endurance run: `python -m benchmarks.endurance_parts append|relay|consume ORDERS`.

One appends to a log on PostgreSQL, one relays it to the broker, several consume from there into a database of their own
and never see the log. Each works until it is told to stop, or killed.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from everlog import Backoff, Log, Platform, Recorded, Relay, Retry, Transaction, event, processor

KEYS = 1_000
BATCH = 50
WRITERS = 8
PARTITIONS = 4
LEASE_SECONDS = 2.0
RELAY = "endurance"
# A worker is killed far oftener than an event deserves.
STUBBORN = Retry(attempts=1_000_000, backoff=Backoff(first=0.01, longest=0.1))


class Orders(msgspec.Struct, frozen=True):
    """Where the log, the broker and the consumers' own database are, and how many events there will be."""

    log: str
    broker: str
    consumers: str
    events: int


@event("endurance.counted")
class Counted:
    """The `n`-th of its key."""

    key: str
    n: int


EFFECTS = """CREATE TABLE IF NOT EXISTS endurance_effect (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, n bigint NOT NULL)"""


@processor("count", on=Counted, inbox=True, retry=STUBBORN, partitions=PARTITIONS)
def count(e: Recorded[Counted], tx: Transaction) -> None:
    """Twice the row of an event that comes twice; and which row came first."""
    tx.execute("INSERT INTO endurance_effect (key, n) VALUES (?, ?)", (e.data.key, e.data.n))


appending = Platform("memory:", Counted)
relaying = Platform("memory:", Counted, Relay(RELAY, [Counted]))
consuming = Platform("memory:", count)


def append(orders: Orders) -> None:
    """All of them, key by key in order, several writers at once."""
    with appending.open(orders.log) as log, ThreadPoolExecutor(WRITERS) as writers:
        for future in [writers.submit(_append, log, number, orders.events) for number in range(WRITERS)]:
            future.result()


def _append(log: Log, writer: int, events: int) -> None:
    acme, keys = log.tenant("acme"), [*range(writer, KEYS, WRITERS)]
    done = dict.fromkeys(keys, 0)
    left = {key: events // KEYS + (key < events % KEYS) for key in keys}
    while left:
        for key in [*left]:
            size = min(BATCH, left[key])
            batch = [Counted(f"k{key}", done[key] + number) for number in range(1, size + 1)]
            if batch:
                acme.append(f"counter-k{key}", *batch)
            done[key] += size
            left[key] -= size
            if not left[key]:
                del left[key]


def relay(orders: Orders) -> None:
    with relaying.open(orders.log, worker=True, relays_to=orders.broker, only=[RELAY], lease_seconds=LEASE_SECONDS):
        _until_told()


def consume(orders: Orders) -> None:
    with consuming.open(
        orders.consumers, worker=True, fed_from=orders.broker, relay=RELAY, lease_seconds=LEASE_SECONDS
    ):
        _until_told()


def _until_told() -> None:
    print("ready", flush=True)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.wait(0.1):
        pass


def sizes(events: int) -> Iterator[tuple[str, int]]:
    """How many events each key has."""
    for key in range(KEYS):
        if size := events // KEYS + (key < events % KEYS):
            yield f"k{key}", size


if __name__ == "__main__":
    {"append": append, "relay": relay, "consume": consume}[sys.argv[1]](msgspec.json.decode(sys.argv[2], type=Orders))
