"""Names in subjects: each gives one word, no two the same one, and none means anything to a broker (T35)."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlog.core.errors import InvalidInput
from everlog.core.names import tenant_name, type_name
from everlog.relay.subjects import Address, address_of, name_of, subject, word

NASTY = [
    "a.b", "a*b", "*", ">", "a>b", "a b", "a%2Eb", "%", "a_b", "../etc", "a~b", "$JS.API", "ä", "a\u0308", "\u202eab",
    "İ", "a" * 200, "A", "order.placed", "ß", "\U0001f600", "a+b", "a=b", "a/b", "a:b",
]  # fmt: skip
names = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=200).filter(lambda text: _encodes(text)))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(names)
@settings(max_examples=2000, deadline=None)
def test_a_word_gives_its_name_back_and_holds_nothing_special(name: str) -> None:
    made = word(name)
    assert re.fullmatch(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+", made)
    assert name_of(made) == name


@given(st.tuples(names, names, names, names), st.tuples(names, names, names, names))
@settings(max_examples=500, deadline=None)
def test_two_addresses_never_share_a_subject(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    first, second = subject(Address(*one)), subject(Address(*other))
    assert (first == second) == (one == other)
    assert first.count(".") == 3
    assert address_of(first) == Address(*one)


def test_case_and_form_make_a_difference() -> None:
    assert len({word("straße"), word("STRASSE"), word("strasse"), word("Straße")}) == 4
    assert word(unicodedata.normalize("NFC", "ä")) != word(unicodedata.normalize("NFD", "ä"))


@pytest.mark.parametrize(
    "text", ["", "a", "a.b.c", "a.b.c.d.e", "a..c.d", "a.*.c.d", "a.b.c.>", "a.b.c.d e", "a.b.c.%", "a.b.c.%2e",
             "a.b.c.%41", "a.b.c.%FF", "a.b.c.~"],
)  # fmt: skip
def test_a_subject_that_everlog_never_writes_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        address_of(text)


def test_the_longest_names_there_are_fit_into_what_a_server_reads_as_one_line() -> None:
    tenant, category, type_ = tenant_name("a" + ":" * 199), "a" + "." * 199, type_name("\U0001f600" * 200)
    assert len(subject(Address("out", tenant, category, type_))) < 4000  # of 4096 for the whole line
