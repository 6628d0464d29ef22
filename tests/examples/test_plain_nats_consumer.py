"""A consumer that knows nats-py and CloudEvents, and nothing of everlog."""

import ast
import asyncio
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from everlog import Platform, Relay, event
from examples import plain_nats_consumer
from examples.plain_nats_consumer import add, revenue
from tests.following.parts import LEASE, eventually
from tests.nats.server import nats_server


@event("order.placed")
class Placed:
    order_id: str
    cents: int


def test_it_reads_what_a_relay_sends(tmp_path: Path) -> None:
    platform = Platform(f"sqlite:///{tmp_path}/shop.db", Relay("orders-out", types=[Placed], compare_every=0.2))
    with (
        nats_server() as cluster,
        platform.open(worker=True, relays_to=cluster.url("EVENTS"), lease_seconds=LEASE) as log,
    ):
        for number in range(1, 21):
            tenant = log.tenant("acme" if number % 2 else "globex")
            tenant.append(f"order-{number % 3}", Placed(str(number), number))
        eventually(lambda: [lag.events for lag in log.lags()] == [0])
        found = asyncio.run(revenue(cluster.servers[0], "EVENTS", "orders-out.>"))
        assert found == {"acme": 100, "globex": 110}


def test_it_passes_over_what_it_has_seen() -> None:
    totals: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = {}
    for version in (1, 2, 2, 1, 3):
        headers = {
            "ce-tenantid": "acme",
            "ce-subject": "order-1",
            "ce-sequence": str(version),
            "ce-type": "order.placed",
        }
        add(totals, seen, Msg(Client(), data=b'{"cents":5}', headers=headers))
    assert totals == {"acme": 15}


def test_it_imports_nothing_of_everlog() -> None:
    tree = ast.parse(Path(plain_nats_consumer.__file__).read_text())
    names = {
        name
        for node in ast.walk(tree)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else
            [one.name for one in node.names] if isinstance(node, ast.Import) else []
        )
    }  # fmt: skip
    assert not any(name.startswith("everlog") for name in names)
