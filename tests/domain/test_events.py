"""`@event`: what may be a fact, what is refused and with which words, and which tags it carries."""

import collections
import dataclasses
from collections.abc import Mapping, MutableMapping, MutableSequence, MutableSet
from dataclasses import FrozenInstanceError, dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Generic, NewType, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pydantic
import pytest

from everlog import InvalidInput, Misconfigured, Money, Platform, event
from everlog.domain.event import EventKind, kind_of
from everlog.domain.types import EventTypes

T = TypeVar("T")


def made(hint: object, field: str = "value", *, name: str = "thing.happened") -> type:
    """An event with one field of a type."""
    return event(name)(dataclasses.make_dataclass("Happened", [(field, hint)], frozen=True))


def test_a_plain_class_becomes_a_frozen_dataclass_with_name_version_and_tags() -> None:
    @event("seat.reserved", version=3, tags=["seat:{seat}", "plan"])
    class Reserved:
        seat: str
        guest: str = "nobody"

    assert kind_of(Reserved) == EventKind(Reserved, "seat.reserved", 3, (("seat:", "seat"), ("plan", "")))
    assert Reserved("A1") == Reserved(seat="A1", guest="nobody")
    with pytest.raises(FrozenInstanceError):
        Reserved("A1").seat = "B2"  # type: ignore[misc]


def test_a_frozen_struct_and_a_frozen_model_stay_the_classes_they_are() -> None:
    class Struct(msgspec.Struct, frozen=True):
        seat: str

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(frozen=True)
        seat: str

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Data:
        seat: str

    for cls in (Struct, Model, Data):
        assert event("seat.reserved", tags=["seat:{seat}"])(cls) is cls
        encoded = EventTypes([cls]).encode(cls(seat="A1"))
        assert (encoded.type, encoded.schema_version, encoded.data) == ("seat.reserved", 1, b'{"seat":"A1"}')
        assert encoded.tags == ("seat:A1",)


def test_a_subclass_of_an_event_is_no_event_of_its_own() -> None:
    @event("seat.reserved")
    class Reserved:
        seat: str

    class Upgraded(Reserved):
        pass

    with pytest.raises(Misconfigured, match=r'Upgraded is not an event: put @event\("its.name"\) above the class'):
        kind_of(Upgraded)


def test_a_class_that_can_change_is_no_event() -> None:
    class Struct(msgspec.Struct):
        seat: str

    class Model(pydantic.BaseModel):
        seat: str

    @dataclass
    class Data:
        seat: str

    for cls, advice in ((Struct, "frozen=True"), (Model, "ConfigDict"), (Data, "leave @dataclass away")):
        with pytest.raises(Misconfigured, match=f"is mutable, and facts do not change: .*{advice}"):
            event("seat.reserved")(cls)


class Basket(list[str]):
    pass


class Where(TypedDict):
    row: int


@dataclass
class Changing:
    row: int


Rows = NewType("Rows", list[int])


@pytest.mark.parametrize(
    ("hint", "instead"),
    [
        (list[int], "tuple"),
        (set[int], "frozenset"),
        (dict[str, int], "Mapping"),
        (bytearray, "bytes"),
        (MutableSequence[int], "tuple"),
        (MutableSet[int], "frozenset"),
        (MutableMapping[str, int], "Mapping"),
        (collections.deque[int], "tuple"),
        (collections.OrderedDict[str, int], "Mapping"),
        (Basket, "tuple"),
        (Where, "a frozen dataclass"),
        (Rows, "tuple"),
        (list[int] | None, "tuple"),
        (tuple[list[int], ...], "tuple"),
        (Mapping[str, list[int]], "tuple"),
        (Annotated[list[int], "rows"], "tuple"),
    ],
)
def test_a_field_that_can_change_is_refused_and_told_what_to_use(hint: object, instead: str) -> None:
    with pytest.raises(Misconfigured, match=rf"^Happened\.value is a \w+, which can change: use {instead}"):
        made(hint)


def test_a_field_inside_a_field_is_looked_at_too() -> None:
    @dataclass(frozen=True)
    class Row:
        seats: list[str]

    with pytest.raises(Misconfigured, match=r"Happened.value.seats is a list"):
        made(tuple[Row, ...])
    with pytest.raises(Misconfigured, match=r"Happened.value of type Changing' \(Changing\) is mutable"):
        made(Changing)


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


def test_what_a_generic_type_is_filled_with_is_looked_at_too() -> None:
    assert EventTypes([made(Box[tuple[int, ...]])])
    with pytest.raises(Misconfigured, match=r"Happened.value is a list"):
        made(Box[list[int]])


@event("thing.early")
class Early:
    value: "Late | None"


@dataclass
class Late:
    row: int


def test_a_type_named_later_is_looked_at_when_the_platform_is_built() -> None:
    with pytest.raises(Misconfigured, match=r"Early.value of type Late' \(Late\) is mutable"):
        Platform("memory:", Early)
    with pytest.raises(Misconfigured, match=r"Happened has a field of a type that cannot be found: .*Nowhere"):
        Platform("memory:", made("Nowhere"))


Price = NewType("Price", float)


@pytest.mark.parametrize("field", ["amount", "total_price", "unitPrice", "mrr", "feesPaid", "prices", "net_amounts"])
@pytest.mark.parametrize("hint", [float, float | None, tuple[float, ...], Price])
def test_money_as_a_float_is_refused(field: str, hint: object) -> None:
    with pytest.raises(Misconfigured, match=rf"Happened\.{field} is money as a float.* use Money\(minor, cu"):
        made(hint, field)


@pytest.mark.parametrize("field", ["discount_rate", "totalCount", "tax_percent", "weight", "address", "temperature"])
def test_a_float_that_is_no_money_is_fine(field: str) -> None:
    assert EventTypes([made(float, field)])


def test_money_is_fine_as_minor_units() -> None:
    assert EventTypes([made(Money, "amount"), made(int, "price_cents", name="thing.priced")])


@pytest.mark.parametrize("hint", [complex, range, tuple[range, ...], object])
def test_a_type_json_cannot_hold_is_refused_when_the_platform_is_built(hint: object) -> None:
    with pytest.raises(Misconfigured, match="cannot be stored as JSON"):
        Platform("memory:", made(hint))


def test_two_classes_of_one_name_are_refused_when_the_platform_is_built() -> None:
    one, other = made(int), made(int)
    assert Platform("memory:", one, one)
    with pytest.raises(Misconfigured, match=r"are both named 'thing\.happened': rename one"):
        Platform("memory:", one, other)


def test_only_deciders_upcasters_and_events_are_parts_of_a_platform() -> None:
    with pytest.raises(Misconfigured, match="is no part of a platform"):
        Platform("memory:", Box)


@pytest.mark.parametrize("name", ["", " placed", "a\nb", "x" * 201, "Cafe\u0301"])
def test_a_name_nobody_could_type_again_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="event type"):
        event(name)


@pytest.mark.parametrize("version", [0, -1])
def test_versions_start_at_one(version: int) -> None:
    with pytest.raises(Misconfigured, match=f"has version {version}: versions start at 1"):
        event("thing.happened", version=version)


@pytest.mark.parametrize(
    "tag",
    ["{seat}x", "{seat}{row}", "{seat!r}", "{seat:>3}", "seat:{", "seat:}", "{{seat}}", "", " seat", "se\nat:{seat}"],
)
def test_a_tag_that_is_no_text_with_one_field_at_its_end_is_refused(tag: str) -> None:
    with pytest.raises(Misconfigured, match="must be text that may end in one field"):
        event("seat.reserved", tags=[tag])(dataclasses.make_dataclass("Reserved", ["seat", "row"], frozen=True))


@pytest.mark.parametrize("tag", ["{guest}", "seat:{}", "seat:{0}", "{seat.row}", "{seat[0]}"])
def test_a_tag_over_a_field_that_is_not_there_is_refused(tag: str) -> None:
    with pytest.raises(Misconfigured, match="names no field: it has seat, row"):
        event("seat.reserved", tags=[tag])(dataclasses.make_dataclass("Reserved", ["seat", "row"], frozen=True))


def test_tags_given_as_one_text_are_refused() -> None:
    with pytest.raises(Misconfigured, match=r"one text: write tags=\['seat:{seat}'\]"):
        event("seat.reserved", tags="seat:{seat}")


class Colour(Enum):
    RED = "red"


@event(
    "thing.tagged", tags=["n:{number}", "c:{colour}", "d:{day}", "u:{unit}", "b:{flag}", "{text}", "o:{other}", "all"]
)
class Tagged:
    number: int
    colour: Colour
    day: date
    unit: UUID
    flag: bool
    text: str
    other: str | None = None


def test_a_tag_shows_the_value_as_it_is_stored_and_none_gives_no_tag() -> None:
    thing = Tagged(7, Colour.RED, date(2026, 11, 24), UUID(int=1), True, "alone")
    expected = ("n:7", "c:red", "d:2026-11-24", f"u:{UUID(int=1)}", "b:True", "alone", "all")
    assert kind_of(Tagged).tags_of(thing) == expected
    assert kind_of(Tagged).tags_of(dataclasses.replace(thing, other="x"))[-2:] == ("o:x", "all")


@pytest.mark.parametrize("value", ["x" * 201, "a\nb", " ", ""])
def test_a_tag_that_no_index_could_hold_is_refused_when_encoded(value: str) -> None:
    types = EventTypes([Tagged])
    thing = Tagged(7, Colour.RED, date(2026, 11, 24), UUID(int=1), True, value)
    with pytest.raises(InvalidInput, match=r"^tag "):
        types.encode(thing)


def test_an_event_of_another_platform_is_refused_when_encoded() -> None:
    with pytest.raises(InvalidInput, match="Tagged is not part of this platform: add the class"):
        EventTypes([made(int)]).encode(Tagged(1, Colour.RED, date.min, UUID(int=1), True, "x"))
    with pytest.raises(Misconfigured, match="str is not an event"):
        EventTypes([Tagged]).encode("text")
