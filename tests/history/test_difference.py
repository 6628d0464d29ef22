"""The difference between two points: which fields, from what to what, and which events made it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import pydantic
import pytest

from everlog import (
    AtPosition,
    AtVersion,
    Decider,
    InvalidInput,
    Log,
    Money,
    OccurredAt,
    Platform,
    RecordedAt,
    Session,
    event,
)
from everlog.core.at import At
from everlog.domain.fields import MISSING, flatten
from everlog.history.travel import Difference, FieldChange
from tests.command.sides import FAST
from tests.history.ledger import Account, Booked, Clock, Moved, Opened, accounts, hours, platform

ANN, ROME, OSLO = Opened("ann", "Bern"), Moved("Rome"), Moved("Oslo")


def cents(minor: int, text: str) -> Booked:
    return Booked("ann", Money(minor, "EUR"), text)


HISTORY = (ANN, cents(5, "a"), ROME, cents(-5, "b"), OSLO)  # version n at position n, recorded at hour n - 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def acme(clock: Clock) -> Iterator[Session]:
    with platform.open(f"memory:{FAST}", clock=clock) as log:
        for event in HISTORY:
            log.tenant().execute(accounts, "ann", event)
            clock.forward(hours=1)
        yield log.tenant()


def changed(difference: Difference[Any]) -> dict[str, tuple[object, object, tuple[int, ...]]]:
    return {change.path: (change.before, change.after, change.events) for change in difference.changes}


def test_each_field_that_differs_is_told_with_the_events_that_changed_it(acme: Session) -> None:
    found = acme.difference(accounts, "ann", 1)
    assert changed(found) == {
        "address.city": ("Bern", "Oslo", (3, 5)),
        "texts": ((), MISSING, (2,)),
        "texts[0]": (MISSING, "a", (2,)),
        "texts[1]": (MISSING, "b", (4,)),
        "cities": ([], ["Oslo", "Rome"], (3, 5)),
    }
    assert [event.position for event in found.events] == [2, 3, 4, 5]
    assert [event.data for event in found.events] == list(HISTORY[1:])
    assert (found.before.state, found.before.version) == (acme.state(accounts, "ann", at=1), 1)
    assert (found.after.state, found.after.version, found.after.position) == (acme.state(accounts, "ann"), 5, 5)


def test_a_field_that_came_back_to_what_it_was_is_no_difference(acme: Session) -> None:
    found = acme.difference(accounts, "ann", AtVersion(1), AtVersion(4))
    assert "balance.minor" not in changed(found)
    assert changed(acme.difference(accounts, "ann", 1, 3))["balance.minor"] == (0, 5, (2,))


POINTS: list[tuple[At | int, At | int]] = [
    (2, 4),
    (AtPosition(2), AtPosition(4)),
    (AtVersion(2), AtVersion(4)),
    (AtVersion(2), 4),
    (RecordedAt(hours(1)), RecordedAt(hours(3))),
    (RecordedAt(hours(1)), AtVersion(4)),
    (OccurredAt(hours(1)), OccurredAt(hours(3))),
]


@pytest.mark.parametrize(("before", "after"), POINTS)
def test_every_measure_of_time_tells_the_same_difference(acme: Session, before: At | int, after: At | int) -> None:
    found = acme.difference(accounts, "ann", before, after)
    assert [event.position for event in found.events] == [3, 4]
    assert changed(found)["address.city"] == ("Bern", "Rome", (3,))
    assert (found.before.state, found.after.state) == (
        acme.state(accounts, "ann", at=before), acme.state(accounts, "ann", at=after),
    )  # fmt: skip


@pytest.mark.parametrize("before", [2, AtVersion(2), RecordedAt(hours(1)), OccurredAt(hours(1))])
def test_without_a_second_point_it_is_the_difference_to_now(acme: Session, before: At | int) -> None:
    found = acme.difference(accounts, "ann", before)
    assert [event.position for event in found.events] == [3, 4, 5]
    assert found.after.state == acme.state(accounts, "ann")


def test_between_a_point_and_itself_there_is_none(acme: Session) -> None:
    for point in (3, AtVersion(3), RecordedAt(hours(2)), OccurredAt(hours(2))):
        found = acme.difference(accounts, "ann", point, point)
        assert (found.changes, found.events) == ((), ())


def test_by_occurrence_a_late_event_makes_the_difference_where_it_occurred(acme: Session) -> None:
    acme.append("account-ann", Moved("Lyon"), cents(7, "late"), occurred_at=hours(1.5))
    found = acme.difference(accounts, "ann", OccurredAt(hours(1)), OccurredAt(hours(1.9)))
    assert [event.position for event in found.events] == [6, 7]
    assert changed(found) == {
        "balance.minor": (5, 12, (7,)),
        "address.city": ("Bern", "Lyon", (6,)),
        "texts[1]": (MISSING, "late", (7,)),
        "cities": ([], ["Lyon"], (6,)),
    }
    later = acme.difference(accounts, "ann", OccurredAt(hours(1.9)), OccurredAt(hours(4)))
    assert [event.position for event in later.events] == [3, 4, 5]
    assert changed(later)["cities"] == (["Lyon"], ["Lyon", "Oslo", "Rome"], (3, 5))
    assert "address.city" not in changed(later)  # Lyon was told last, and the order of the log decides


BACKWARDS: list[tuple[At | int, At | int]] = [
    (4, 2),
    (AtVersion(4), AtVersion(2)),
    (RecordedAt(hours(3)), RecordedAt(hours(1))),
    (OccurredAt(hours(3)), OccurredAt(hours(1))),
    (AtVersion(4), RecordedAt(hours(1))),
    (OccurredAt(hours(0)), OccurredAt(datetime(1970, 1, 1, tzinfo=UTC))),
    (OccurredAt(datetime(1969, 1, 1, tzinfo=UTC)), OccurredAt(datetime(1968, 1, 1, tzinfo=UTC))),
]


@pytest.mark.parametrize(("before", "after"), BACKWARDS)
def test_the_earlier_point_is_given_first(acme: Session, before: At | int, after: At | int) -> None:
    with pytest.raises(InvalidInput, match=r"lies behind .*: give the earlier point first"):
        acme.difference(accounts, "ann", before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [(OccurredAt(hours(1)), 4), (2, OccurredAt(hours(3))), (RecordedAt(hours(1)), OccurredAt(hours(3)))],
)
def test_what_was_true_is_not_compared_with_what_was_known(acme: Session, before: At | int, after: At | int) -> None:
    with pytest.raises(InvalidInput, match="compare two times of occurrence, or two points of the record"):
        acme.difference(accounts, "ann", before, after)


def test_what_never_was_has_no_difference(acme: Session) -> None:
    found = acme.difference(accounts, "nobody", 0, 5)
    assert (found.changes, found.events, found.after.state) == ((), (), Account())


class Colour(Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    prices: frozenset[Money]
    when: datetime


class Tagged(msgspec.Struct, frozen=True, tag="tagged"):
    words: frozenset[str]


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    n: int


@dataclass(frozen=True)
class Holding:
    model: Model
    tagged: Tagged
    pairs: tuple[tuple[int, Decimal], ...]
    colours: Mapping[Colour, Money]
    numbers: Mapping[int, str]
    nothing: None = None


def test_a_state_is_flattened_to_paths_whatever_it_is_made_of() -> None:
    state = Holding(
        Model(prices=frozenset({Money(2, "EUR"), Money(1, "EUR")}), when=hours(0)),
        Tagged(frozenset({"b", "a"})),
        ((1, Decimal("1.10")),),
        {Colour.RED: Money(3, "EUR")},
        {7: "seven"},
    )
    assert flatten(state) == {
        "model.prices": [{"minor": 1, "currency": "EUR"}, {"minor": 2, "currency": "EUR"}],
        "model.when": "2026-11-24T00:00:00Z",
        "tagged.type": "tagged",
        "tagged.words": ["a", "b"],
        "pairs[0][0]": 1,
        "pairs[0][1]": "1.10",
        "colours.red.minor": 3,
        "colours.red.currency": "EUR",
        "numbers.7": "seven",
        "nothing": None,
    }


@pytest.mark.parametrize(
    ("state", "flat"),
    [
        (7, {"state": 7}),
        ("new", {"state": "new"}),
        (None, {"state": None}),
        ((), {"state": ()}),
        ((1, "a"), {"[0]": 1, "[1]": "a"}),
        (Colour.RED, {"state": "red"}),
        (frozenset({2, 1}), {"state": [1, 2]}),
        (frozenset({Inner(n=2), Inner(n=1)}), {"state": [{"n": 1}, {"n": 2}]}),
        (range(3), {"state": "range(0, 3)"}),
    ],
)
def test_a_state_without_names_has_a_path_too(state: object, flat: Mapping[str, object]) -> None:
    assert flatten(state) == flat


def test_the_difference_of_a_state_that_is_one_value_is_told_as_such() -> None:
    @event("thing.counted")
    class Counted:
        pass

    def count(command: str, state: int) -> list[Counted]:
        return [Counted()]

    def counted(state: int, event: Counted) -> int:
        return state + 1

    counted.__annotations__["event"] = Counted
    things = Decider("thing", initial=0, decide=count, evolve=counted)
    with Platform("memory:", things).open() as log:
        _twice(log, things)
        [change] = log.tenant().difference(things, "t", 0).changes
    assert change == FieldChange("state", 0, 2, (1, 2))


def _twice(log: Log, decider: Decider[str, int, Any]) -> None:
    for _ in range(2):
        log.tenant().execute(decider, "t", "go")
