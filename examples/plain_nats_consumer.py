"""Reads the events that a relay sends, with nats-py and nothing of everlog: `python plain_nats_consumer.py URL STREAM`.

The messages are CloudEvents in binary mode: attributes in `ce-` headers, the event's JSON in the body. A consumer gets
each at least once and, of one stream of the log, in order. So it remembers how far it has come with each, and passes
over what it has seen; here in a dict, in earnest in the database that it writes to, in the same transaction.
"""

import asyncio
import json
import sys
from urllib.parse import unquote

import nats
from nats.aio.msg import Msg

Place = tuple[str, str]
"""Tenant and stream."""


async def revenue(server: str, stream: str, subjects: str, *, patience: float = 1.0) -> dict[str, int]:
    """Cents by tenant, of all orders placed; returns when nothing more has come for so many seconds."""
    client = await nats.connect(server)
    try:
        pull = await client.jetstream().pull_subscribe(subjects, durable="revenue", stream=stream)
        totals: dict[str, int] = {}
        seen: dict[Place, int] = {}
        while True:
            try:
                messages = await pull.fetch(100, timeout=patience)
            except TimeoutError:  # of nats-py, or of asyncio: it raises either
                return totals
            for message in messages:
                add(totals, seen, message)
                await message.ack()
    finally:
        await client.close()


def add(totals: dict[str, int], seen: dict[Place, int], message: Msg) -> None:
    told = {name.lower(): unquote(value) for name, value in (message.headers or {}).items()}
    place, version = (told["ce-tenantid"], told["ce-subject"]), int(told["ce-sequence"])
    if version <= seen.get(place, 0):
        return
    seen[place] = version
    if told["ce-type"] == "order.placed":
        order = json.loads(message.data)
        totals[place[0]] = totals.get(place[0], 0) + order["cents"]


if __name__ == "__main__":
    for tenant, cents in asyncio.run(revenue(sys.argv[1], sys.argv[2], "orders-out.>")).items():
        print(f"{tenant}: {cents}")
