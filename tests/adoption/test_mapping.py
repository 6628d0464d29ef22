"""A map says what becomes what; every mistake in one is named by its key, with what to write instead."""

from pathlib import Path

import pytest

from everlog.adoption import map_from_toml, read_map
from everlog.core.errors import Misconfigured

GOOD = 'stream = "s-{id}"\ntype = "t"\n'


def test_braces_are_columns_and_two_braces_are_a_brace() -> None:
    made = map_from_toml('stream = "a{{{x}}}-{y} z%s"\ntype = "t"')
    assert made.stream.columns == ("x", "y")
    assert made.stream.text({"x": "1", "y": "{x}"}) == "a{1}-{x} z%s"


def test_a_column_may_have_any_name() -> None:
    made = map_from_toml('stream = "{Order Nr. (new)}"\ntype = "t"\n[data]\n"a b" = "Größe"')
    assert made.columns() == {"Order Nr. (new)": "stream", "Größe": "data.a b"}


def test_every_column_is_known_by_the_key_that_reads_it() -> None:
    made = map_from_toml(
        'stream = "{a}"\ntype = "{b}"\ntime = "{c}"\nactor = "{d}"\nid = "{e}"\ntenant = "{f}"\n'
        '[data]\ng = { type = "money", currency = "{h}" }'
    )
    assert made.columns() == {
        "a": "stream", "b": "type", "c": "time", "d": "actor", "e": "id", "f": "tenant", "g": "data.g", "h": "data.g"
    }  # fmt: skip


MISTAKES = {
    "no TOML": ("stream = ", "not TOML"),
    "no stream": ('type = "t"', "`stream` is missing: write a template"),
    "no type": ('stream = "s"', "`type` is missing: write a template"),
    "unknown key": (GOOD + 'streams = "x"', "`streams` is unknown: write one of stream, type"),
    "no text": ("stream = 7\ntype = 't'", "`stream` is 7: write text"),
    "empty": ('stream = ""\ntype = "t"', "`stream` is ''"),
    "open brace": ('stream = "s-{id"\ntype = "t"', "`stream` has a lone {"),
    "closing brace": ('stream = "s-id}"\ntype = "t"', "`stream` has a lone }"),
    "empty braces": ('stream = "s-{}"\ntype = "t"', "`stream` has a lone {"),
    "optional stream": ('stream = { template = "{a}", optional = true }\ntype = "t"', "`stream` is a table"),
    "unknown template key": (GOOD + 'actor = { column = "x" }', "`actor.column` is unknown: write one of template"),
    "no template": (GOOD + "actor = { optional = true }", "`actor.template` is missing"),
    "optional in words": (GOOD + 'actor = { template = "{a}", optional = "yes" }', "`actor.optional` is 'yes'"),
    "data no table": (GOOD + 'data = "x"', "`data` is not a table"),
    "field a number": (GOOD + "[data]\na = 1", "`data.a` is 1: write a column's name"),
    "field a template": (GOOD + '[data]\na = "{a}"', "`data.a` is '{a}': write one column's name, without braces"),
    "field key": (GOOD + '[data]\na = { kind = "integer" }', "`data.a.kind` is unknown: write one of column"),
    "field type": (GOOD + '[data]\na = { type = "int" }', "`data.a.type` is 'int': write one of string, integer"),
    "field column": (GOOD + "[data]\na = { column = 3 }", "`data.a.column` is 3"),
    "field optional": (GOOD + "[data]\na = { optional = 1 }", "`data.a.optional` is 1: write true or false"),
    "money alone": (GOOD + '[data]\na = { type = "money" }', "`data.a.currency` is missing: write currency"),
    "no currency": (GOOD + '[data]\na = { type = "money", currency = "euro" }', "`data.a.currency`: 'euro'"),
    "currency of text": (GOOD + '[data]\na = { currency = "EUR" }', "`data.a.currency` is only for money"),
    "time zone": (GOOD + 'time_zone = "Europe/Atlantis"', "`time_zone` is 'Europe/Atlantis'"),
    "time zone a path": (GOOD + 'time_zone = "../../etc/passwd"', "`time_zone` is"),
    "time zone a number": (GOOD + "time_zone = 2", "`time_zone` is 2"),
    "format": (GOOD + 'format = "xml"', '`format` is \'xml\': write "csv" or "ndjson"'),
    "delimiter": (GOOD + 'delimiter = "::"', "`delimiter` is '::': write one character"),
    "delimiter a quote": (GOOD + "delimiter = '\"'", "`delimiter` is"),
    "delimiter of NDJSON": (GOOD + 'format = "ndjson"\ndelimiter = ";"', "`delimiter` is for CSV"),
}


@pytest.mark.parametrize(("toml", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_what_to_write(toml: str, told: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        map_from_toml(toml, source="orders.toml")
    assert str(caught.value).startswith("orders.toml")
    assert told in str(caught.value)


def test_a_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere\.toml cannot be read"):
        read_map(tmp_path / "nowhere.toml")
