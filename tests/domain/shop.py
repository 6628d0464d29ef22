"""The north star of the design, as far as it reaches without projections: also a program that must type-check."""

from dataclasses import dataclass

from everlog import Decider, Platform, Rejected, event


@event("order.placed", tags=["order:{order_id}"])
class Placed:
    order_id: str
    cents: int


@event("order.shipped", tags=["order:{order_id}"])
class Shipped:
    order_id: str


@dataclass(frozen=True)
class Place:
    order_id: str
    cents: int


@dataclass(frozen=True)
class Ship:
    order_id: str


def decide(command: Place | Ship, status: str) -> list[Placed | Shipped]:
    match command, status:
        case Place(order_id, cents), "new":
            return [Placed(order_id, cents)]
        case Ship(order_id), "placed":
            return [Shipped(order_id)]
    raise Rejected("wrong_moment", status=status)


def evolve(status: str, event: Placed | Shipped) -> str:
    return "placed" if isinstance(event, Placed) else "shipped"


orders = Decider("order", initial="new", decide=decide, evolve=evolve)

platform = Platform("memory:", orders)


def first_day() -> tuple[str, str]:
    """What the newcomer's program prints: the state now, and before the last event."""
    with platform.open() as log:
        acme = log.tenant("acme")
        acme.execute(orders, "o-1", Place("o-1", 4200))
        done = acme.execute(orders, "o-1", Ship("o-1"))
        return done.state, acme.state(orders, "o-1", at=done.position - 1)
