"""Six mistakes the type checker must see: exactly the marked lines are errors."""

from everlog import AsyncSession, Decider, Session, event
from everlog.testing import given
from tests.domain.shop import Placed, Ship, Shipped, decide, orders


@event("user.invited")
class Invited:
    email: str


def welcome(status: str, event: Invited) -> str:
    return event.email


def with_mistakes(acme: Session) -> None:
    Shipped(oder_id="o-1")  # mistake: a misspelt field
    given(orders, Invited("a@b.example"))  # mistake: no event of an order
    given(orders).when("ship")  # mistake: no command
    acme.execute(orders, "o-1", Shipped("o-1"))  # mistake: an event where a command is due
    print(acme.execute(orders, "o-1", Ship("o-1")).state.shipped_at)  # mistake: the state has no such attribute
    Decider("order", initial="new", decide=decide, evolve=welcome)  # mistake: evolve handles another event


async def without(acme: Session, other: AsyncSession) -> str:
    given(orders, Placed("o-1", 4200)).when(Ship("o-1")).then(Shipped(order_id="o-1")).then_state("shipped")
    result = await other.execute(orders, "o-1", Ship("o-1"))
    return acme.execute(orders, "o-1", Ship("o-1")).state.upper() + result.state.upper()
