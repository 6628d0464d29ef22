"""One answer to each event and one outcome of each command, whoever slept, changed the code or stepped in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from everlog import (
    Action,
    Appended,
    CommandRejected,
    Compensate,
    Decider,
    Do,
    LaneOperator,
    Platform,
    ProcessManager,
    Recorded,
    Rejected,
    Retry,
    Session,
    event,
    upcast,
    upcast_drop,
)
from everlog.process.events import Reacted
from everlog.process.run import Handling
from tests.following.parts import LEASE, eventually, on_both
from tests.process.parts import (
    MINUTE,
    Cancelled,
    Clock,
    Move,
    Moved,
    Placed,
    TakenIn,
    Waited,
    Weigh,
    again,
    boxes,
    count,
    moves,
    opened,
    parcels,
    parked,
    quiet,
    shipping,
    types,
)

Happens = Callable[[], object]


class Interrupted:
    """A session in which something happens before its first append, or behind it."""

    def __init__(self, session: Session, *, before: Happens | None = None, behind: Happens | None = None) -> None:
        self._session, self._before, self._behind = session, before, behind
        self.tenant, self.stream, self.execute = session.tenant, session.stream, session.execute
        self.answer = session.answer

    def acting(self, **acting: Any) -> Interrupted:
        return self

    def append(self, stream: str, *events: object, **more: Any) -> Appended:
        before, behind, self._before, self._behind = self._before, self._behind, None, None
        if before is not None:
            before()
        answer = self._session.append(stream, *events, **more)
        if behind is not None:
            behind()
        return answer


@on_both
def test_a_decision_on_what_is_no_longer_so_is_made_anew(url: str) -> None:
    manager = ProcessManager("parcel", initial=0, evolve=count, does=[boxes])

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: int, e: Recorded[Placed]) -> list[Action]:
        return [Do(boxes, "b", Move("b", f"shelf {state}"))]

    with shipping(manager).open(url) as log:
        acme = log.tenant("acme")
        acme.append("order-p", Placed("p"))
        [e] = acme.events(Placed)
        quicker = Interrupted(acme, before=lambda: acme.append("parcel-p", Waited(5)))
        handling = Handling(manager.rules)
        handling(e, quicker)
        handling(e, acme)
        assert moves(log) == ["shelf 5"]
        assert types(log, "parcel-p") == ["parcel.waited", "process.reacted"]


def test_of_two_owners_one_of_whom_slept_one_has_the_answer(url: str) -> None:
    """One has decided and not appended when another takes over, and by then the business says no."""
    meanwhile: list[Callable[[], None]] = []

    def decide(command: Move | Weigh, where: tuple[str, ...]) -> list[Moved]:
        if meanwhile:
            meanwhile.pop()()
            return [Moved("b", "shelf")]
        raise Rejected("closed")

    gate = Decider("box", (), decide, boxes.evolve)
    manager = ProcessManager("parcel", does=[gate])

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Do(gate, "b", Move("b", "shelf"))]

    with Platform("memory:", gate, manager).open(url) as log:
        acme = log.tenant("acme")
        acme.append("order-p", Placed("p"))
        [e] = acme.events(Placed)
        meanwhile.append(lambda: Handling(manager.rules)(e, acme))
        Handling(manager.rules)(e, acme)
        assert meanwhile == []
        assert moves(log) == []
        assert types(log, "parcel-p") == ["process.reacted", "process.command_rejected"]


@event("order.made")
class Made:
    parcel: str


@on_both
def test_an_event_that_could_not_be_renamed_is_parked_and_not_passed_over(url: str) -> None:
    clock = Clock()
    with Platform("memory:", Made).open(url) as log:
        log.tenant("acme").append("order-p", Made("p"))

    @upcast("order.made", 1, to=("order.placed", 1))
    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        return {"parcel": old["package"]}

    platform = Platform("memory:", boxes, parcels(), renamed)
    with platform.open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        [(key, error)] = eventually(lambda: parked(log))
        assert (key, "its upcaster failed: KeyError: 'package'" in error) == ("acme/order-p", True)


@on_both
def test_an_answer_that_could_never_be_carried_out_is_not_recorded(url: str) -> None:
    clock, manager = Clock(), ProcessManager("parcel", does=[boxes], retry=Retry(attempts=1))

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Do(boxes, "no such name", Move("b", "shelf"))]

    with shipping(manager).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        [(key, error)] = eventually(lambda: parked(log))
        assert (key, "'box-no such name' is not a name" in error) == ("acme/parcel-p", True)
        assert types(log, "parcel-p") == []


@on_both
def test_what_a_person_skipped_is_not_taken_back(url: str) -> None:
    clock, broken = Clock(), [True]

    def decide(command: Move | Weigh, where: tuple[str, ...]) -> list[Moved]:
        if broken[0] and isinstance(command, Move) and command.to == "van":
            raise RuntimeError("the van does not start")
        return boxes.decide(command, where)  # type: ignore[return-value]

    fragile = Decider("box", (), decide, boxes.evolve)
    manager = ProcessManager("parcel", does=[fragile], retry=Retry(attempts=1))

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> Iterator[Action]:
        for to, back in (("shelf", "stock"), ("van", "shelf again")):
            yield Do(fragile, "b", Move("b", to), undo=Move("b", back))

    @manager.on(Cancelled, key=lambda e: e.data.parcel)
    def cancelled(state: None, e: Recorded[Cancelled]) -> list[Action]:
        return [Compensate()]

    with Platform("memory:", fragile, manager).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        acme = log.tenant("acme")
        acme.append("order-p", Placed("p"))
        eventually(lambda: parked(log))
        LaneOperator(log.store, None).skip("parcel", "acme/parcel-p", "the van is sold")
        broken[0] = False
        acme.append("order-p", Cancelled("p"))
        quiet(log, clock)
        again(log, "parcel", clock)
        assert moves(log) == ["shelf", "stock"]


@on_both
def test_what_was_done_long_ago_needs_no_class_any_more(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)

    def decide(command: Weigh, where: tuple[str, ...]) -> list[Moved]:
        return []

    later = Decider("box", (), decide, boxes.evolve)
    manager = ProcessManager("parcel", does=[later])
    manager.on(Placed, key=lambda e: e.data.parcel)(lambda state, e: [])
    with Platform("memory:", later, manager).open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        again(log, "parcel", clock)
        assert parked(log) == []
        assert moves(log) == ["shelf", "van"]


@on_both
def test_a_process_goes_on_behind_an_event_of_its_own_that_was_dropped(url: str) -> None:
    clock = Clock()
    with opened(url, clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
        clock.now += 10 * MINUTE
        quiet(log, clock)
        assert types(log, "parcel-p")[-1] == "parcel.waited"

    manager = ProcessManager("parcel", does=[boxes])
    manager.on_timer("ask")(lambda state, e: [])

    @manager.on(TakenIn, key=lambda e: e.data.parcel)
    def taken_in(state: None, e: Recorded[TakenIn]) -> list[Action]:
        return [Do(boxes, "p", Move("p", "home"))]

    later = Platform("memory:", boxes, manager, Placed, upcast_drop("parcel.waited", 1))
    with later.open(url, worker=True, lease_seconds=LEASE, clock=clock) as log:
        log.tenant("acme").append("order-p", TakenIn("p"))
        quiet(log, clock)
        assert (moves(log)[-1], parked(log)) == ("home", [])


def test_what_an_owner_that_slept_saw_rejected_is_not_taken_back(url: str) -> None:
    manager = ProcessManager("parcel", does=[boxes])

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def placed(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Do(boxes, "b", Move("b", "shelf"), undo=Move("b", "stock"))]

    @manager.on(Cancelled, key=lambda e: e.data.parcel)
    def cancelled(state: None, e: Recorded[Cancelled]) -> list[Action]:
        return [Compensate()]

    def dies() -> None:
        raise KeyboardInterrupt

    with shipping(manager).open(url) as log:
        acme, handling = log.tenant("acme"), Handling(manager.rules)
        acme.append("order-p", Placed("p"), Cancelled("p"))
        first, second = acme.events(Placed, Cancelled)
        with pytest.raises(KeyboardInterrupt):
            handling(first, Interrupted(acme, behind=dies))
        [reacted] = acme.events(Reacted)
        what = CommandRejected(str(reacted.id), 0, "box", "b", reacted.data.commands[0].command, "closed", {})
        request = f"process {reacted.id} 0"
        slept = Interrupted(acme, behind=lambda: acme.append("parcel-p", what, request_id=request))
        handling(second, slept)
        assert moves(log) == []
