"""A NATS stream as the broker. nats-py speaks asyncio, and runs on one thread of its own behind our blocking calls."""

from everlog.adapters.nats.broker import NatsBroker
from everlog.adapters.nats.settings import NatsSettings

__all__ = ["NatsBroker", "NatsSettings"]
