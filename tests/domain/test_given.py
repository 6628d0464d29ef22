"""The tests of rules themselves: what `given` accepts, and how it says what differs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from everlog import Decider, Fold, Misconfigured, Rejected, event
from everlog.testing import given
from tests.domain.shop import Place, Placed, Ship, Shipped, orders
from tests.domain.shop_aggregate import Order
from tests.domain.shop_aggregate import orders as aggregate_orders

PLACED, SHIPPED = Placed("o-1", 4200), Shipped("o-1")


def test_an_order_is_shipped_once_it_was_placed() -> None:
    given(orders, PLACED).when(Ship("o-1")).then(SHIPPED).then_state("shipped")
    given(aggregate_orders, PLACED).when(Ship("o-1")).then(SHIPPED).then_state(Order("shipped", 4200))


def test_an_order_that_was_not_placed_is_not_shipped() -> None:
    given(orders).when(Ship("o-1")).then_rejected("wrong_moment", status="new")
    given(aggregate_orders).when(Ship("o-1")).then_rejected("wrong_moment")


def test_only_a_decider_is_given() -> None:
    fold: Any = Fold("total", initial=0)
    with pytest.raises(Misconfigured, match="given takes a decider, not Fold"):
        given(fold, PLACED)


def test_events_alone_lead_to_a_state() -> None:
    given(orders).then_state("new")
    given(orders, PLACED, SHIPPED).then_state("shipped").when(Ship("o-1")).then_rejected("wrong_moment")


def decide(command: str, names: tuple[str, ...]) -> list[Placed]:
    if command == "crash":
        raise LookupError("a bug of the rules")
    return [] if command in names else [Placed(command, 1)]


def evolve(names: tuple[str, ...], event: Placed) -> tuple[str, ...]:
    return (*names, event.order_id)


baskets = Decider("basket", initial=(), decide=decide, evolve=evolve)


def test_a_command_that_changes_nothing() -> None:
    given(baskets, PLACED).when("o-1").then_nothing().then_state(("o-1",))


def test_what_decide_raises_besides_a_rejection_is_not_hidden() -> None:
    with pytest.raises(LookupError, match="a bug of the rules"):
        given(baskets).when("crash")


def failure(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


def test_events_that_differ_are_shown_side_by_side_field_by_field() -> None:
    assert failure(lambda: given(orders).when(Place("o-1", 4200)).then(Placed("o-1", 42), SHIPPED)) == (
        "the events of Place(order_id='o-1', cents=4200) on 'new' differ from what was expected\n"
        "  expected               actual\n"
        "  Placed                 Placed\n"
        "      order_id = 'o-1'       order_id = 'o-1'\n"
        "      cents = 42       ≠     cents = 4200\n"
        "  Shipped              ≠\n"
        "      order_id = 'o-1' ≠"
    )


def test_an_event_too_many_is_shown_beside_nothing() -> None:
    assert failure(lambda: given(orders).when(Place("o-1", 1)).then_nothing()).endswith(
        "  expected   actual\n           ≠ Placed\n           ≠     order_id = 'o-1'\n           ≠     cents = 1"
    )


def test_events_of_another_class_and_order_differ() -> None:
    two = Decider[str, int, Placed | Shipped]("two", initial=0, decide=lambda c, s: [PLACED, SHIPPED], evolve=both)
    given(two).when("go").then(PLACED, SHIPPED)
    assert "Shipped              ≠ Placed" in failure(lambda: given(two).when("go").then(SHIPPED, PLACED))


def both(state: int, event: Placed | Shipped) -> int:
    return state + 1


def test_a_state_that_differs_is_shown_side_by_side() -> None:
    ship = given(aggregate_orders, PLACED).when(Ship("o-1"))
    message = failure(lambda: ship.then_state(Order("shipped", 1)))
    assert re.search(r"cents = 1 +≠ +cents = 4200", message)
    assert re.search(r"status = 'shipped'   +status = 'shipped'", message)
    assert failure(lambda: given(orders, PLACED).then_state("new")) == (
        "the state after 1 events differ from what was expected\n  expected   actual\n  'new'    ≠ 'placed'"
    )


def test_a_rejection_nobody_expected_is_shown_with_its_reason() -> None:
    for check in (
        lambda: given(orders).when(Ship("o-1")).then(SHIPPED),
        lambda: given(orders).when(Ship("o-1")).then_nothing(),
        lambda: given(orders).when(Ship("o-1")).then_state("new"),
    ):
        message = failure(check)
        assert message.startswith("Ship(order_id='o-1') on 'new' was expected to lead to ")
        assert message.endswith(", but was rejected: wrong_moment (status='new')")


def test_a_rejection_that_did_not_come_or_was_another() -> None:
    assert failure(lambda: given(orders, PLACED).when(Ship("o-1")).then_rejected("late")) == (
        "Ship(order_id='o-1') on 'placed' was expected to be rejected as 'late', but led to Shipped(order_id='o-1')"
    )
    ship = given(orders).when(Ship("o-1"))
    assert re.search(
        r"\('rejected', 'late'\) ≠ \('rejected', 'wrong_moment'\)", failure(lambda: ship.then_rejected("late"))
    )
    other = failure(lambda: ship.then_rejected("wrong_moment", status="placed"))
    assert re.search(r"\('status', 'placed'\) +≠ \('status', 'new'\)", other)
    assert "('place', 'x')" in failure(lambda: ship.then_rejected("wrong_moment", place="x"))


def test_values_that_look_alike_and_are_not_equal_are_marked() -> None:
    @event("thing.happened")
    @dataclass(frozen=True, eq=False)
    class Same:
        n: int

    def always_same(command: str, state: int) -> list[Any]:
        return [Same(1)]

    odd = Decider[str, int, Any]("odd", initial=0, decide=always_same, evolve=lambda state, event: state)
    assert re.search(r"Same +≠ Same", failure(lambda: given(odd).when("x").then(Same(1))))


def test_a_rejected_command_leaves_no_event() -> None:
    decided = given(orders).when(Ship("o-1"))
    assert (decided.events, decided.state, type(decided.rejection)) == ((), "new", Rejected)
