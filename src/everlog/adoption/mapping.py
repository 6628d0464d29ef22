"""The map of an import: a TOML file that says what of a row becomes which part of an event.

stream = "declaration-{id}"            # a template: columns in braces, {{ and }} for braces
type = "{activity}"
time = "{at}"                          # without it, events occurred when they are imported
actor = { template = "{user}", optional = true }
id = "declaration-{id}-{step}"         # without it, ids come from what the row holds
tenant = "{customer}"                  # without it, the tenant of the call
time_zone = "Europe/Amsterdam"         # for times without an offset
format = "csv"                         # or "ndjson"; without it, by the file's name or first character
delimiter = ";"                        # of CSV

[data]
purpose = "purpose"                    # the column, as text
amount = { type = "money", currency = "EUR" }
days = { column = "n_days", type = "integer", optional = true }
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

from everlog.adoption.values import FIELD_TYPES, JSON_TEXT, Field, Template
from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.money import Money

Format = Literal["csv", "ndjson"]

_OPTIONAL_TEMPLATES = ("time", "actor", "id", "tenant")
_TEMPLATES = ("stream", "type", *_OPTIONAL_TEMPLATES)
_KEYS = (*_TEMPLATES, "time_zone", "format", "delimiter", "data")
_FIELD_KEYS = ("column", "type", "optional", "currency")
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]|[^{}]+")


@dataclass(frozen=True, slots=True)
class EventMap:
    """What a row becomes; build one with `read_map` or `map_from_toml`."""

    stream: Template
    type: Template
    time: Template | None = None
    actor: Template | None = None
    id: Template | None = None
    tenant: Template | None = None
    zone: ZoneInfo | None = None
    format: Format | None = None
    delimiter: str = ","
    data: tuple[Field, ...] = ()

    def columns(self) -> dict[str, str]:
        """Every column the map reads, and the first of its keys that does."""
        read: dict[str, str] = {}
        for key in _TEMPLATES:
            for column in columns_of(getattr(self, key)):
                read.setdefault(column, key)
        for field in self.data:
            for column in (field.column, *columns_of(field.currency)):
                read.setdefault(column, f"data.{field.name}")
        return read

    def over_text(self) -> "EventMap":
        """The map for a file whose every value is text, so that JSON in it has to be read first."""
        data = [replace(field, type=JSON_TEXT) if field.type == "json" else field for field in self.data]
        return replace(self, data=tuple(data))


def columns_of(template: Template | None) -> tuple[str, ...]:
    return () if template is None else template.columns


def read_map(path: Path) -> EventMap:
    """The map in this file; raises `Misconfigured` naming the key that is wrong and what to write."""
    try:
        return map_from_toml(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the map {path} cannot be read: {error}") from error


def map_from_toml(toml: str, source: str = "the map") -> EventMap:
    """The map in this text."""
    try:
        return _map(tomllib.loads(toml))
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{source} is not TOML: {error}") from error
    except Misconfigured as error:
        raise Misconfigured(f"{source}: {error}") from error


def _map(items: Mapping[str, Any]) -> EventMap:
    _refuse_unknown("", items, _KEYS)
    for key in ("stream", "type"):
        if key not in items:
            raise Misconfigured(f'`{key}` is missing: write a template, for example {key} = "order-{{id}}"')
    zone = _zone(items)
    templates = {key: _outer_template(key, items[key]) for key in _TEMPLATES if key in items}
    data = items.get("data", {})
    if not isinstance(data, dict):
        raise Misconfigured("`data` is not a table: write [data] and one line for each field below it")
    return EventMap(
        **templates,
        zone=zone,
        format=_format(items),
        delimiter=_delimiter(items),
        data=tuple([_field(name, given, zone) for name, given in data.items()]),
    )


def _outer_template(key: str, given: object) -> Template:
    """A template, or a table with one that may stay without value."""
    if not isinstance(given, dict):
        return _template(key, given)
    if key not in _OPTIONAL_TEMPLATES:
        raise Misconfigured(f'`{key}` is a table, but no event is without it: write {key} = "a template"')
    _refuse_unknown(f"{key}.", given, ("template", "optional"))
    if "template" not in given:
        raise Misconfigured(
            f'`{key}.template` is missing: write {key} = {{ template = "{{column}}", optional = true }}'
        )
    return replace(_template(f"{key}.template", given["template"]), optional=_flag(key, given))


def _template(key: str, given: object) -> Template:
    if not isinstance(given, str) or not given:
        raise Misconfigured(f'`{key}` is {given!r}: write text with columns in braces, for example "order-{{id}}"')
    pattern, columns = "", []
    for token in _TOKEN.finditer(given):
        if token[1] is not None:
            columns.append(token[1])
            pattern += "%s"
        elif token[0] in ("{", "}"):
            raise Misconfigured(
                f"`{key}` has a lone {token[0]} in {given!r}: write {{column}}, or {token[0] * 2} for a brace"
            )
        else:
            pattern += {"{{": "{", "}}": "}"}.get(token[0], token[0].replace("%", "%%"))
    return Template(pattern, tuple(columns))


def _field(name: str, given: object, zone: ZoneInfo | None) -> Field:
    key = f"data.{name}"
    if isinstance(given, str):
        return Field(name, _column(key, given))
    if not isinstance(given, dict):
        raise Misconfigured(f'`{key}` is {given!r}: write a column\'s name, or {{ column = "…", type = "…" }}')
    _refuse_unknown(f"{key}.", given, _FIELD_KEYS)
    kind = given.get("type", "string")
    if kind not in FIELD_TYPES:
        raise Misconfigured(f"`{key}.type` is {kind!r}: write one of {', '.join(FIELD_TYPES)}")
    return Field(
        name,
        _column(f"{key}.column", given.get("column", name)),
        kind,
        optional=_flag(key, given),
        currency=_currency(key, kind, given),
        zone=zone,
    )


def _column(key: str, given: object) -> str:
    if not isinstance(given, str) or not given or "{" in given:
        raise Misconfigured(f"`{key}` is {given!r}: write one column's name, without braces")
    return given


def _currency(key: str, kind: str, given: Mapping[str, Any]) -> Template | None:
    if kind != "money":
        if "currency" in given:
            raise Misconfigured(f'`{key}.currency` is only for money: write type = "money", or leave the currency out')
        return None
    if "currency" not in given:
        raise Misconfigured(
            f'`{key}.currency` is missing: write currency = "EUR", or "{{column}}" where a column has it'
        )
    currency = _template(f"{key}.currency", given["currency"])
    if not currency.columns:
        try:
            Money(0, currency.text({}))
        except InvalidInput as error:
            raise Misconfigured(f"`{key}.currency`: {error}") from error
    return currency


def _flag(key: str, given: Mapping[str, Any]) -> bool:
    optional = given.get("optional", False)
    if not isinstance(optional, bool):
        raise Misconfigured(f"`{key}.optional` is {optional!r}: write true or false")
    return optional


def _zone(items: Mapping[str, Any]) -> ZoneInfo | None:
    name = items.get("time_zone")
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError) as error:  # what ZoneInfo raises for names that are no file
        raise Misconfigured(
            f'`time_zone` is {name!r}, which this machine does not know: write a name such as "Europe/Amsterdam" '
            "(if none works: pip install tzdata)"
        ) from error


def _format(items: Mapping[str, Any]) -> Format | None:
    given = items.get("format")
    if given not in (None, "csv", "ndjson"):
        raise Misconfigured(f'`format` is {given!r}: write "csv" or "ndjson", or leave it out')
    return cast(Format | None, given)


def _delimiter(items: Mapping[str, Any]) -> str:
    given = items.get("delimiter", ",")
    if "delimiter" in items and items.get("format") == "ndjson":
        raise Misconfigured("`delimiter` is for CSV, but `format` is ndjson: leave one of them out")
    if not isinstance(given, str) or len(given) != 1 or given in '"\0\r\n':
        raise Misconfigured(f'`delimiter` is {given!r}: write one character, for example ";" or "\\t"')
    return given


def _refuse_unknown(prefix: str, items: Collection[str], known: tuple[str, ...]) -> None:
    for key in items:
        if key not in known:
            raise Misconfigured(f"`{prefix}{key}` is unknown: write one of {', '.join(known)}")
