"""The application of `test_following`: copied into the folder where the command line runs, and imported as `shop`.

What its handlers do is written in that folder: `trouble` holds a line `ORDER MESSAGE` for each order that fails,
`mails` takes a line for each mail, and while there is a pipe `gate`, whoever handles an order that begins with `slow`
waits until somebody has opened and closed it.
"""

from pathlib import Path

from everlog import (
    Backoff,
    Decider,
    Fold,
    Platform,
    Recorded,
    Retry,
    SqlProjection,
    Transaction,
    event,
    processor,
    upcast_split,
)

SOON = Retry(attempts=2, backoff=Backoff(first=0.001))


@event("order.placed", tags=["order:{order_id}"])
class Placed:
    order_id: str
    cents: int


@event("order.shipped", tags=["order:{order_id}"])
class Shipped:
    order_id: str


@upcast_split("order.sold", 1, into=[("order.placed", 1), ("order.shipped", 1)])
def sold(old: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
    return [("order.placed", old), ("order.shipped", {"order_id": old["order_id"]})]


def decide(command: str, state: str) -> list[Placed | Shipped]:
    raise NotImplementedError


def evolve(state: str, event: Placed | Shipped) -> str:
    return "placed" if isinstance(event, Placed) else "shipped"


orders = Decider("order", initial="new", decide=decide, evolve=evolve)
revenue, parcels, today = Fold("revenue", initial=0), Fold("parcels", initial=0), Fold("today", initial=0, inline=True)


@revenue.on(Placed, key=lambda e: e.data.order_id[0])
def earn(total: int, e: Recorded[Placed]) -> int:
    _meet_trouble(f"revenue/{e.data.order_id}")
    _pass_gate(f"fold-{e.data.order_id}")
    return total + e.data.cents


@parcels.on(Shipped, key=lambda e: "all")
def send(count: int, e: Recorded[Shipped]) -> int:
    return count + 1


@today.on(Placed, key=lambda e: "all")
def take(count: int, e: Recorded[Placed]) -> int:
    return count + 1


table = SqlProjection("placed-table", setup=["CREATE TABLE IF NOT EXISTS placed (id TEXT)"], tables=["placed"])


@table.on(Placed)
def insert(e: Recorded[Placed], tx: Transaction) -> None:
    tx.execute("INSERT INTO placed VALUES (?)", (e.data.order_id,))


@processor("mail", on=Shipped, retry=SOON, max_lanes=3)
def mail(e: Recorded[Shipped]) -> None:
    _meet_trouble(e.data.order_id)
    _pass_gate(e.data.order_id)
    with Path("mails").open("a") as mails:
        mails.write(f"{e.position} {e.tenant} {e.data.order_id}\n")


@processor("ledger", on=Placed, retry=SOON)
def ledger(e: Recorded[Placed]) -> None:
    _meet_trouble(f"ledger/{e.data.order_id}")


def _meet_trouble(order_id: str) -> None:
    for line in Path("trouble").read_text().splitlines():
        failing, _, message = line.partition(" ")
        if failing == order_id:
            raise ValueError(message)


def _pass_gate(order_id: str) -> None:
    if order_id.startswith(("slow", "fold-slow")) and Path("gate").exists():
        Path("gate").read_text()


platform = Platform("sqlite:///shop.db", orders, sold, revenue, parcels, table, mail, ledger)
# What `today` would put in force keeps everybody else from appending, tests too.
with_today = Platform("sqlite:///shop.db", orders, sold, today)
