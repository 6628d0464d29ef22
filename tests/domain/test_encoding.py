"""Between a class and its bytes: what comes back as it was, and what is refused before it is stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as always
from hypothesis import strategies as some

from everlog import InvalidInput, Misconfigured, Money, event
from everlog.core import limits
from everlog.domain.codec import Codec
from everlog.domain.types import EventTypes
from tests.domain.kinds import CONTACT, EVERYTHING, NOON, Address, Changed, Contact, Everything


def test_every_kind_of_field_comes_back_as_it_was() -> None:
    codec = Codec(Everything)
    back = codec.decode(codec.encode(EVERYTHING))
    assert back == EVERYTHING
    assert [type(getattr(back, name)) for name in vars(back)] == [type(value) for value in vars(EVERYTHING).values()]


def test_a_dataclass_a_struct_and_a_model_may_hold_one_another() -> None:
    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(frozen=True)
        money: Money
        moves: tuple[Changed[Address], ...]
        contact: Contact

    class Struct(msgspec.Struct, frozen=True):
        model: Model
        address: Address

    @dataclass(frozen=True)
    class Data:
        struct: Struct

    model = Model(money=Money(1, "EUR"), moves=(Changed(Address("a"), Address("b")),), contact=CONTACT)
    for value in (model, Struct(model, Address("x")), Data(Struct(model, Address("x")))):
        codec: Codec[Any] = Codec(type(value))
        assert codec.decode(codec.encode(value)) == value
        assert codec.convert(msgspec.json.decode(codec.encode(value))) == value


def test_a_model_with_aliases_and_computed_fields_can_be_read_back() -> None:
    class Renamed(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
        order_id: str = pydantic.Field(alias="orderId")

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def loud(self) -> str:
            return self.order_id.upper()

    codec = Codec(Renamed)
    assert codec.encode(Renamed(orderId="o-1")) == b'{"orderId":"o-1"}'
    assert codec.decode(b'{"orderId":"o-1"}') == Renamed(orderId="o-1")


@event("anything.happened")
class Anything:
    value: Any


class AnyStruct(msgspec.Struct, frozen=True):
    value: Any


class AnyModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)
    value: Any


def boxed(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = (value,)
    return value


NAIVE = datetime(2026, 11, 24)  # noqa: DTZ001


@pytest.mark.parametrize("box", [lambda v: v, lambda v: (v,), lambda v: {"k": v}, lambda v: Changed(1, v)])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "nan, which JSON cannot hold"),
        (math.inf, "inf, which JSON cannot hold"),
        (-math.inf, "-inf, which JSON cannot hold"),
        (limits.LARGEST_INTEGER + 1, "beyond 64 bits: send it as a string"),
        (limits.SMALLEST_INTEGER - 1, "beyond 64 bits: send it as a string"),
        (10**400, "cannot be stored|beyond 64 bits"),
        ("\ud83c", "surrogate"),
        (NAIVE, "without a time zone: give one, for example tzinfo=UTC"),
        (boxed(limits.JSON_DEPTH), f"nested deeper than {limits.JSON_DEPTH}"),
    ],
)
def test_what_json_cannot_say_truly_is_refused_in_every_kind_of_class(
    value: Any, reason: str, box: Callable[[Any], Any]
) -> None:
    for held in (Anything(box(value)), AnyStruct(box(value)), AnyModel(value=box(value))):
        codec: Codec[Any] = Codec(type(held))
        with pytest.raises(InvalidInput, match=reason):
            codec.encode(held)


@pytest.mark.parametrize("key", [math.nan, NAIVE, "\ud83c"])
def test_keys_are_looked_at_too(key: object) -> None:
    with pytest.raises(InvalidInput, match=r"a key of Anything\.value|surrogate"):
        Codec(Anything).encode(Anything({key: 1}))


def test_two_keys_that_become_one_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the key '1' is there twice"):
        Codec(Anything).encode(Anything({1: "a", "1": "b"}))


def test_nesting_no_parser_survives_is_refused_and_not_a_crash() -> None:
    for held in (Anything(boxed(100_000)), AnyModel(value=boxed(100_000))):
        codec: Codec[Any] = Codec(type(held))
        with pytest.raises(InvalidInput):
            codec.encode(held)


@event("tree.grown")
class Tree:
    inside: "Tree | None" = None


def test_a_type_that_holds_itself_has_the_same_limit_of_depth() -> None:
    codec = Codec(Tree)
    tree = Tree()
    for _ in range(limits.JSON_DEPTH - 1):
        tree = Tree(tree)
    assert codec.decode(codec.encode(tree)) == tree
    with pytest.raises(InvalidInput, match=f"nested deeper than {limits.JSON_DEPTH}"):
        codec.encode(Tree(tree))


def test_the_largest_and_smallest_integers_are_stored() -> None:
    for number in (limits.LARGEST_INTEGER, limits.SMALLEST_INTEGER):
        assert Codec(Anything).encode(Anything(number)) == b'{"value":%d}' % number


@event("box.opened")
class Opened:
    box: Changed[int]


def test_a_naive_time_hides_in_no_generic_type() -> None:
    assert Codec(Opened).encode(Opened(Changed(1, 2, NOON)))
    with pytest.raises(InvalidInput, match=r"Opened\.box\.at is 2026-11-24T00:00:00 without a time zone"):
        Codec(Opened).encode(Opened(Changed(1, 2, NAIVE)))


def test_a_naive_time_hides_in_no_extra_field_of_a_model() -> None:
    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    with pytest.raises(InvalidInput, match=r"Open\.at is 2026-11-24T00:00:00 without a time zone"):
        Codec(Open).encode(Open.model_validate({"at": NAIVE}))


def test_an_aware_time_keeps_its_moment_to_the_microsecond() -> None:
    east = datetime(2026, 11, 24, 14, 0, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    back = Codec(Anything).encode(Anything(east))
    assert back == b'{"value":"2026-11-24T14:00:00.000001+02:00"}'
    codec = Codec(Opened)
    assert codec.decode(codec.encode(Opened(Changed(1, 2, east)))).box.at == NOON


@event("seat.reserved")
class Reserved:
    seat: str
    row: int = 0


@pytest.mark.parametrize("value", [7, None, math.nan, True, ("A1",)])
def test_a_value_that_is_not_of_its_fields_type_is_refused_because_nobody_could_read_it_back(value: Any) -> None:
    with pytest.raises(InvalidInput, match="Reserved could not be read back: "):
        EventTypes([Reserved]).encode(Reserved(value))


def test_an_object_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Anything cannot be stored as JSON: objects of type object"):
        Codec(Anything).encode(Anything(object()))


def test_a_union_json_could_not_tell_apart_is_refused_when_the_codec_is_made() -> None:
    with pytest.raises(Misconfigured, match="cannot be stored as JSON: Type unions may not contain more than one"):
        Codec(Address | Reserved)  # type: ignore[arg-type]


_JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(limits.SMALLEST_INTEGER, limits.LARGEST_INTEGER)
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@always(_JSON)
def test_any_json_value_comes_back_as_it_was(value: object) -> None:
    for held in (Anything(value), AnyStruct(value), AnyModel(value=value)):
        codec: Codec[Any] = Codec(type(held))
        assert codec.decode(codec.encode(held)) == held
