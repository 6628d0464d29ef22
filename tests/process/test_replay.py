"""What a process manager answers, played without a store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Never, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlog import (
    Action,
    CommandRejected,
    Decider,
    Do,
    Expect,
    InvalidInput,
    Misconfigured,
    Platform,
    ProcessManager,
    Recorded,
    Timer,
)
from everlog.testing import Commanded, happened, replayed
from tests.process.parts import (
    MINUTE,
    NOON,
    Cancelled,
    Move,
    Moved,
    Placed,
    TakenIn,
    Waited,
    Weigh,
    boxes,
    count,
    parcels,
    shipping,
)

placed = happened(Placed("p"), NOON)


def test_commands_timers_and_own_events_come_in_the_order_of_time() -> None:
    seen = replayed(parcels(), [placed], until=NOON + 60 * MINUTE)
    assert [one.command for one in seen.commands] == [
        Move("p", "shelf"), Move("p", "van"), Move("moon", "moon"), Weigh("x")
    ]  # fmt: skip
    assert seen.events == (Waited(1), Waited(2), Waited(3))
    assert seen.missed == ("taken in",)
    assert seen.states == {"p": 3}


def test_nothing_is_due_before_its_time() -> None:
    assert replayed(parcels(), [placed], until=NOON + 10 * MINUTE - timedelta(microseconds=1)).events == ()
    assert replayed(parcels(), [placed], until=NOON + 10 * MINUTE).events == (Waited(1),)


def test_what_is_cancelled_or_met_does_not_come() -> None:
    seen = replayed(parcels(), [placed, happened(TakenIn("p"), NOON + MINUTE)], until=NOON + 60 * MINUTE)
    assert (len(seen.commands), seen.events, seen.missed) == (2, (), ())


def test_compensation_takes_back_in_reverse_what_was_done_and_the_process_is_over() -> None:
    late = happened(TakenIn("p"), NOON + 2 * MINUTE)
    seen = replayed(parcels(), [placed, happened(Cancelled("p"), NOON + MINUTE), late], until=NOON + 60 * MINUTE)
    assert [one.command.to for one in seen.commands] == ["shelf", "van", "shelf", "stock"]
    assert seen.events == ()


def test_what_was_rejected_is_not_taken_back() -> None:
    seen = replayed(
        parcels(), [placed, happened(Cancelled("p"), NOON + MINUTE)],
        rejects=lambda command: "full" if command.to == "van" else None,
    )  # fmt: skip
    assert [one.command for one in seen.commands] == [
        Move("p", "shelf"), Move("full", "desk"), Move("p", "stock")
    ]  # fmt: skip


def test_a_rejection_is_an_input_of_its_own() -> None:
    seen = replayed(
        parcels(),
        [placed],
        until=NOON + 60 * MINUTE,
        rejects=lambda c: "too_far" if c == Move("moon", "moon") else None,
    )
    assert seen.commands[-1] == Commanded("box", "told-parcel-p", Move("too_far", "desk"))


@given(st.lists(st.integers(0, 3), max_size=12))
@settings(deadline=None)
def test_duplicates_change_nothing(again: list[int]) -> None:
    events = [
        placed,
        happened(TakenIn("p"), NOON + 12 * MINUTE),
        happened(Cancelled("p"), NOON + 30 * MINUTE),
        happened(Placed("q"), NOON + 31 * MINUTE),
    ]
    more = [one for number, one in enumerate(events) for _ in range(1 + again.count(number))]
    until = NOON + 90 * MINUTE
    assert replayed(parcels(), [*more, *events], until=until) == replayed(parcels(), events, until=until)


def test_what_meant_nothing_once_means_nothing_when_it_comes_again() -> None:
    manager = ProcessManager("opener", initial=0, evolve=count, does=[boxes])

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def begin(state: int, e: Recorded[Placed]) -> list[Action | Waited]:
        return [Waited(state + 1)]

    @manager.on(TakenIn, key=lambda e: e.data.parcel)
    def check(state: int, e: Recorded[TakenIn]) -> list[Action]:
        return [Do(boxes, "b", Move("b", "van"))] if state > 1 else []

    taken_in, more = happened(TakenIn("p"), NOON + MINUTE), happened(Placed("p"), NOON + 2 * MINUTE)
    assert replayed(manager, [placed, taken_in, more, taken_in]).commands == ()
    assert len(replayed(manager, [placed, more, taken_in]).commands) == 1


def answering(*answer: Action) -> ProcessManager[None, Never]:
    manager = ProcessManager("odd", does=[boxes])
    manager.on(Placed, key=lambda e: e.data.parcel)(lambda state, e: answer)
    return manager


def test_a_timer_that_nothing_follows_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"sets timer 't', which nothing follows: .*on_timer\('t'\)"):
        replayed(answering(Timer("t", after=MINUTE)), [placed])


@pytest.mark.parametrize("first", [Timer("t", after=MINUTE), Expect("t", within=MINUTE)])
def test_a_timer_and_an_expectation_of_one_name_are_refused(first: Action) -> None:
    second = Expect("t", within=MINUTE) if isinstance(first, Timer) else Timer("t", after=MINUTE)
    with pytest.raises(InvalidInput, match="a timer and an expectation named 't'"):
        replayed(answering(first, second), [placed])


def test_an_id_that_names_no_aggregate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'box-no such name' is not a name"):
        replayed(answering(Do(boxes, "no such name", Move("b", "van"))), [placed])


def test_an_expectation_that_nothing_follows_is_recorded_as_missed() -> None:
    assert replayed(answering(Expect("t", within=MINUTE)), [placed], until=NOON + MINUTE).missed == ("t",)


def test_what_a_process_may_not_answer_is_refused_with_what_it_may() -> None:
    manager = ProcessManager("wrong")

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def react(state: None, e: Recorded[Placed]) -> list[Action]:
        return [TakenIn(e.data.parcel)]  # type: ignore[list-item]

    with pytest.raises(InvalidInput, match=r"answered with TakenIn.*it may give Do, Timer"):
        replayed(manager, [placed])


def test_a_decider_it_did_not_name_is_not_commanded() -> None:
    manager = ProcessManager("wrong")

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def react(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Do(boxes, "b", Move("b", "van"))]

    with pytest.raises(Misconfigured, match="add it to its does="):
        replayed(manager, [placed])


@pytest.mark.parametrize("make", [lambda: Timer("t"), lambda: Timer("t", at=NOON, after=MINUTE)])
def test_a_timer_needs_one_time(make: object) -> None:
    with pytest.raises(InvalidInput, match="needs one of at= and after="):
        make()  # type: ignore[operator]


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        Timer("t", at=NOON.replace(tzinfo=None))


def test_a_manager_is_declared_once_and_whole() -> None:
    manager = parcels()
    with pytest.raises(Misconfigured, match="two functions for 'ask'"):
        manager.on_timer("ask")(lambda state, e: [])
    shipping(manager)
    with pytest.raises(Misconfigured, match="is part of a platform already"):
        manager.on_timer("more")(lambda state, e: [])
    with pytest.raises(Misconfigured, match="cannot command Placed"):
        manager.on_rejected(Placed)
    with pytest.raises(Misconfigured, match="follows nothing"):
        shipping(ProcessManager("empty"))


def test_what_a_platform_lacks_is_said_when_it_is_built() -> None:

    with pytest.raises(Misconfigured, match="commands 'box': give it to Platform"):
        Platform("memory:", parcels())
    twin: Decider[Move | Weigh, tuple[str, ...], object] = Decider("parcel", (), boxes.decide, boxes.evolve)  # type: ignore[arg-type]
    with pytest.raises(Misconfigured, match="two deciders are named 'parcel'"):
        Platform("memory:", boxes, parcels(), twin)


def commands(name: str, *classes: type) -> Decider[Any, tuple[str, ...], Moved]:
    """A decider on commands of these classes."""

    def decide(command: object, where: tuple[str, ...]) -> list[Moved]:
        return []

    decide.__annotations__["command"] = Union[classes]  # noqa: UP007 - made at run time
    return Decider(name, (), decide, boxes.evolve)


def test_commands_of_one_name_are_told_apart_by_their_decider() -> None:
    @dataclass(frozen=True)
    class Other:
        to: str

    Other.__name__ = "Move"
    one, other = commands("one", Move), commands("other", Other)
    manager = ProcessManager("both", does=[one, other])

    @manager.on(Placed, key=lambda e: e.data.parcel)
    def place(state: None, e: Recorded[Placed]) -> list[Action]:
        return [Do(one, "a", Move("p", "a")), Do(other, "b", Other("b"))]

    @manager.on_rejected(Move)
    def no(state: None, e: Recorded[CommandRejected]) -> list[Action]:
        return [Do(one, f"told-{e.data.id}", Move("p", "c"))]

    def rejects(command: Any) -> str | None:
        return "full" if command.to in ("a", "b") else None

    assert [one.id for one in replayed(manager, [placed], rejects=rejects).commands] == ["told-a"]
    mixed = commands("mixed", Move, Other)
    twice = ProcessManager("twice", does=[mixed])
    twice.on(Placed, key=lambda e: e.data.parcel)(lambda state, e: [])
    with pytest.raises(Misconfigured, match="two commands named 'Move'"):
        Platform("memory:", mixed, twice)
