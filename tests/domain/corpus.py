"""The types of the golden corpus: every kind of class and every kind of step, with all their versions."""

import msgspec
import pydantic

from everlog import Money, event, upcast
from everlog.domain.types import EventTypes
from tests.domain.kinds import Everything
from tests.domain.people import STEPS, Json, Moved, Named, UserProfileUpdated, to_profile


@event("shape.drawn", version=2)
class Drawn(msgspec.Struct, frozen=True):
    corners: tuple[tuple[int, int], ...]
    colour: str | None = None


@upcast("shape.drawn", 1)
def corners(old: Json) -> Json:
    return {"corners": [[old["x"], old["y"]]]}


@event("contract.signed", version=2)
class Signed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    fee: Money
    party: str = pydantic.Field(alias="signedBy")


@upcast("contract.signed", 1)
def fee(old: Json) -> Json:
    return {"fee": {"minor": old["cents"], "currency": "EUR"}, "signedBy": old["signedBy"]}


TYPES = EventTypes([Everything, Named, Moved, UserProfileUpdated, Drawn, Signed], [*STEPS, to_profile, corners, fee])
