"""Six mistakes the type checker must see: exactly the marked lines are errors."""

from dataclasses import dataclass, replace

from everlog import Aggregate, AsyncSession, Rejected, applies, decides, event
from everlog.testing import given


@event("seat.reserved")
class Reserved:
    guest: str


@event("seat.freed")
class Freed:
    guest: str


@event("user.invited")
class Invited:
    email: str


@dataclass(frozen=True)
class Reserve:
    guest: str


class Seat(Aggregate[Reserve, Reserved | Freed]):
    taken_by: str = ""

    @decides(Reserve)
    def reserve(self, command: Reserve) -> list[Reserved]:
        if self.taken_by:
            raise Rejected("seat_taken")
        return [Reserved(gest=command.guest)]  # mistake: a misspelt field

    @applies(Reserved)
    def reserved(self, event: Reserved) -> "Seat":
        return replace(self, taken_by=event.guest)

    @applies(Freed)  # mistake: a handler for another event
    def freed(self, event: Invited) -> "Seat":
        return replace(self, taken_by="")


seats = Seat.decider("seat")


async def with_mistakes(acme: AsyncSession) -> None:
    given(seats, Reserved("ann")).when(Reserve("bob")).then(Invited("a@b.example"))  # mistake: no event of a seat
    given(seats).when(Invited("a@b.example"))  # mistake: no command
    await acme.execute(seats, "A1", Reserved("ann"))  # mistake: an event where a command is due
    print((await acme.execute(seats, "A1", Reserve("ann"))).state.guest)  # mistake: the state has no such attribute


def without() -> None:
    given(seats, Reserved("ann")).when(Reserve("bob")).then_rejected("seat_taken")
    given(seats).when(Reserve("ann")).then(Reserved("ann")).then_state(Seat(taken_by="ann"))
