"""Every kind of field an event may have, in every kind of class."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import pydantic

from everlog import Money, event
from everlog.core import limits

T = TypeVar("T")
NOON = datetime(2026, 11, 24, 12, 0, 0, 1, tzinfo=UTC)


class Plan(Enum):
    FREE = "free"
    TEAM = "team"


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Address:
    street: str
    city: str | None = None


class Point(msgspec.Struct, frozen=True, tag="point"):
    x: int


class Line(msgspec.Struct, frozen=True, tag="line"):
    ends: tuple[Point, Point]


@dataclass(frozen=True)
class Changed(Generic[T]):
    before: T
    after: T
    at: datetime | None = None


class Contact(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True)
    name: str
    born: date
    limit: Decimal
    since: datetime
    address: Address
    codes: tuple[int, ...] = ()


CONTACT = Contact(
    name="Ann", born=date(1990, 2, 28), limit=Decimal("1.10"), since=NOON, address=Address("Main"), codes=(1, 2)
)


@event("everything.happened")
class Everything:
    text: str
    flag: bool
    big: int
    ratio: float
    exact: Decimal
    day: date
    at: datetime
    clock: time
    span: timedelta
    unit: UUID
    raw: bytes
    plan: Plan
    level: Level
    kind: Literal["a", 1]
    money: Money
    address: Address
    shape: Point | Line
    changed: Changed[Address]
    contact: Contact
    several: tuple[Address, ...]
    pair: tuple[int, str]
    words: frozenset[str]
    prices: Mapping[Plan, Money]
    short: Annotated[str, msgspec.Meta(max_length=3)]
    nothing: str | None = None


EVERYTHING = Everything(
    "Zoë 🎈 \x00 \u2028", True, limits.LARGEST_INTEGER, 0.1, Decimal("12345678901234567890.10"), date(987, 1, 2), NOON,
    time(23, 59, 59, 5), timedelta(days=-1, microseconds=7), UUID(int=7), b"\x00\xff", Plan.TEAM, Level.LOW, 1,
    Money(-5, "EUR"), Address("Main", "Bern"), Line((Point(1), Point(2))), Changed(Address("a"), Address("b"), NOON),
    CONTACT, (Address("x"), Address("y", "z")), (1, "one"), frozenset({"b", "a"}), {Plan.TEAM: Money(1, "JPY")}, "abc",
)  # fmt: skip
