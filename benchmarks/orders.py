"""The business code of everlog's cases: one event and one state, as msgspec structs and as the dataclasses they may be.

Structs are the fastest kind an event may be, so they stand for everlog; both give the same bytes.
"""

from dataclasses import dataclass
from typing import Never

import msgspec

from everlog import Decider, event


@event("order.line_added", tags=["order:{order_id}"])
class LineAdded(msgspec.Struct, frozen=True):
    order_id: str
    customer_id: str
    sku: str
    quantity: int
    unit_price: str
    currency: str
    city: str
    occurred_at: str
    note: str


@event("order.line_added_untagged")
class UntaggedLineAdded(LineAdded, frozen=True):
    """What a tag costs: the peers index none."""


class Order(msgspec.Struct, frozen=True):
    quantity: int = 0
    lines: int = 0


@event("order.line_added", tags=["order:{order_id}"])
class PlainLineAdded:
    order_id: str
    customer_id: str
    sku: str
    quantity: int
    unit_price: str
    currency: str
    city: str
    occurred_at: str
    note: str


@dataclass(frozen=True)
class PlainOrder:
    quantity: int = 0
    lines: int = 0


def decide(command: object, order: object) -> list[Never]:
    """No case sends commands."""
    return []


def add(line: LineAdded, order: Order) -> list[LineAdded]:
    return [line]


def evolve(order: Order, event: LineAdded) -> Order:
    return Order(order.quantity + event.quantity, order.lines + 1)


def evolve_plain(order: PlainOrder, event: PlainLineAdded) -> PlainOrder:
    return PlainOrder(order.quantity + event.quantity, order.lines + 1)


orders = Decider("order", Order(), decide, evolve, snapshot_every=None)
plain_orders = Decider("order", PlainOrder(), decide, evolve_plain, snapshot_every=None)
kept_orders = Decider("order", Order(), add, evolve, snapshot_every=10)
