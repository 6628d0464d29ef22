"""The application of these tests: copied into the folder where the command line runs, and imported there."""

from dataclasses import dataclass, replace

from everlog import Decider, Platform, event, upcast, upcast_drop, upcast_split


@event("order.placed", version=2, tags=["order:{order_id}"])
class Placed:
    order_id: str
    cents: int
    currency: str


@event("order.shipped", tags=["order:{order_id}"])
class Shipped:
    order_id: str


@event("order.paid", tags=["order:{order_id}"])
class Paid:
    order_id: str


@upcast("order.placed", 1)
def with_currency(old: dict[str, object]) -> dict[str, object]:
    return {**old, "currency": "EUR"}


@upcast_split("order.completed", 1, into=[("order.paid", 1), ("order.shipped", 1)])
def in_two(old: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
    return [("order.paid", old), ("order.shipped", old)]


noted = upcast_drop("order.noted", 1)


@dataclass(frozen=True)
class Order:
    status: str = "new"
    cents: int = 0


def decide(command: str, state: Order) -> list[Placed | Shipped | Paid]:
    raise NotImplementedError


def evolve(state: Order, event: Placed | Shipped | Paid) -> Order:
    match event:
        case Placed():
            return Order("placed", event.cents)
        case Paid():
            return replace(state, status="paid")
        case Shipped():
            return replace(state, status="shipped")


orders = Decider("order", initial=Order(), decide=decide, evolve=evolve, snapshot_every=2)
platform = Platform("sqlite:///shop.db", orders, with_currency, in_two, noted)
