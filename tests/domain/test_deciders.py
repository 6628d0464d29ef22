"""`Decider` and `Aggregate`: what everlog reads from their types, and what it refuses before anything runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from everlog import Aggregate, Decider, InvalidInput, Misconfigured, Platform, applies, decides, event
from tests.domain.shop import Place, Placed, Ship, Shipped, decide, evolve, orders
from tests.domain.shop_aggregate import Order


def test_commands_events_and_the_state_are_read_from_the_annotations() -> None:
    assert orders.command_types() == (Place, Ship)
    assert orders.event_types() == (Placed, Shipped)
    assert orders.state_type() is str


def test_an_aggregate_lives_in_the_stream_of_its_category() -> None:
    assert orders.stream("o-1") == "order-o-1"
    with pytest.raises(InvalidInput, match="stream 'order-o 1' is not a name"):
        orders.stream("o 1")


@pytest.mark.parametrize("name", ["", "my-order", "-", "ö", "a b", "x" * 101, ".order"])
def test_a_decider_has_a_name_that_can_be_a_category(name: str) -> None:
    with pytest.raises(Misconfigured, match=r"decider name .* without '-'"):
        Decider(name, initial="new", decide=decide, evolve=evolve)


@pytest.mark.parametrize("every", [0, -1])
def test_snapshots_are_written_every_event_or_more_seldom(every: int) -> None:
    with pytest.raises(Misconfigured, match=f"snapshot_every={every} must be 1 or more, or None"):
        Decider("order", initial="new", decide=decide, evolve=evolve, snapshot_every=every)


def test_two_deciders_of_one_name_are_refused() -> None:
    assert Platform("memory:", orders, orders).deciders == {"order": orders}
    with pytest.raises(Misconfigured, match="two deciders are named 'order': rename one, their streams would mix"):
        Platform("memory:", orders, replace(orders, snapshot_every=7))


def test_a_decider_that_is_no_part_of_the_platform_is_refused_when_it_is_used() -> None:
    other = replace(orders, snapshot_every=7)
    with Platform("memory:", orders).open() as log:
        with pytest.raises(Misconfigured, match="'order' is not part of this platform: give it to"):
            log.tenant().execute(other, "o-1", Ship("o-1"))
        with pytest.raises(Misconfigured, match="'order' is not part of this platform"):
            log.tenant().state(other, "o-1")


def untyped(state, event):  # type: ignore[no-untyped-def]
    return state


def no_event(state: str, event: int) -> str:
    return state


def no_answer(state: str, event: Placed):  # type: ignore[no-untyped-def]
    return state


def unknown_name(state: str, event: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
    return state


@pytest.mark.parametrize(
    ("evolved", "reason"),
    [
        (untyped, "evolve of 'order' needs an annotation on parameter 2: everlog reads its types from there"),
        (no_event, "which is not an event: decorate it with @event"),
        (no_answer, "evolve of 'order' needs a return annotation: the type of the state"),
        (unknown_name, "has an annotation that cannot be found: .*Nowhere.*; define it in the module"),
        (partial(evolve), "is no function whose annotations can be read"),
    ],
)
def test_an_evolve_everlog_cannot_read_is_refused_when_the_platform_is_built(
    evolved: Callable[[Any, Any], Any], reason: str
) -> None:
    with pytest.raises(Misconfigured, match=reason):
        Platform("memory:", Decider("order", initial="new", decide=decide, evolve=evolved))


@dataclass
class Odd:
    """A state no snapshot can hold."""

    later: Any = None


def odd_evolve(state: Odd, event: Placed) -> Odd:
    return Odd((state, event))


def odd_decide(command: Place, state: Odd) -> list[Placed]:
    return [Placed(command.order_id, command.cents)]


@dataclass(frozen=True)
class Draft:
    pass


@dataclass(frozen=True)
class Sent:
    pass


def either(state: Draft | Sent, event: Placed) -> Draft | Sent:
    return Sent()


def either_decide(command: Place, state: Draft | Sent) -> list[Placed]:
    return [Placed(command.order_id, command.cents)]


def test_a_state_that_does_not_survive_a_snapshot_is_refused_unless_there_are_none() -> None:
    odd = Decider("odd", initial=Odd(Draft()), decide=odd_decide, evolve=odd_evolve)
    one_of_two = Decider("either", initial=Draft(), decide=either_decide, evolve=either)
    deciders: list[Decider[Any, Any, Any]] = [odd, one_of_two]
    for decider in deciders:
        with pytest.raises(Misconfigured, match=r"does not survive a snapshot .* or snapshot_every=None"):
            Platform("memory:", decider)
        without = replace(decider, snapshot_every=None)
        with Platform("memory:", without).open() as log:
            log.tenant().execute(without, "1", Place("o-1", 1))
            assert log.tenant().state(without, "1") == decider.evolve(decider.initial, Placed("o-1", 1))


def test_an_initial_state_that_comes_back_as_another_is_refused() -> None:
    def started(state: tuple[str, ...], event: Placed) -> tuple[str, ...]:
        return (*state, event.order_id)

    def start(command: Place, state: tuple[str, ...]) -> list[Placed]:
        return []

    with pytest.raises(Misconfigured, match=r"does not survive a snapshot \(\[\] comes back as \(\)\)"):
        Platform("memory:", Decider("list", initial=[], decide=start, evolve=started))


def test_the_aggregate_is_the_same_decider_written_as_a_class() -> None:
    decider = Order.decider("order", snapshot_every=7, snapshot_version=3)
    assert decider.command_types() == (Place, Ship)
    assert decider.event_types() == (Placed, Shipped)
    assert decider.state_type() is Order
    assert (decider.initial, decider.snapshot_every, decider.snapshot_version) == (Order("new", 0), 7, 3)
    assert list(decider.decide(Place("o-1", 5), decider.initial)) == [Placed("o-1", 5)]
    assert decider.evolve(decider.initial, Placed("o-1", 5)) == Order("placed", 5)


def test_the_state_of_an_aggregate_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Order().status = "shipped"  # type: ignore[misc]


def test_a_command_without_its_method_is_refused() -> None:
    class Half(Aggregate[Place | Ship, Placed]):
        @decides(Place)
        def place(self, command: Place) -> list[Placed]:
            return []

        @applies(Placed)
        def placed(self, event: Placed) -> "Half":
            return self

    with pytest.raises(Misconfigured, match=r"Half has no @decides\(Ship\) method"):
        Half.decider("half")


def test_an_event_without_its_method_is_refused() -> None:
    class Half(Aggregate[Place, Placed | Shipped]):
        @decides(Place)
        def place(self, command: Place) -> list[Placed]:
            return []

        @applies(Placed)
        def placed(self, event: Placed) -> "Half":
            return self

    with pytest.raises(Misconfigured, match=r"Half has no @applies\(Shipped\) method"):
        Half.decider("half")


def test_two_methods_for_one_event_are_refused() -> None:
    class Twice(Aggregate[Place, Placed]):
        @decides(Place)
        def place(self, command: Place) -> list[Placed]:
            return []

        @applies(Placed)
        def placed(self, event: Placed) -> "Twice":
            return self

        @applies(Placed)
        def again(self, event: Placed) -> "Twice":
            return self

    with pytest.raises(Misconfigured, match=r"Twice has two @applies\(Placed\) methods: keep one"):
        Twice.decider("twice")


def test_a_method_for_something_undeclared_is_refused() -> None:
    class More(Aggregate[Place, Placed]):
        @decides(Place)
        def place(self, command: Place) -> list[Placed]:
            return []

        @applies(Placed)
        def placed(self, event: Placed) -> "More":
            return self

        @applies(Shipped)
        def shipped(self, event: Shipped) -> "More":
            return self

    with pytest.raises(Misconfigured, match="More handles Shipped, which Aggregate"):
        More.decider("more")


def test_a_field_without_a_default_is_refused() -> None:
    class Bare(Aggregate[Place, Placed]):
        status: str

        @decides(Place)
        def place(self, command: Place) -> list[Placed]:
            return []

        @applies(Placed)
        def placed(self, event: Placed) -> "Bare":
            return self

    with pytest.raises(Misconfigured, match="Bare starts without events: give every field a default"):
        Bare.decider("bare")


def test_an_aggregate_says_what_it_handles() -> None:
    class Silent(Aggregate):  # type: ignore[type-arg]
        pass

    with pytest.raises(Misconfigured, match=r"write Aggregate\[Commands, Events\]"):
        Silent.decider("silent")


def test_a_command_nobody_declared_is_refused_in_words() -> None:
    @event("other.happened")
    class Other:
        pass

    with pytest.raises(InvalidInput, match="Order decides on Place, Ship, not on Other"):
        Order.decider("order").decide(Other(), Order())  # type: ignore[arg-type]
