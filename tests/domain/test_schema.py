"""The committed schema file: each kind of change has its verdict, and the same types give the same bytes."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pydantic
import pytest

from everlog import InvalidInput, Upcaster, event, upcast, upcast_drop
from everlog.domain import schema
from everlog.domain.schema import Compatibility, SchemaFinding
from everlog.domain.types import EventTypes
from tests.domain.corpus import TYPES

COMPATIBLE, NEEDS_UPCASTER, BREAKING = Compatibility


def typed(name: str = "thing.happened", version: int = 1, tags: tuple[str, ...] = (), **fields: Any) -> type:
    """An event whose fields are types, or (type, default) pairs."""
    made = [
        (one, hint[0], field(default=hint[1])) if isinstance(hint, tuple) else (one, hint)
        for one, hint in fields.items()
    ]
    return event(name, version=version, tags=tags)(
        dataclasses.make_dataclass("Happened", made, frozen=True, kw_only=True)
    )


def compared(old: EventTypes, new: EventTypes) -> list[SchemaFinding]:
    return schema.compare(schema.read(schema.write(old)), new)


def change(old: Any, new: Any) -> list[tuple[Compatibility, str]]:
    """The findings when the field `value` of a type becomes another."""
    return [
        (finding.verdict, finding.change)
        for finding in compared(EventTypes([typed(value=old)]), EventTypes([typed(value=new)]))
    ]


@dataclass(frozen=True)
class Address:
    street: str


@dataclass(frozen=True)
class WithCity:
    street: str
    city: str = ""


@dataclass(frozen=True)
class MustHaveCity:
    street: str
    city: str


@pytest.mark.parametrize(
    ("old", "new", "verdict", "found"),
    [
        (int, str, NEEDS_UPCASTER, "value changed its type"),
        (int, int | None, COMPATIBLE, "value takes more than before"),
        (int | None, int, NEEDS_UPCASTER, "value changed its type"),
        (Literal["a"], Literal["a", "b"], COMPATIBLE, "value takes more than before"),
        (Literal["a", "b"], Literal["a"], NEEDS_UPCASTER, "value changed its type"),
        ((int, 0), int, NEEDS_UPCASTER, "value lost its default"),
        (tuple[int, ...], frozenset[int], NEEDS_UPCASTER, "value changed its type"),
        (tuple[int, ...], tuple[str, ...], NEEDS_UPCASTER, "value[] changed its type"),
        (tuple[int, ...], tuple[int, int], NEEDS_UPCASTER, "value changed its type"),
        (Mapping[str, int], Mapping[str, str], NEEDS_UPCASTER, "value{} changed its type"),
        (Address, WithCity, COMPATIBLE, "value.city is new, with a default"),
        (Address, MustHaveCity, NEEDS_UPCASTER, "value.city is new and has no default"),
        (WithCity, Address, COMPATIBLE, "value.city is no longer read"),
        (WithCity, MustHaveCity, NEEDS_UPCASTER, "value.city lost its default"),
        (tuple[Address, ...], tuple[WithCity, ...], COMPATIBLE, "value[].city is new, with a default"),
        (tuple[Address, ...], tuple[MustHaveCity, ...], NEEDS_UPCASTER, "value[].city is new and has no default"),
        (Mapping[str, Address], Mapping[str, WithCity], COMPATIBLE, "value{}.city is new, with a default"),
        (Address | None, WithCity | None, COMPATIBLE, "value.city is new, with a default"),
        (Address | None, MustHaveCity | None, NEEDS_UPCASTER, "value.city is new and has no default"),
        (Address, Address | None, COMPATIBLE, "value takes more than before"),
        (Address, str, NEEDS_UPCASTER, "value changed its type"),
    ],
)
def test_each_change_of_a_field_has_its_verdict(old: Any, new: Any, verdict: Compatibility, found: str) -> None:
    assert change(old, new) == [(verdict, found)]


@pytest.mark.parametrize("hint", [int, tuple[Address, ...], WithCity | None, (int, 0), Any, Literal["a", "b"]])
def test_what_did_not_change_is_no_finding(hint: Any) -> None:
    assert change(hint, hint) == []


def test_a_reordered_union_or_enum_is_no_finding() -> None:
    assert change(int | None, None | int) == []
    assert change(Literal["a", "b"], Literal["b", "a"]) == []


def test_new_and_gone_fields_have_their_verdict_and_advice() -> None:
    old, new = EventTypes([typed(kept=int, gone=int)]), EventTypes([typed(kept=int, asked=int, optional=(int, 0))])
    assert compared(old, new) == [
        SchemaFinding(
            "thing.happened", NEEDS_UPCASTER, "asked is new and has no default",
            "raise the version to 2 and add an upcaster from thing.happened v1",
        ),
        SchemaFinding("thing.happened", COMPATIBLE, "optional is new, with a default"),
        SchemaFinding("thing.happened", COMPATIBLE, "gone is no longer read"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["struct", "model"])
def test_a_field_that_is_gone_needs_an_upcaster_where_unknown_fields_are_refused(kind: str) -> None:
    def strict(**fields: type) -> EventTypes:
        if kind == "struct":
            struct = msgspec.defstruct("Happened", list(fields.items()), frozen=True, forbid_unknown_fields=True)
            return EventTypes([event("thing.happened")(struct)])
        config = pydantic.ConfigDict(frozen=True, extra="forbid")
        model = pydantic.create_model("Happened", __config__=config, **{n: (t, ...) for n, t in fields.items()})  # type: ignore[call-overload]
        return EventTypes([event("thing.happened")(model)])

    [finding] = compared(strict(kept=int, gone=int), strict(kept=int))
    assert finding.verdict is NEEDS_UPCASTER
    assert finding.change == "gone is gone, and fields that are not declared are refused"


def test_a_new_type_is_compatible_and_one_that_is_gone_is_breaking() -> None:
    one, both = EventTypes([typed("a.happened")]), EventTypes([typed("a.happened"), typed("b.happened")])
    assert compared(one, both) == [SchemaFinding("b.happened", COMPATIBLE, "new type")]
    [gone] = compared(both, one)
    assert (gone.type, gone.verdict, gone.change) == ("b.happened", BREAKING, "no longer declared")
    assert gone.advice == (
        "keep the class, or add an upcaster from b.happened v1 (upcast_drop if it means nothing any more)"
    )


def test_a_type_that_is_gone_is_compatible_when_it_is_upcast_or_dropped() -> None:
    old = EventTypes([typed("a.happened"), typed("b.happened")])
    rename = upcast("b.happened", 1, to=("a.happened", 1))(lambda data: data)
    for step in (rename, upcast_drop("b.happened", 1)):
        assert compared(old, EventTypes([typed("a.happened")], [step])) == [
            SchemaFinding("b.happened", COMPATIBLE, "v1 is upcast")
        ]


def test_a_higher_version_is_compatible_and_a_lower_one_breaking() -> None:
    step: Upcaster = upcast("thing.happened", 1)(lambda data: data)
    one, two = EventTypes([typed(value=int)]), EventTypes([typed(version=2, value=str)], [step])
    assert compared(one, two) == [SchemaFinding("thing.happened", COMPATIBLE, "v1 is upcast")]
    [lower] = compared(two, one)
    assert (lower.verdict, lower.change) == (BREAKING, "went back to v1")
    assert lower.advice == "stored events are v2: never lower a version"


def test_a_step_that_is_gone_is_breaking_because_old_names_live_in_the_steps_only() -> None:
    rename = upcast("old.happened", 1, to=("thing.happened", 1))(lambda data: data)
    [finding] = compared(EventTypes([typed()], [rename]), EventTypes([typed()]))
    assert finding == SchemaFinding(
        "old.happened v1", BREAKING, "no longer upcast",
        "put the upcaster of old.happened v1 back (upcast_drop if it means nothing any more)",
    )  # fmt: skip


def test_changed_tags_are_told() -> None:
    [finding] = compared(EventTypes([typed(value=int)]), EventTypes([typed(tags=("v:{value}",), value=int)]))
    assert (finding.verdict, finding.change) == (COMPATIBLE, "tags were [], are ['v:{value}']")
    assert finding.advice == "events stored before keep the tags they have"


@dataclass(frozen=True)
class Branch:
    left: "Branch | None" = None


@dataclass(frozen=True)
class WideBranch:
    left: "WideBranch | None" = None
    right: "WideBranch | None" = None


def test_types_that_hold_themselves_are_compared_to_the_end() -> None:
    assert change(Branch, Branch) == []
    assert change(Branch, WideBranch) == [(COMPATIBLE, "value.right is new, with a default")]


class Note(msgspec.Struct, frozen=True, tag="note"):
    title: str
    default: int


class NumberedNote(msgspec.Struct, frozen=True, tag="note"):
    title: int
    default: int


class Nothing(msgspec.Struct, frozen=True, tag="nothing"):
    pass


def test_a_field_may_have_a_name_that_schemas_use() -> None:
    assert change(Note, NumberedNote) == [(NEEDS_UPCASTER, "value.title changed its type")]
    assert change(Note | Nothing, NumberedNote | Nothing) == [(NEEDS_UPCASTER, "value changed its type")]
    assert change(Note | Nothing, Nothing | Note) == []


def test_the_worst_verdict_is_the_greatest() -> None:
    assert max(BREAKING, COMPATIBLE, NEEDS_UPCASTER) is BREAKING
    assert COMPATIBLE < NEEDS_UPCASTER


def test_the_file_holds_types_versions_tags_schemas_and_steps_sorted() -> None:
    step = upcast("old.happened", 1, to=("thing.happened", 1))(lambda data: data)
    content = schema.write(EventTypes([typed("z.happened"), typed(tags=("v:{value}", "all"), value=int)], [step]))
    assert content.endswith(b"}\n")
    found = json.loads(content)
    assert list(found) == ["events", "format", "upcasters"]
    assert list(found["events"]) == ["thing.happened", "z.happened"]
    assert found["events"]["thing.happened"]["tags"] == ["v:{value}", "all"]
    assert found["events"]["thing.happened"]["version"] == 1
    assert found["upcasters"] == {"old.happened v1": ["thing.happened v1"]}


def test_the_order_of_declaring_changes_no_byte() -> None:
    kinds = [kind.cls for kind in TYPES.kinds.values()]
    steps = list(TYPES.chain.steps.values())
    assert schema.write(EventTypes(kinds[::-1], steps[::-1])) == schema.write(TYPES)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format":2,"events":{}}', b'{"format":1}', b"\xff"])
def test_a_file_that_is_no_schema_file_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="the schema file"):
        schema.read(content)
