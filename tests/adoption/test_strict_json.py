"""JSON from outside is read the one way everybody reads it, or refused with the reason."""

import json
import time
from contextlib import suppress
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlog.core.errors import InvalidInput
from everlog.core.json import check_json, parse_exact_json, parse_json

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
_values = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)

REFUSED = {
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "infinity": (b"[-Infinity]", "-Infinity is not JSON"),
    "number no double holds": (b"[1e999]", "too large"),
    "key twice": (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
    "key twice, deep inside": (b'[{"x": {"a": 1, "a": 1}}]', "the key 'a' is there twice"),
    "key twice, once escaped": (b'{"a": 1, "\\u0061": 2}', "the key 'a' is there twice"),
    "integer above 64 bits": (b"[9223372036854775808]", "beyond 64 bits"),
    "integer below 64 bits": (b"[-9223372036854775809]", "beyond 64 bits"),
    "integer of 5,000 digits": (b"9" * 5000, "beyond 64 bits"),
    "lone high surrogate": (b'"\\ud800"', "surrogate"),
    "lone low surrogate as a key": (b'{"\\uDC00": 1}', "surrogate"),
    "surrogate in the bytes": (b'"\xed\xa0\x80"', "not UTF-8"),
    "65 arrays": (b"[" * 65 + b"]" * 65, "deeper than 64"),
    "65 objects": (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64"),
    "100,000 open brackets": (b"[" * 100_000, "deeper than 64"),
    "100,000 open objects": (b'{"a":' * 100_000, "deeper than 64"),
    "not UTF-8": (b'"\xff"', "not UTF-8: byte 0xff at 1"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf1", "not JSON"),
    "nothing": (b"", "not JSON"),
    "two values": (b"1 2", "not JSON"),
    "trailing comma": (b"[1,]", "not JSON"),
    "single quotes": (b"{'a': 1}", "not JSON"),
    "leading zero": (b"[01]", "not JSON"),
    "bare control character": (b'"\x00"', "not JSON"),
    "digits of another script": ("\u0661".encode(), "not JSON"),
    "open string": (b'"\\', "not JSON"),
}


@pytest.mark.parametrize(("raw", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_two_readers_could_understand_differently_is_refused(raw: bytes, reason: str) -> None:
    for read in (parse_json, parse_exact_json, check_json):
        with pytest.raises(InvalidInput, match=reason):
            read(raw)


def test_what_lies_at_the_limits_is_accepted() -> None:
    assert parse_json(b"[9223372036854775807, -9223372036854775808, 1e308]") == [2**63 - 1, -(2**63), 1e308]
    check_json(b"[" * 64 + b"]" * 64)
    check_json(b'"' + b"[{" * 1000 + b'"')
    check_json(b"[" + b"[]," * 1000 + b"{}]")
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert parse_json(b'{"a": "\\u0000"}') == {"a": "\0"}


@given(_values)
def test_everything_msgspec_writes_is_read_back(value: object) -> None:
    raw = msgspec.json.encode(value)
    assert parse_json(raw) == json.loads(raw)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0d8e1.', max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except InvalidInput:
        return
    assert msgspec.json.decode(msgspec.json.encode(value)) == value


def test_exact_numbers_keep_every_digit() -> None:
    numbers = parse_exact_json(b"[12.30, 0.1000000000000000055511151231257827, 1e5, 7]")
    assert [str(number) for number in numbers] == ["12.30", "0.1000000000000000055511151231257827", "1E+5", "7"]  # type: ignore[attr-defined]
    assert isinstance(parse_exact_json(b"1.0"), Decimal)


@pytest.mark.parametrize(
    "raw",
    [b"9" * 1_000_000, b"[" * 1_000_000, b'"\\' * 500_000 + b"[" * 65, b"0." + b"1" * 1_000_000, b"[{},[]" * 100_000],
    ids=["digits", "brackets", "quotes", "decimals", "siblings"],
)
def test_a_megabyte_of_malice_is_answered_at_once(raw: bytes) -> None:
    began = time.monotonic()
    with suppress(InvalidInput):
        check_json(raw)
    assert time.monotonic() - began < 2
