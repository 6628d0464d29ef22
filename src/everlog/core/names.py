"""Names people give: checked once, at the door, so that every later floor may rely on them.

Tenants and streams are `[A-Za-z0-9][A-Za-z0-9._:-]{0,199}`. Event types, tags and actors may hold spaces and any
printable character, because real logs do. Personal data does not belong in any of them.
"""

import re
import unicodedata
from functools import lru_cache

from everlog.core.errors import InvalidInput

DEFAULT_TENANT = "default"
LONGEST_NAME = 200

_STRICT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


@lru_cache(maxsize=4096)
def tenant_name(name: str) -> str:
    return _strict("tenant", name)


def stream_name(name: str) -> str:
    return _strict("stream", name)


@lru_cache(maxsize=4096)
def type_name(name: str) -> str:
    return printable("event type", name)


@lru_cache(maxsize=4096)
def actor_name(name: str) -> str:
    return printable("actor", name)


def category_of(stream: str) -> str:
    """What stands before the first `-`: the category of `order-17` is `order`."""
    return stream.partition("-")[0]


def printable(what: str, name: str) -> str:
    """`name` itself when it is 1 to 200 printable characters in NFC without outer spaces; else `InvalidInput`."""
    if name.isascii() and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip():
        return name
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidInput(f"{what} {name[:40]!r} has {len(name)} characters: use 1 to {LONGEST_NAME}")
    if not name.isprintable() or name != name.strip() or not unicodedata.is_normalized("NFC", name):
        raise InvalidInput(f"{what} {name!r} must be printable text in NFC form without outer spaces")
    return name


def _strict(what: str, name: str) -> str:
    if not isinstance(name, str) or not _STRICT.fullmatch(name):
        raise InvalidInput(
            f"{what} {name!r} is not a name: use 1 to 200 of A-Z a-z 0-9 . _ : - and start with a letter or digit"
        )
    return name
