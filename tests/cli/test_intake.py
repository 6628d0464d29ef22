"""`everlog.app.intake`: what of an event from outside would be lost without a word is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from everlog import InvalidInput, Platform, event
from everlog.app.intake import Incoming, Intake


@dataclass(frozen=True)
class Address:
    street: str
    zip: str | None = None


class Card(msgspec.Struct, frozen=True, tag="card", omit_defaults=True):
    number: str
    holder: str = "unknown"


class Cash(msgspec.Struct, frozen=True, tag="cash"):
    till: int


@event("a.nested")
class Nested:
    address: Address
    others: tuple[Address, ...] = ()
    counts: Mapping[str, int] | None = None
    by_name: Mapping[str, Address] | None = None
    paid: Card | Cash | None = None
    anything: Any = None


@event("a.model")
class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    name: str = pydantic.Field(alias="Name")


@event("a.open")
class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="allow")
    name: str


INTAKE = Intake(Platform("memory:", Nested, Model, Open).types, "acme")
HOME = '"address":{"street":"x"}'


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("a.nested", f"{{{HOME}}}"),
        ("a.nested", '{"address":{"street":"x","zip":null},"others":[{"street":"y","zip":"z"}]}'),
        ("a.nested", f'{{{HOME},"counts":{{"any":1,"thing":2}},"by_name":{{"n":{{"street":"y"}}}}}}'),
        ("a.nested", f'{{{HOME},"paid":{{"type":"card","number":"1","holder":"unknown"}}}}'),
        ("a.nested", f'{{{HOME},"paid":{{"type":"cash","till":1}}}}'),
        ("a.nested", f'{{{HOME},"anything":{{"at":["all",{{"x":1}}]}}}}'),
        ("a.model", '{"Name":"ann"}'),
        ("a.open", '{"name":"ann","more":1}'),
    ],
)
def test_what_a_type_has_a_place_for_is_taken(type: str, data: str) -> None:
    assert INTAKE.event(Incoming(type, data.encode()), "s-1").type == type


@pytest.mark.parametrize(
    ("type", "data", "path"),
    [
        ("a.nested", f'{{{HOME},"adress":1}}', "'adress': did you mean 'address'?"),
        ("a.nested", '{"address":{"street":"x","city":"y"}}', "'address.city'"),
        ("a.nested", f'{{{HOME},"others":[{{"street":"y"}},{{"street":"z","no":1}}]}}', "'others.no'"),
        ("a.nested", f'{{{HOME},"by_name":{{"n":{{"street":"y","no":1}}}}}}', "'by_name.n.no'"),
        ("a.nested", f'{{{HOME},"paid":{{"type":"cash","till":1,"number":"1","no":1}}}}', "'paid."),
        ("a.model", '{"Name":"ann","age":1}', "'age'"),
    ],
)
def test_a_field_that_decoding_would_pass_over_is_refused(type: str, data: str, path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        INTAKE.event(Incoming(type, data.encode()), "s-1")
    assert f"has no field {path}" in str(refused.value)


def test_somebody_must_say_which_stream() -> None:
    door = Incoming("door.opened", b"{}")
    with pytest.raises(InvalidInput, match="which stream"):
        INTAKE.event(door)
    assert INTAKE.event(Incoming("door.opened", b"{}", stream="door-1")).stream == "door-1"
    assert INTAKE.event(Incoming("door.opened", b"{}", stream="door-1"), "door-2").stream == "door-2"


def test_a_foreign_id_is_one_of_ours_in_each_tenant() -> None:
    foreign = Incoming("t", b"{}", foreign_id=("/till/7", "a-1"))
    here = INTAKE.event(foreign, "s-1").id
    assert here == INTAKE.event(foreign, "s-1").id
    assert here != Intake(Platform("memory:").types, "globex").event(foreign, "s-1").id
    assert here != INTAKE.event(Incoming("t", b"{}", foreign_id=("/till/8", "a-1")), "s-1").id
