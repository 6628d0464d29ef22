"""Between a class and its JSON bytes, with what JSON would let pass silently refused: naive times, NaN, big numbers."""

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.json import check_json
from everlog.domain.event import hints_of, is_pydantic

T = TypeVar("T")

# Nineteen digits in a row may be an integer beyond 64 bits (or text): rare enough to look closely then.
_MANY_DIGITS = re.compile(rb"\d{19}")
_SAFE = {str, int, bool, bytes, type(None)}


class Codec(Generic[T]):
    """Encodes and decodes one class. Thread-safe: holds no state of a call."""

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        self._must_walk = not _is_plain(cls, set())
        if is_pydantic(cls):
            self._encode: Callable[[T], bytes] = _dump_model
            self.decode: Callable[[bytes], T] = cls.model_validate_json  # type: ignore[attr-defined]
        else:
            try:
                self._encode = msgspec.json.Encoder(enc_hook=_encode_model).encode
                self.decode = msgspec.json.Decoder(cls, dec_hook=_decode_model).decode
            except TypeError as error:
                raise Misconfigured(f"{cls!r} cannot be stored as JSON: {error}") from error

    def encode(self, value: T) -> bytes:
        """Compact JSON; raises `InvalidInput` for a naive datetime, NaN, an infinity, or text that is not Unicode."""
        if self._must_walk:
            _refuse(value, type(value).__name__)
        try:
            data = self._encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInput(f"{type(value).__name__} cannot be stored as JSON: {error}") from error
        if self._must_walk or _MANY_DIGITS.search(data):
            check_json(data)
        return data

    def convert(self, value: Any) -> T:
        """From plain dicts and lists, as an upcaster leaves them."""
        if is_pydantic(self.cls):
            return self.cls.model_validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined, no-any-return]
        return msgspec.convert(value, self.cls, dec_hook=_decode_model, str_keys=True, builtin_types=())


def _is_plain(hint: object, seen: set[object]) -> bool:
    """Whether nothing inside can be a datetime, a float or an open type, so that encoding needs no second look."""
    if hint in _SAFE or hint in seen or hint is Ellipsis or isinstance(hint, str | int):
        return True
    if typing.get_origin(hint) is not None:
        return typing.get_origin(hint) is not typing.Generic and all(_is_plain(x, seen) for x in typing.get_args(hint))
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct)):
        seen.add(hint)
        return all(_is_plain(field, seen) for field in hints_of(hint).values())
    return False


def _refuse(value: object, path: str) -> None:
    match value:
        case datetime() if value.tzinfo is None:
            raise InvalidInput(f"{path} is {value.isoformat()} without a time zone: give one, for example tzinfo=UTC")
        case float() if not math.isfinite(value):
            raise InvalidInput(f"{path} is {value}, which JSON cannot hold")
        case Mapping():
            for key, inner in value.items():
                _refuse(inner, f"{path}[{key!r}]")
        case tuple() | list() | frozenset() | set():
            for index, inner in enumerate(value):
                _refuse(inner, f"{path}[{index}]")
        case _ if dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct) or is_pydantic(type(value)):
            for name in hints_of(type(value)):
                _refuse(getattr(value, name), f"{path}.{name}")
        case _:
            pass


def _dump_model(value: Any) -> bytes:
    return value.model_dump_json().encode()  # type: ignore[no-any-return]


def _encode_model(value: Any) -> object:
    if is_pydantic(type(value)):
        return msgspec.Raw(_dump_model(value))
    raise TypeError(f"objects of type {type(value).__name__} are not supported")


def _decode_model(cls: type, value: object) -> object:
    if is_pydantic(cls):
        return cls.model_validate(value)  # type: ignore[attr-defined]
    raise TypeError(f"objects of type {cls.__name__} are not supported")
