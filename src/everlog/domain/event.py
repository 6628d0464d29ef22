"""`@event`: a class becomes a kind of fact, with a stable name, a version and tags (design D7)."""

import dataclasses
import types
import typing
from collections import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from string import Formatter
from typing import Any, TypeVar, dataclass_transform

import msgspec

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.names import printable, type_name

T = TypeVar("T")

_MARK = "__everlog_event__"
_MUTABLE = {
    list: "tuple[X, ...]",
    set: "frozenset[X]",
    dict: "Mapping[K, V]",
    bytearray: "bytes",
    abc.MutableSequence: "tuple[X, ...]",
    abc.MutableMapping: "Mapping[K, V]",
    abc.MutableSet: "frozenset[X]",
}
_MONEY = """
    amount balance charge cost credit debit discount due fee fees money mrr paid payment price refund revenue salary
    subtotal tax total
"""
_MONEY_WORDS = frozenset(_MONEY.split())
_RATIO_WORDS = frozenset(["count", "factor", "fraction", "percent", "percentage", "rate", "ratio", "share", "weight"])


@dataclass(frozen=True, slots=True)
class EventKind:
    """What `@event` knows of a class."""

    cls: type
    name: str
    version: int
    tags: tuple[tuple[str, str], ...]  # (text before the field, field); an empty field means the text is all

    def tags_of(self, event: object) -> tuple[str, ...]:
        """The tags one event carries; a template whose field is `None` gives none."""
        made = []
        for text, field in self.tags:
            if not field:
                made.append(text)
            elif (value := getattr(event, field)) is not None:
                plain = value.value if isinstance(value, Enum) else value  # as stored, however the member is named
                made.append(printable("tag", f"{text}{plain}"))
        return tuple(made)


@dataclass_transform(frozen_default=True)
def event(name: str, *, version: int = 1, tags: Sequence[str] = ()) -> Callable[[type[T]], type[T]]:
    """Declare a class as an event: a plain class becomes a frozen dataclass; msgspec structs and pydantic models stay.

    `tags` are templates that end in one field, such as `"order:{order_id}"`. Raises `Misconfigured` for a mutable
    type, a `float` that looks like money, a tag over an unknown field, or a bad name or version.
    """
    if version < 1:
        raise Misconfigured(f"event {name!r} has version {version}: versions start at 1")
    if isinstance(tags, str):
        raise Misconfigured(f"event {name!r} has the tags {tags!r}, one text: write tags=[{tags!r}]")
    try:
        type_name(name)
    except InvalidInput as error:
        raise Misconfigured(str(error)) from error

    def declare(cls: type[T]) -> type[T]:
        declared = _frozen(cls, name)
        kind = EventKind(declared, name, version, tuple(_template(declared, name, tag) for tag in tags))
        setattr(declared, _MARK, kind)
        check_fields(declared, complete=False)
        return declared

    return declare


def kind_of(cls: type) -> EventKind:
    """The declaration of an event class; raises `Misconfigured` for any other class."""
    kind = cls.__dict__.get(_MARK)
    if kind is None:
        raise Misconfigured(f'{cls.__name__} is not an event: put @event("its.name") above the class')
    return typing.cast(EventKind, kind)


def is_event(cls: object) -> bool:
    return isinstance(cls, type) and _MARK in cls.__dict__


def is_pydantic(cls: type) -> bool:
    """Told by its methods, so that pydantic need not be installed."""
    return hasattr(cls, "model_validate_json") and hasattr(cls, "model_dump_json")


def is_record(cls: type) -> bool:
    """Whether it has named, typed fields: a dataclass, a struct or a model."""
    return dataclasses.is_dataclass(cls) or is_pydantic(cls) or issubclass(cls, msgspec.Struct)


def check_fields(cls: type, *, complete: bool = True) -> None:
    """Refuse mutable fields and money as `float`, deep; with `complete=False` names not yet defined may wait."""
    _check_fields(cls, cls.__name__, complete, set())


def field_names(cls: type[Any]) -> list[str]:
    if is_pydantic(cls):
        return list(cls.model_fields)
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    return [field.name for field in dataclasses.fields(cls)]


def hints_of(cls: type) -> dict[str, Any]:
    """Field names and resolved types."""
    hints = typing.get_type_hints(cls)
    return {name: hints[name] for name in field_names(cls)}


def _frozen(cls: type[T], name: str) -> type[T]:
    if is_pydantic(cls):
        frozen = bool(getattr(cls, "model_config", {}).get("frozen"))
        how = "give it model_config = ConfigDict(frozen=True)"
    elif issubclass(cls, msgspec.Struct):
        frozen = cls.__struct_config__.frozen
        how = "declare it as class X(msgspec.Struct, frozen=True)"
    elif "__dataclass_params__" in cls.__dict__:
        frozen = cls.__dict__["__dataclass_params__"].frozen
        how = "declare it with @dataclass(frozen=True), or leave @dataclass away"
    else:
        return dataclass(frozen=True)(cls)
    if not frozen:
        raise Misconfigured(f"event {name!r} ({cls.__name__}) is mutable, and facts do not change: {how}")
    return cls


def _template(cls: type, name: str, tag: str) -> tuple[str, str]:
    try:
        [(text, field, spec, conversion)] = Formatter().parse(tag)
        printable("tag", text if field is None else f"{text}…")
    except (ValueError, InvalidInput) as error:  # not one piece, a brace without its partner, text no tag may hold
        raise _bad_template(name, tag) from error
    if spec or conversion:
        raise _bad_template(name, tag)
    known = field_names(cls)
    if field is not None and field not in known:
        raise Misconfigured(f"tag {tag!r} of event {name!r} names no field: it has {', '.join(known)}")
    return text, field or ""


def _bad_template(name: str, tag: str) -> Misconfigured:
    return Misconfigured(f"tag {tag!r} of event {name!r} must be text that may end in one field: 'order:{{order_id}}'")


def _check_fields(cls: type, path: str, complete: bool, seen: set[type]) -> None:
    if cls in seen:
        return
    seen.add(cls)
    try:
        hints = hints_of(cls)
    except NameError as error:
        if complete:
            raise Misconfigured(f"{path} has a field of a type that cannot be found: {error}") from error
        return
    for name, hint in hints.items():
        _check_type(hint, name, f"{path}.{name}", complete, seen)


def _check_type(hint: object, name: str, path: str, complete: bool, seen: set[type]) -> None:
    while (named := getattr(hint, "__supertype__", None) or getattr(hint, "__value__", None)) is not None:
        hint = named  # a NewType, or a `type X = …` of Python 3.12
    origin = typing.get_origin(hint) or hint
    instead = _mutable(origin)
    if instead is not None:
        raise Misconfigured(f"{path} is a {getattr(origin, '__name__', origin)}, which can change: use {instead}")
    if origin is float and _is_money(name):
        raise Misconfigured(f"{path} is money as a float, which cannot hold a cent: use Money(minor, currency)")
    for inner in typing.get_args(hint):
        if not isinstance(inner, str):
            _check_type(inner, name, path, complete, seen)
    if isinstance(origin, type) and is_record(origin):
        if not is_event(origin) and origin not in seen:
            _frozen(origin, f"{path} of type {origin.__name__}")
        _check_fields(origin, path, complete, seen)


def _mutable(origin: object) -> str | None:
    """What to use instead of a type whose values can change."""
    if typing.is_typeddict(origin):
        return "a frozen dataclass"
    if not isinstance(origin, type):
        return None
    return next((instead for mutable, instead in _MUTABLE.items() if issubclass(origin, mutable)), None)


def _is_money(name: str) -> bool:
    words = "".join(f"_{c}" if c.isupper() else c for c in name).lower().split("_")
    words += [word.removesuffix("s") for word in words]
    return not _MONEY_WORDS.isdisjoint(words) and _RATIO_WORDS.isdisjoint(words)


def members(hint: object) -> tuple[Any, ...]:
    """The classes of a union, or the one class itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(hint) for member in members(part))
    return (hint,)
