"""Every named limit at its edge, and names that would be trouble further down: refused whole, with nothing stored."""

from collections.abc import Callable

import pytest

from everlog.core import limits
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import InvalidInput
from everlog.core.names import LONGEST_NAME
from everlog.store.contract import Store
from everlog.testing.conformance.events import append, everything, new_event, request

_CLIENT = b'{"ip":"::1"}'
_WHOLE = limits.EVENT_BYTES
_BIG = limits.LARGEST_INTEGER
_SMALL = limits.SMALLEST_INTEGER


def _tags(many: int) -> tuple[str, ...]:
    return tuple(f"tag:{n}" for n in range(many))


def _batch(*sizes: int) -> Append:
    return request(*(new_event(data=b"x" * size) for size in sizes))


def _clients(many: int, rest: int) -> Append:
    """A batch whose size lies in `client`, which is stored like any other byte."""
    client = b'{"user_agent":"' + b"x" * (_WHOLE - 17) + b'"}'
    return request(*(new_event(data=b"", client=client) for _ in range(many)), new_event(data=b"x" * rest))


_WITHIN: dict[str, Append] = {
    "event bytes": _batch(_WHOLE),
    "event bytes with client": request(new_event(data=b"x" * (_WHOLE - len(_CLIENT)), client=_CLIENT)),
    "batch events": request(*(new_event(f"s-{n % 3}") for n in range(limits.BATCH_EVENTS))),
    "batch bytes": _batch(_WHOLE, _WHOLE, _WHOLE, _WHOLE, 0),
    "batch bytes in clients": _clients(4, 0),
    "tags": request(new_event(tags=_tags(limits.EVENT_TAGS))),
    "the same tag twice": request(new_event(tags=("a", "a"))),
    "long tenant": request(new_event(), tenant="t" * LONGEST_NAME),
    "long stream": request(new_event("s" * LONGEST_NAME)),
    "long type": request(new_event(type="é" * LONGEST_NAME)),
    "long tag": request(new_event(tags=("é" * LONGEST_NAME,))),
    "long actor": request(new_event(actor="é" * LONGEST_NAME)),
    "largest schema version": request(new_event(schema_version=_BIG)),
    "latest moment": request(new_event(occurred_at=_BIG)),
    "earliest moment": request(new_event(occurred_at=_SMALL)),
}
_BEYOND: dict[str, Append] = {
    "event bytes": _batch(_WHOLE + 1),
    "event bytes with client": request(new_event(data=b"x" * (_WHOLE - len(_CLIENT) + 1), client=_CLIENT)),
    "batch events": request(*(new_event() for _ in range(limits.BATCH_EVENTS + 1))),
    "batch bytes": _batch(_WHOLE, _WHOLE, _WHOLE, _WHOLE, 1),
    "batch bytes in clients": _clients(4, 1),
    "one event of a good batch": _batch(1, _WHOLE + 1, 1),
    "tags": request(new_event(tags=_tags(limits.EVENT_TAGS + 1))),
    "schema version 0": request(new_event(schema_version=0)),
    "schema version below 0": request(new_event(schema_version=-1)),
    "schema version beyond 64 bits": request(new_event(schema_version=_BIG + 1)),
    "moment beyond 64 bits": request(new_event(occurred_at=_BIG + 1)),
    "moment before 64 bits": request(new_event(occurred_at=_SMALL - 1)),
    "no id": request(new_event(id=b"")),
    "short id": request(new_event(id=bytes(15))),
    "long id": request(new_event(id=bytes(17))),
    "short correlation id": request(new_event(correlation_id=bytes(15))),
    "long causation id": request(new_event(causation_id=bytes(17))),
    "client that is no JSON": request(new_event(client=b"::1")),
    "client that is no object": request(new_event(client=b'["::1"]')),
    "client of other things than texts": request(new_event(client=b'{"ip":[[]]}')),
    "client that is no UTF-8": request(new_event(client=b'{"ip":"\xff"}')),
}


@pytest.mark.parametrize("asked", _WITHIN.values(), ids=_WITHIN)
def test_what_just_fits_is_stored(store: Store, asked: Append) -> None:
    assert store.append(asked).position == len(asked.events)
    assert [event.data for event in everything(store)] == [event.data for event in asked.events]


@pytest.mark.parametrize("asked", _BEYOND.values(), ids=_BEYOND)
def test_what_is_one_too_much_is_refused_and_nothing_is_stored(store: Store, asked: Append) -> None:
    with pytest.raises(InvalidInput) as refused:
        store.append(asked)
    assert (refused.value.code, refused.value.retryable) == ("invalid_input", False)
    assert store.head().position == 0
    assert everything(store) == []


_BAD_EVERYWHERE = {
    "empty": "",
    "201 letters": "a" * (LONGEST_NAME + 1),
    "NUL": "a\x00b",
    "newline": "a\nb",
    "newline at the end": "a\n",
    "tab": "a\tb",
    "outer space": " a",
    "space at the end": "a ",
    "NFD": "caf" + "e\u0301",
    "right-to-left override": "a\u202eb",
    "left-to-right isolate": "a\u2066b",
    "zero-width space": "a\u200bb",
    "byte order mark": "\ufeffa",
    "line separator": "a\u2028b",
    "half a surrogate pair": "a\ud800",
    "C1 control": "a\x85b",
}
_BAD_KEYS = {
    **_BAD_EVERYWHERE,
    "inner space": "a b",
    "parent folder": "../etc/passwd",
    "slash": "a/b",
    "backslash": "a\\b",
    "percent": "a%2e",
    "asterisk": "a*",
    "greater than": "a.>",
    "quote": "a'b",
    "leading dot": ".a",
    "leading dash": "-a",
    "NFC letter": "café",
    "full-width letter": "\uff41",
    "Cyrillic look-alike": "\u0430cme",
    "emoji": "\U0001f4a9",
}
_KEYS: dict[str, Callable[[str], Append]] = {
    "tenant": lambda name: request(new_event(), tenant=name),
    "stream": lambda name: request(new_event(name)),
}
_TEXTS: dict[str, Callable[[str], Append]] = {
    "type": lambda name: request(new_event(type=name)),
    "tag": lambda name: request(new_event(tags=("good", name))),
    "actor": lambda name: request(new_event(actor=name)),
}


@pytest.mark.parametrize("what", _KEYS)
def test_tenants_and_streams_are_plain_names(store: Store, what: str) -> None:
    for name in _BAD_KEYS.values():
        with pytest.raises(InvalidInput, match=what):
            store.append(_KEYS[what](name))
    assert everything(store) == []


@pytest.mark.parametrize("what", _TEXTS)
def test_types_tags_and_actors_are_printable_text(store: Store, what: str) -> None:
    for name in _BAD_EVERYWHERE.values():
        with pytest.raises(InvalidInput, match=what):
            store.append(_TEXTS[what](name))
    assert everything(store) == []


def test_types_tags_and_actors_may_be_what_real_logs_hold(store: Store) -> None:
    names = ["Order Placed", "../x", "100%", "a'b\"", "café", "注文", "a*>b", "_", "O'Brien; DROP TABLE x --"]
    for name in names:
        append(store, new_event(type=name, tags=(name,), actor=name))
    assert [(event.type, event.actor) for event in everything(store)] == [(name, name) for name in names]


def test_a_refused_event_is_not_stored_with_the_rest_of_its_batch(store: Store) -> None:
    good: list[NewEvent] = [new_event(), new_event()]
    with pytest.raises(InvalidInput):
        append(store, good[0], new_event(tags=("",)), good[1])
    assert everything(store) == []
