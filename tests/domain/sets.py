"""A program that prints what must not depend on the order a process keeps its sets in."""

import hashlib
from dataclasses import dataclass
from enum import Enum

import msgspec
import pydantic

from everlog import Decider, Money, event
from everlog.domain import schema
from everlog.domain.fingerprint import fingerprint
from everlog.domain.types import EventTypes

WORDS = frozenset({"red", "green", "blue"})


class Right(Enum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Struct(msgspec.Struct, frozen=True):
    rights: frozenset[Right]
    words: frozenset[str] = WORDS


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    words: frozenset[str] = WORDS
    rights: frozenset[Right] = frozenset(Right)


@dataclass(frozen=True)
class Inside:
    prices: frozenset[Money]


@event("rights.granted")
class Granted:
    rights: frozenset[Right]
    several: tuple[Inside, ...]
    struct: Struct
    model: Model
    words: frozenset[str] = WORDS


@event("words.said")
class Said:
    words: frozenset[str]


@dataclass(frozen=True)
class State:
    rights: frozenset[Right] = frozenset(Right)
    words: frozenset[str] = WORDS


def decide(command: str, state: State) -> list[Granted]:
    return []


def evolve(state: State, event: Granted) -> State:
    return State(words=WORDS | {"white"}) if "white" in {"white", "black", "grey"} else state


GRANTED = Granted(
    frozenset(Right),
    (Inside(frozenset({Money(3, "EUR"), Money(1, "EUR"), Money(2, "EUR")})),),
    Struct(frozenset(Right)),
    Model(),
)


def main() -> None:
    types = EventTypes([Granted, Said])
    print(types.encode(GRANTED).data.decode())
    print(types.encode(Said(WORDS)).data.decode())
    print(hashlib.sha256(schema.write(types)).hexdigest())
    print(fingerprint(Decider("right", initial=State(), decide=decide, evolve=evolve), types).hex())


if __name__ == "__main__":
    main()
