"""A small aggregate whose state shows every event that led to it."""

from dataclasses import dataclass, replace

from everlog import Decider, Platform, Rejected, event


@event("counter.added", tags=["counter:{counter}", "by:{amount}"])
class Added:
    counter: str
    amount: int


@event("counter.renamed", tags=["counter:{counter}"])
class Renamed:
    counter: str
    name: str


@dataclass(frozen=True)
class Add:
    amount: int


@dataclass(frozen=True)
class Rename:
    name: str


@dataclass(frozen=True)
class Counter:
    total: int = 0
    amounts: tuple[int, ...] = ()
    name: str = ""


Event = Added | Renamed


def decide(command: Add | Rename, counter: Counter) -> list[Added | Renamed]:
    match command:
        case Add(amount):
            if amount < 0:
                raise Rejected("below_zero", amount=amount)
            return [Added("c", amount)] if amount else []
        case Rename(name):
            return [Renamed("c", name)] if name != counter.name else []


def evolve(counter: Counter, event: Added | Renamed) -> Counter:
    match event:
        case Added(_, amount):
            return replace(counter, total=counter.total + amount, amounts=(*counter.amounts[-4:], amount))
        case Renamed(_, name):
            return replace(counter, name=name)


counters = Decider("counter", initial=Counter(), decide=decide, evolve=evolve)

platform = Platform("memory:", counters)
