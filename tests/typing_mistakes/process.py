"""Six mistakes the type checker must see: exactly the marked lines are errors."""

from datetime import timedelta

from everlog import Action, Do, Expect, Finish, ProcessManager, Recorded, Timer, TimerFired, event
from tests.domain.shop import Place, Placed, Ship, Shipped, orders


@event("care.asked")
class Asked:
    times: int


def evolve(times: int, event: Asked) -> int:
    return event.times


care = ProcessManager("care", initial=0, evolve=evolve, does=[orders])
plain = ProcessManager("plain")


@care.on(Placed, key=lambda e: e.data.order)  # mistake: the event has no such field
def placed(times: int, e: Recorded[Placed]) -> list[Action | Asked]:
    return [Timer("ask", after=timedelta(days=1)), Asked(times + 1), Do(orders, "o-1", Ship("o-1"), undo=Ship("o-2"))]


@care.on(Shipped, key=lambda e: e.data.order_id)  # mistake: it reacts to another event
def shipped(times: int, e: Recorded[Placed]) -> list[Action]:
    return [Do(orders, "o-1", Place("o-1", 1))]


@care.on_timer("ask")  # mistake: its state is a number
def ask(times: str, e: Recorded[TimerFired]) -> list[Action]:
    return [Finish()]


@care.on_missed("answer")
def missed(times: int, e: Recorded[object]) -> list[Action]:
    Do(orders, "o-1", Shipped("o-1"))  # mistake: an event where a command is due
    return [Expect("answer", within=3)]  # mistake: seconds are no timedelta


@plain.on(Placed, key=lambda e: e.data.order_id)  # mistake: it has no events of its own
def own(state: None, e: Recorded[Placed]) -> list[Action | Asked]:
    return [Asked(1)]
