"""The same shop written as a class: also a program that must type-check."""

from dataclasses import replace

from everlog import Aggregate, Platform, Rejected, applies, decides
from tests.domain.shop import Place, Placed, Ship, Shipped


class Order(Aggregate[Place | Ship, Placed | Shipped]):
    status: str = "new"
    cents: int = 0

    @decides(Place)
    def place(self, command: Place) -> list[Placed]:
        if self.status != "new":
            raise Rejected("wrong_moment", status=self.status)
        return [Placed(command.order_id, command.cents)]

    @decides(Ship)
    def ship(self, command: Ship) -> list[Shipped]:
        if self.status != "placed":
            raise Rejected("wrong_moment", status=self.status)
        return [Shipped(command.order_id)]

    @applies(Placed)
    def placed(self, event: Placed) -> "Order":
        return replace(self, status="placed", cents=event.cents)

    @applies(Shipped)
    def shipped(self, event: Shipped) -> "Order":
        return replace(self, status="shipped")


orders = Order.decider("order")

platform = Platform("memory:", orders)


def first_day() -> tuple[str, str]:
    with platform.open() as log:
        acme = log.tenant("acme")
        acme.execute(orders, "o-1", Place("o-1", 4200))
        done = acme.execute(orders, "o-1", Ship("o-1"))
        return done.state.status, acme.state(orders, "o-1", at=done.position - 1).status
