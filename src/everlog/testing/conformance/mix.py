"""A log full of everything reads can ask for, and the plain loop that says what they must answer."""

import json
from dataclasses import dataclass
from random import Random

from everlog.core.envelope import NewEvent, StoredEvent
from everlog.core.names import category_of
from everlog.store.contract import Release, Store
from everlog.store.query import Filter
from everlog.testing.conformance.events import SettableClock, append, everything, new_event

EVENTS = 2600
TENANTS = ("acme", "acme-2", "globex")
STREAMS = ("order-1", "order-2", "order", "orders-1", "order.item-1", "order_x-1", "ord-1", "cart-1")
TYPES = ("order.placed", "order_placed", "order.shipped", "Order.Placed", "rare")
TAGS = ("all", "al", "paid", "seat:A1", "seat:%", "seat:_1")
ACTORS = (None, "ann", "bob", "ANN")
IDS = (None, bytes(16), b"\x01" * 16, b"\xff" * 16)
IPS = ("10.0.0.1", "10.0.0.10", "::1")
AGENTS = ("curl/8", 'a "quoted" agent', "ünïcode")


@dataclass(frozen=True, slots=True)
class Row:
    stored: StoredEvent
    tags: frozenset[str]
    ip: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Mix:
    store: Store
    rows: list[Row]

    def expected(
        self, where: Filter, after: int = 0, upto: int | None = None, *, backwards: bool, limit: int | None = None
    ) -> list[StoredEvent]:
        """What `read` must give, found by looking at every event."""
        last = len(self.rows) if upto is None else upto
        found = [row.stored for row in self.rows if after < row.stored.position <= last and holds(where, row)]
        return (found[::-1] if backwards else found)[:limit]


def filled(store: Store, clock: SettableClock) -> Mix:
    """Append the mix in batches of many sizes, let some payloads go, and read it all back."""
    random = Random(1)
    given: list[NewEvent] = []
    while len(given) < EVENTS:
        clock.now += random.choice((0, 1, 1000, 60_000_000, -5_000_000))
        batch = [_some_event(random, clock.now) for _ in range(random.randint(1, 60))]
        append(store, *batch, tenant=random.choice((TENANTS[0],) * 4 + TENANTS[1:]))
        given += batch
    store.release(Release(tuple(range(7, len(given), 31)), "archive", "part of the mix"))
    return Mix(store, [_row(new, stored) for new, stored in zip(given, everything(store), strict=True)])


def _some_event(random: Random, now: int) -> NewEvent:
    client = {"ip": random.choice(IPS), "user_agent": random.choice(AGENTS)}
    return new_event(
        random.choice(STREAMS[:1] * 12 + STREAMS),
        random.choice(TYPES[:1] * 8 + TYPES[1:]),
        json.dumps({"n": random.randint(0, 99)}).encode(),
        schema_version=random.choice((1, 1, 1, 2, 3)),
        tags=("all",) * (random.random() < 0.9) + tuple(random.sample(TAGS[1:], random.choice((0, 0, 1, 2)))),
        occurred_at=random.choice((None, now - random.randint(0, 10**8), random.randint(0, 5))),
        actor=random.choice((*ACTORS, "ann", "ann", "ann", "ann")),
        correlation_id=random.choice((*IDS, bytes(16), bytes(16), bytes(16))),
        causation_id=random.choice(IDS),
        client=random.choice((None, json.dumps(client).encode())),
    )


def _row(new: NewEvent, stored: StoredEvent) -> Row:
    # Released bytes take ip and user agent with them, so nothing can be found by those any more.
    client = json.loads(stored.client) if stored.client is not None else {}
    return Row(stored, frozenset(new.tags), client.get("ip"), client.get("user_agent"))


def some_filter(random: Random, mix: Mix) -> Filter:
    """Any conditions together, mostly few of them; the more, the less they find."""

    def maybe(*choices: object) -> object:
        return random.choice(choices) if random.random() < share else None

    share = random.choice((0.05, 0.15, 0.3))
    times = [random.choice(mix.rows).stored for _ in range(4)]
    types = random.sample(TYPES, random.choice((1, 1, 2, 3))) if random.random() < share else []
    some: dict[str, object] = {
        "stream": maybe(*STREAMS, "unknown-1"),
        "category": maybe("order", "orders", "order.item", "order_x", "ord", "or", "order-1", ""),
        "types": tuple((name, random.choice((None, None, 1, 2))) for name in types),
        "tags": tuple(random.sample(TAGS, random.choice((1, 1, 2)))) if random.random() < share else (),
        "actor": maybe("ann", "bob", "ANN", "a%"),
        "correlation_id": maybe(*IDS[1:], b"\x02" * 16),
        "causation_id": maybe(*IDS[1:]),
        "ip": maybe(*IPS, "10.0.0.%"),
        "user_agent": maybe(*AGENTS),
        "occurred_since": maybe(times[0].occurred_at, 3),
        "occurred_until": maybe(times[1].occurred_at, 3),
        "recorded_since": maybe(times[2].recorded_at, times[2].recorded_at + 1),
        "recorded_until": maybe(times[3].recorded_at, times[3].recorded_at - 1),
    }
    return Filter(random.choice((None, *TENANTS, TENANTS[0], "nobody")), **some)  # type: ignore[arg-type]


def holds(where: Filter, row: Row) -> bool:
    """`Filter` as its docstring says it, one condition a line."""
    event = row.stored
    return (
        where.tenant in (None, event.tenant)
        and where.stream in (None, event.stream)
        and where.category in (None, category_of(event.stream))
        and (not where.types or not {(event.type, None), (event.type, event.schema_version)}.isdisjoint(where.types))
        and row.tags.issuperset(where.tags)
        and where.actor in (None, event.actor)
        and where.correlation_id in (None, event.correlation_id)
        and where.causation_id in (None, event.causation_id)
        and where.ip in (None, row.ip)
        and where.user_agent in (None, row.user_agent)
        and (where.occurred_since is None or event.occurred_at >= where.occurred_since)
        and (where.occurred_until is None or event.occurred_at <= where.occurred_until)
        and (where.recorded_since is None or event.recorded_at >= where.recorded_since)
        and (where.recorded_until is None or event.recorded_at <= where.recorded_until)
    )
