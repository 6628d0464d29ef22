"""What every case stores: order lines of about 256 bytes of JSON, after event-store-benchmark."""

import csv
import random
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

from everlog.core.ids import new_id as new_event_id

WRITERS = 64
LOADED_EVENTS = 1000  # of the stream that is loaded
EVENTS_A_STREAM = 100  # of the log that is read as a whole
PAGE = 1000
CSV_FILES = 10
CITIES = ("Lisbon", "Porto", "Madrid", "Berlin", "Paris", "Vienna", "Prague", "Oslo")


class Line(TypedDict):
    """One order line; `new_id` gives its order."""

    customer_id: str
    sku: str
    quantity: int
    unit_price: str
    currency: str
    city: str
    occurred_at: str
    note: str


def lines() -> Iterator[Line]:
    """Lines without end, made beforehand: dicts are the input of every library, and no case pays for making them.

    Threads may share the iterator: a step of `cycle` is one step of the interpreter.
    """
    return cycle(_pool())


def new_id() -> str:
    """The id of a new order, as random as the ones the peers give their aggregates."""
    return uuid4().hex


def ordered_id() -> str:
    """The same, but later ones come later in an index too."""
    return new_event_id().hex()


def write_csv(path: Path, rows: int) -> None:
    source = lines()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("order_id", *Line.__annotations__))
        writer.writeheader()
        for _ in range(rows):
            writer.writerow({"order_id": new_id(), **next(source)})


@cache
def _pool() -> list[Line]:
    random_ = random.Random(42)
    return [_line(random_, number) for number in range(4000)]


def _line(random_: random.Random, number: int) -> Line:
    minute, second = number % 60, number // 60 % 60
    return Line(
        customer_id=f"cust-{random_.randrange(100_000):06d}",
        sku=f"SKU-{random_.randrange(5000):05d}",
        quantity=random_.randrange(1, 50),
        unit_price=f"{random_.randrange(100, 99_999) / 100:.2f}",
        currency="EUR",
        city=CITIES[number % len(CITIES)],
        occurred_at=f"2026-11-{1 + number % 28:02d}T12:{minute:02d}:{second:02d}.{random_.randrange(10**6):06d}+00:00",
        note="leave with the neighbour",
    )
