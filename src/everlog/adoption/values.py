"""From a row's cells to text, times and JSON values. What cannot be read raises `InvalidInput`: a reject's reason."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from everlog.core import limits
from everlog.core.clock import micros, rfc3339
from everlog.core.errors import InvalidInput
from everlog.core.json import parse_exact_json
from everlog.core.money import money_from_text

Row = Mapping[str, object]
"""Column to value: text from CSV, any JSON value from NDJSON (numbers with a point as `Decimal`)."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LONGEST_EXPONENT = 400
_money_of = lru_cache(4096)(money_from_text)  # an amount often comes by in several events


class EmptyCell(InvalidInput):
    """There is nothing where a value is needed: absent if the map says `optional`, else a reject."""


@dataclass(frozen=True, slots=True)
class Template:
    """Text with columns in it: `declaration-{id}`. `pattern` has a `%s` for each of `columns`."""

    pattern: str
    columns: tuple[str, ...]
    optional: bool = False

    def text(self, row: Row) -> str:
        if self.pattern == "%s":
            return text_of(self.columns[0], row.get(self.columns[0]))
        return self.pattern % tuple([text_of(column, row.get(column)) for column in self.columns])

    def text_if_any(self, row: Row) -> str | None:
        """`None` for an optional template with an empty column."""
        try:
            return self.text(row)
        except EmptyCell:
            if self.optional:
                return None
            raise


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the event's data: which column it comes from and what it becomes."""

    name: str
    column: str
    type: str = "string"
    optional: bool = False
    currency: Template | None = None
    zone: ZoneInfo | None = None

    def value(self, row: Row) -> object:
        return CONVERSIONS[self.type](self, row)

    def add_to(self, data: dict[str, object], row: Row) -> None:
        try:
            data[self.name] = self.value(row)
        except EmptyCell:
            if not self.optional:
                raise
        except InvalidInput as error:
            raise InvalidInput(f"`{self.name}`: {error}") from error


def text_of(column: str, value: object) -> str:
    """A cell as text: strings as they are, numbers by their digits."""
    if type(value) is str and value:
        return value
    if value is None or value == "":
        raise EmptyCell(f"`{column}` is empty")
    if isinstance(value, Decimal):
        return _digits(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidInput(f"`{column}` is {_kind(value)}, where text or a number is needed")


def instant(text: str, zone: ZoneInfo | None) -> int:
    """Microseconds of an ISO 8601 time; one without an offset is read in `zone`, if there is one and it is clear."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text[:60]!r} is not a time: write it as 2026-11-24T18:09:50Z") from error
    if moment.tzinfo is not None:
        return micros(moment)
    if zone is None:
        raise InvalidInput(f'{text!r} has no time zone: add an offset, or `time_zone = "Europe/Amsterdam"` to the map')
    return micros(_placed(moment, zone))


def _placed(moment: datetime, zone: ZoneInfo) -> datetime:
    """A wall clock's time in its zone; refused in the hours that a change of offset skips or repeats."""
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        happened = "twice" if first.utcoffset() > second.utcoffset() else "never"  # type: ignore[operator]
        raise InvalidInput(f"{moment.isoformat()} happened {happened} in {zone.key}: add an offset")
    return first


def _string(field: Field, row: Row) -> str:
    return text_of(field.column, row.get(field.column))


def _integer(field: Field, row: Row) -> int:
    text = _string(field, row)
    if not _WHOLE.fullmatch(text) or not limits.SMALLEST_INTEGER <= int(text) <= limits.LARGEST_INTEGER:
        raise InvalidInput(f"{text[:40]!r} is not a whole number of 64 bits")
    return int(text)


def _decimal(field: Field, row: Row) -> str:
    text = _string(field, row)
    if not _DECIMAL.fullmatch(text):
        raise InvalidInput(f"{text[:40]!r} is not a decimal number: write it as 1234.50")
    return text


def _number(field: Field, row: Row) -> object:
    value = row.get(field.column)
    number = parse_exact_json(value.encode()) if isinstance(value, str) and value else value
    if isinstance(number, int | Decimal) and not isinstance(number, bool):
        return number
    raise InvalidInput(f"{_string(field, row)[:40]!r} is not a number")


def _boolean(field: Field, row: Row) -> bool:
    value = row.get(field.column)
    if isinstance(value, bool):
        return value
    text = _string(field, row)
    if text.lower() not in _BOOLEANS:
        raise InvalidInput(f"{text[:40]!r} is neither true nor false: write one of {', '.join(_BOOLEANS)}")
    return _BOOLEANS[text.lower()]


def _money(field: Field, row: Row) -> dict[str, object]:
    assert field.currency is not None, "the map was checked"
    money = _money_of(_string(field, row), field.currency.text(row))
    return {"minor": money.minor, "currency": money.currency}


def _time(field: Field, row: Row) -> str:
    return rfc3339(instant(_string(field, row), field.zone))


def _json_value(field: Field, row: Row) -> object:
    value = row.get(field.column)
    if value is None:
        raise EmptyCell(f"`{field.column}` is empty")
    return value


def _json_text(field: Field, row: Row) -> object:
    return parse_exact_json(_string(field, row).encode())


JSON_TEXT = "json text"
"""What `json` means over CSV: the cell holds JSON, where in NDJSON the value is JSON already."""

CONVERSIONS: Mapping[str, Callable[[Field, Row], object]] = {
    "string": _string,
    "integer": _integer,
    "decimal": _decimal,
    "number": _number,
    "boolean": _boolean,
    "money": _money,
    "time": _time,
    "json": _json_value,
    JSON_TEXT: _json_text,
}
FIELD_TYPES = tuple(name for name in CONVERSIONS if name != JSON_TEXT)


def _digits(value: Decimal) -> str:
    # A hostile exponent would make gigabytes of zeros.
    if abs(value.adjusted()) > _LONGEST_EXPONENT:
        raise InvalidInput(f"the number {str(value)[:40]} is too large or too small: send it as a string")
    return format(value, "f")


def _kind(value: object) -> str:
    return {bool: "true or false", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
