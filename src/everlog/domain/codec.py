"""Between a class and its JSON bytes, with what JSON would let pass silently refused: naive times, NaN, big numbers."""

import copy
import dataclasses
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
import msgspec.structs

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.json import check_json
from everlog.domain.event import field_names, hints_of, is_pydantic

T = TypeVar("T")

# Nineteen digits in a row may be an integer beyond 64 bits (or text): rare enough to look closely then.
# Digits are made zeros first, which finds them seven times as fast as a regular expression.
_MANY_DIGITS = b"0" * 19
_DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_SAFE: frozenset[object] = frozenset({str, int, bool, bytes, type(None)})
_SINGLE: frozenset[object] = _SAFE | {float, Decimal, date, datetime, time, timedelta, UUID}
_SETS = (set, frozenset)


class Codec(Generic[T]):
    """Encodes and decodes one class. Thread-safe: holds no state of a call."""

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        try:
            schema_of(cls)
        except Exception as error:  # of msgspec or of pydantic, which share no error
            raise Misconfigured(f"{cls!r} cannot be stored as JSON: {error}") from error
        self._must_walk = not _is_made_of(cls, _SAFE)
        self._may_hold_sets = not _is_made_of(cls, _SINGLE, sets=False)
        if is_pydantic(cls):
            self._encode: Callable[[T], bytes] = _dump_model
            self.decode: Callable[[bytes], T] = cls.model_validate_json  # type: ignore[attr-defined]
        else:
            self._encode = msgspec.json.Encoder(enc_hook=_encode_model).encode
            self.decode = msgspec.json.Decoder(cls, dec_hook=_decode_model).decode

    def encode(self, value: T) -> bytes:
        """Compact JSON; raises `InvalidInput` for a naive datetime, NaN, an infinity, text that is not Unicode, or a
        value that is not of its field's type: what cannot be read back must not be stored."""
        try:
            if self._must_walk:
                _refuse(value, type(value).__name__)
            data = self._encode(_in_order(value) if self._may_hold_sets else value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInput(f"{type(value).__name__} cannot be stored as JSON: {error}") from error
        if self._must_walk or _MANY_DIGITS in data.translate(_DIGITS_TO_ZEROS):
            check_json(data)
        try:
            self.decode(data)
        except Exception as error:  # a type may check itself, and raise what it likes
            raise InvalidInput(f"{type(value).__name__} could not be read back: {error}") from error
        return data

    def convert(self, value: Any) -> T:
        """From plain dicts and lists, as an upcaster leaves them."""
        if is_pydantic(self.cls):
            return self.cls.model_validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined, no-any-return]
        return msgspec.convert(value, self.cls, dec_hook=_decode_model, str_keys=True, builtin_types=())


def schema_of(cls: Any) -> Any:
    """The JSON Schema of a class, as plain data; raises `TypeError` for a type JSON cannot hold."""
    if isinstance(cls, type) and is_pydantic(cls):
        return _settled(cls.model_json_schema())  # type: ignore[attr-defined]
    return _settled(msgspec.json.schema(cls, schema_hook=_schema_of_model))


def _settled(schema: Any) -> Any:
    """The default of a set in one order, whichever the process gave it."""
    if isinstance(schema, dict):
        settled = {key: _settled(value) for key, value in schema.items()}
        if schema.get("uniqueItems") and isinstance(schema.get("default"), list):
            settled["default"] = sorted(schema["default"], key=msgspec.json.encode)
        return settled
    return [_settled(one) for one in schema] if isinstance(schema, list) else schema


def _schema_of_model(cls: type) -> dict[str, Any]:
    if is_pydantic(cls):
        return cls.model_json_schema()  # type: ignore[attr-defined, no-any-return]
    raise NotImplementedError(cls)  # msgspec's protocol for "not mine"


def _is_made_of(
    hint: object, leaves: frozenset[object], inside: frozenset[object] = frozenset(), *, sets: bool = True
) -> bool:
    """Whether nothing inside can be anything but these, an open type or itself included, so that encoding needs no
    second look."""
    if hint in leaves or hint is Ellipsis or isinstance(hint, str | int):
        return True
    origin = typing.get_origin(hint)
    if origin is not None:
        fine = not _is_record(origin) and (sets or origin not in _SETS)
        return fine and all(_is_made_of(one, leaves, inside, sets=sets) for one in typing.get_args(hint))
    if _is_record(hint) and hint not in inside:
        return all(_is_made_of(field, leaves, inside | {hint}, sets=sets) for field in hints_of(hint).values())
    return False


def _is_record(cls: object) -> typing.TypeGuard[type]:
    return isinstance(cls, type) and (dataclasses.is_dataclass(cls) or issubclass(cls, msgspec.Struct))


def _refuse(value: object, path: str) -> None:
    match value:
        case datetime() if value.tzinfo is None:
            raise InvalidInput(f"{path} is {value.isoformat()} without a time zone: give one, for example tzinfo=UTC")
        case float() if not math.isfinite(value):
            raise InvalidInput(f"{path} is {value}, which JSON cannot hold")
        case Mapping():
            for key, inner in value.items():
                _refuse(key, f"a key of {path}")
                _refuse(inner, f"{path}[{key!r}]")
        case tuple() | list() | frozenset() | set():
            for index, inner in enumerate(value):
                _refuse(inner, f"{path}[{index}]")
        case _ if dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct) or is_pydantic(type(value)):
            for name in [*field_names(type(value)), *(getattr(value, "model_extra", None) or ())]:
                _refuse(getattr(value, name), f"{path}.{name}")
        case _:
            pass


class _Ordered(frozenset[T]):
    """A set that is encoded in one order in every process: a retry must give the same bytes."""

    def __iter__(self) -> Iterator[T]:
        return iter(sorted(super().__iter__(), key=lambda one: msgspec.json.encode(one, enc_hook=_encode_model)))


def _in_order(value: Any) -> Any:
    """The same value with its sets ordered; itself where it holds none."""
    match value:
        case set() | frozenset():
            return _Ordered(map(_in_order, value))
        case dict():
            return {key: _in_order(inner) for key, inner in value.items()}
        case tuple() if type(value) is tuple:
            inside = tuple(map(_in_order, value))
            return inside if any(after is not before for after, before in zip(inside, value, strict=True)) else value
        case _ if _is_record(type(value)) or is_pydantic(type(value)):
            fields = ((name, getattr(value, name)) for name in field_names(type(value)))
            ordered = {name: after for name, before in fields if (after := _in_order(before)) is not before}
            return _with_fields(value, ordered) if ordered else value
    return value


def _with_fields(value: Any, changed: Mapping[str, object]) -> Any:
    """A copy with other fields, whatever the class thinks of changing."""
    if is_pydantic(type(value)):
        return value.model_copy(update=changed)
    twin = copy.copy(value)
    for name, field in changed.items():
        if isinstance(twin, msgspec.Struct):
            msgspec.structs.force_setattr(twin, name, field)
        else:
            object.__setattr__(twin, name, field)
    return twin


def _dump_model(value: Any) -> bytes:
    """By the names and without the computed fields, so that the model can be read back from it."""
    return value.model_dump_json(by_alias=True, round_trip=True).encode()  # type: ignore[no-any-return]


def _encode_model(value: Any) -> object:
    if is_pydantic(type(value)):
        return msgspec.Raw(_dump_model(value))
    raise TypeError(f"objects of type {type(value).__name__} are not supported")


def _decode_model(cls: type, value: object) -> object:
    if is_pydantic(cls):
        return cls.model_validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined]
    raise TypeError(f"objects of type {cls.__name__} are not supported")
