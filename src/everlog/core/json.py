"""JSON from outside, read strictly: what two readers could understand differently is refused (design D6).

Refused are NaN and infinities, integers beyond 64 bits, numbers no double can hold, duplicate keys, lone surrogates,
text that is not UTF-8, and nesting deeper than `limits.JSON_DEPTH`. Hostile input costs no more than its length.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from math import isfinite

import msgspec

from everlog.core import limits
from everlog.core.errors import InvalidInput

# Always matches from a quote on, closed or not, and never goes back: linear however the text is broken.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONGEST_INTEGER = len(str(limits.SMALLEST_INTEGER))


def parse_json(raw: bytes, *, depth: int = limits.JSON_DEPTH) -> object:
    """The value of one JSON text; raises `InvalidInput` with the reason."""
    return _parse(raw, _DOUBLES, depth)


def parse_exact_json(raw: bytes) -> object:
    """As `parse_json`, but a number with a point or exponent is a `Decimal`, so that no digit is lost."""
    return _parse(raw, _EXACT)


def check_json(raw: bytes) -> None:
    """Raise `InvalidInput` unless `parse_json` would accept these bytes."""
    _parse(raw, _DOUBLES)


def _parse(raw: bytes, decoder: json.JSONDecoder, depth: int = limits.JSON_DEPTH) -> object:
    _check_depth(raw, depth)
    try:
        value = decoder.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8: byte 0x{raw[error.start]:02x} at {error.start}") from error
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error.msg} at character {error.pos}") from error
    if _SURROGATE.search(raw):
        _check_surrogates(value)
    return value


def _check_depth(raw: bytes, most: int) -> None:
    """Before the parser, because it recurses. Counting brackets settles nearly every text without looking closer."""
    if raw.count(b"[") + raw.count(b"{") <= most:
        return
    depth = 0
    for bracket in _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > most:
            raise InvalidInput(f"JSON nested deeper than {most}")


def _check_surrogates(value: object) -> None:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise InvalidInput("a string holds half a surrogate pair, which is no character") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise InvalidInput(f"the key {_short(twice)!r} is there twice")
    return made


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER or not limits.SMALLEST_INTEGER <= int(text) <= limits.LARGEST_INTEGER:
        raise InvalidInput(f"the integer {_short(text)} is beyond 64 bits: send it as a string")
    return int(text)


def _double(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise InvalidInput(f"the number {_short(text)} is too large: send it as a string")
    return value


def _exact(text: str) -> Decimal:
    _double(text)
    return Decimal(text)


def _constant(text: str) -> object:
    raise InvalidInput(f"{text} is not JSON: leave the value out or send null")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def _decoder(real: Callable[[str], object]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=real,
        parse_constant=_constant,
    )


_DOUBLES, _EXACT = _decoder(_double), _decoder(_exact)
