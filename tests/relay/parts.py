"""What these tests relay, and the one judge: does the broker hold what the log says, in order, each once?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

from everlog import ALL, Log, Platform, Relay, event
from everlog.core.errors import InvalidInput
from everlog.relay.cloudevents import Received, read, received
from everlog.relay.contract import Broker, BrokerUnavailable, Consumer, Held, Sender
from everlog.relay.routing import Outgoing, relayed
from everlog.relay.run import source_of
from everlog.subscription.contract import Progress
from tests.following.parts import Counted, Noted, eventually, on_both, progress_of

__all__ = [
    "ALL",
    "Counted",
    "Noted",
    "counted",
    "eventually",
    "everything",
    "held",
    "is_whole",
    "last_sequence",
    "on_both",
    "progress_of",
    "relay_of",
    "shop",
    "whole",
]

COMPARE = 0.2  # seconds between two looks at the broker, for tests that wait for one


@event("order.placed", tags=["order:{order_id}", "size:{size}"])
class Placed:
    order_id: str
    size: str


def relay_of(prefix: str, **options: Any) -> Relay:
    return Relay("out", **{"types": ALL, "prefix": prefix, "compare_every": COMPARE, **options})


def shop(url: str, *parts: Any) -> Platform:
    return Platform(url, Counted, Noted, *parts)


def counted(log: Log, numbers: Sequence[int], *, keys: int = 5, tenant: str = "acme") -> None:
    """Events of some keys in turn, each in the stream of its key."""
    session = log.tenant(tenant)
    for number in numbers:
        key = f"k{number % keys}"
        session.append(f"tally-{key}", Counted(key, number))


_judges = itertools.count()


def everything(broker: Broker, prefix: str) -> list[Held]:
    """All that the broker holds below a prefix, in the order of its stream, read as a new consumer reads it."""
    judge = Consumer(f"judge{os.getpid()}-{next(_judges)}", (f"{prefix}.>",), unsettled=1_000_000)
    found: list[Held] = []
    messages = broker.holds(prefix).messages
    while len(found) < messages and (page := broker.fetch(judge, limit=1000, max_bytes=2**24, wait=1)):
        found += [Held(one.sequence, one.message) for one in page]
    broker.forget(judge.name)
    return found


def last_sequence(broker: Sender, prefix: str) -> int:
    """Of what the broker holds below a prefix; 0: nothing."""
    last = broker.holds(prefix).last
    return 0 if last is None else last.sequence


def held(broker: Broker, prefix: str) -> list[Received]:
    return [received(read(one.message)) for one in everything(broker, prefix)]


def is_whole(log: Log, platform: Platform, broker: Broker) -> str:
    """Why the broker's content is not what the log's events give, in order, each once; empty when it is."""
    [relay] = platform.relays
    head = log.head()
    outgoing = Outgoing(relay, platform.types, source=source_of(head.log_id), incarnation=head.incarnation)
    where = relayed(relay, platform.types)
    wanted = (message for stored in log.store.read(where) for _, message in outgoing.messages(stored))
    try:
        found = iter(everything(broker, relay.word))
        for number, message in enumerate(wanted):
            one = next(found, None)
            if one is None:
                return f"message {number}, {message.id}, is missing at the end"
            if (one.message.subject, one.message.id, one.message.body) != (message.subject, message.id, message.body):
                return f"message {number} is {one.message.id} at {one.sequence}, not {message.id}"
        surplus = next(found, None)
    except (BrokerUnavailable, InvalidInput) as error:
        return str(error)
    return "" if surplus is None else f"{surplus.message.id} at {surplus.sequence} is one too many"


def whole(log: Log, platform: Platform, broker: Broker, *, seconds: float = 30.0) -> None:
    """Wait until the broker has come to hold exactly what it should."""
    reasons = [""]

    def settled() -> bool:
        known: Progress | None = next(iter(log.store.checkpoints.progress()), None)
        if known is None or known.position < log.head().position:
            return False
        reasons[0] = is_whole(log, platform, broker)
        return not reasons[0]

    try:
        eventually(settled, seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{reasons[0] or 'the relay has not come to the head'}; {log.store}") from error
