"""The application of the relay's tests: copied into the folder where the command line runs, and imported there."""

from everlog import Platform, Relay, event


@event("order.placed")
class Placed:
    order_id: str


platform = Platform("sqlite:///shop.db", Relay("orders-out", types=[Placed], compare_every=0.2))
