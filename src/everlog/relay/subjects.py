"""Subjects: `prefix.tenant.category.type`, each name one word in which nothing means anything to a broker.

Letters, digits, `_` and `-` stand for themselves; every other byte of the name's UTF-8 is written `%XX`. So no dot,
wildcard or space can appear, two names never share a word, and a word gives its name back.
"""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from everlog.core.errors import InvalidInput

_WORD = re.compile(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+")


class Address(NamedTuple):
    """What a subject says of the event under it."""

    prefix: str
    tenant: str
    category: str
    type: str


@lru_cache(maxsize=4096)
def word(name: str) -> str:
    """One word of a subject for a name of at least one character."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")


def name_of(word_: str) -> str:
    """The name that `word` wrote; raises `InvalidInput` for what it never writes."""
    name = unquote(word_, errors="replace")
    if not _WORD.fullmatch(word_) or word(name) != word_:
        raise InvalidInput(f"{word_!r} is no word of a subject that everlog writes")
    return name


def subject(address: Address) -> str:
    return ".".join(map(word, address))


def address_of(subject: str) -> Address:
    """The four names in a subject; raises `InvalidInput` for one that everlog does not write."""
    words = subject.split(".")
    if len(words) != len(Address._fields):
        raise InvalidInput(f"subject {subject!r} is not prefix.tenant.category.type")
    return Address(*map(name_of, words))
