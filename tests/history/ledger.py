"""An account whose state shows every event in order, on a clock the test moves."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from everlog import Decider, Money, Platform, event
from everlog.core.clock import micros

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)


@event("account.opened", tags=["owner:{owner}"])
class Opened:
    owner: str
    city: str = ""


@event("account.booked", tags=["owner:{owner}"])
class Booked:
    owner: str
    amount: Money
    text: str = ""


@event("account.moved")
class Moved:
    city: str


@dataclass(frozen=True)
class Address:
    city: str = ""


NOTHING, NOWHERE = Money(0, "EUR"), Address()


@dataclass(frozen=True)
class Account:
    owner: str = ""
    balance: Money = NOTHING
    address: Address = NOWHERE
    texts: tuple[str, ...] = ()
    cities: frozenset[str] = frozenset()


Event = Opened | Booked | Moved


def decide(command: Opened | Booked | Moved, account: Account) -> list[Opened | Booked | Moved]:
    return [command]


def evolve(account: Account, event: Opened | Booked | Moved) -> Account:
    match event:
        case Opened(owner, city):
            return replace(account, owner=owner, address=Address(city))
        case Booked(_, amount, text):
            return replace(account, balance=account.balance + amount, texts=(*account.texts, text))
        case Moved(city):
            return replace(account, address=Address(city), cities=account.cities | {city})


accounts = Decider("account", initial=Account(), decide=decide, evolve=evolve, snapshot_every=2)

platform = Platform("memory:", accounts)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = MIDNIGHT

    def __call__(self) -> int:
        return micros(self.now)

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def hours(count: float) -> datetime:
    """So many hours after midnight."""
    return MIDNIGHT + timedelta(hours=count)
