"""`Broker` on NATS JetStream."""

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from nats.aio.client import Client

from everlog.adapters.nats.connection import ApiError, Connection
from everlog.adapters.nats.dead import bury, letters, resend
from everlog.adapters.nats.receiving import Pull, forget, settle, tell
from everlog.adapters.nats.sending import batches, cut, publish
from everlog.adapters.nats.settings import NatsSettings
from everlog.adapters.nats.streams import describe, held, holding, kept, risks
from everlog.relay.contract import (
    BrokerMoved,
    BrokerUnavailable,
    Consumer,
    DeadLetter,
    Delivered,
    Held,
    Holding,
    Message,
)

T = TypeVar("T")

_LOOK_AGAIN_SECONDS = 300.0
_FOR_EVER = 30 * 24 * 3600.0


class NatsBroker:
    """One stream of one NATS server or cluster."""

    def __init__(self, settings: NatsSettings) -> None:
        self.settings = settings
        self._connection = Connection(settings)
        self._pulls: dict[Consumer, Pull] = {}
        self._risks: tuple[float, tuple[str, ...]] | None = None
        self._looked: dict[str, Client] = {}  # by prefix: over which connection it was asked last what is held

    def holds(self, prefix: str) -> Holding:
        found = self._run(lambda client: self._look(client, prefix))
        return found._replace(warnings=self._warnings())

    def publish_batch(self, prefix: str, messages: Sequence[Message], *, after: int) -> int:
        for batch in batches(messages):
            after = self._publish(prefix, batch, after)
        return after

    def held(self, prefix: str, after: int) -> Held | None:
        which = {"seq": after + 1, "next_by_subj": f"{prefix}.>"}
        return self._run(lambda client: held(client, self.settings.stream, which))

    def cut(self, prefix: str, after: int) -> None:
        self._run(lambda client: cut(client, self.settings.stream, prefix, after), timeout=_FOR_EVER)

    def fetch(self, consumer: Consumer, *, limit: int, max_bytes: int, wait: float) -> list[Delivered]:
        pull = self._pull(consumer)
        return self._run(
            lambda client: pull.fetch(client, self.settings.stream, limit=limit, max_bytes=max_bytes, wait=wait),
            timeout=self.settings.timeout + wait,  # less than a lease, which nobody renews meanwhile
        )

    def kept(self, prefix: str) -> Holding:
        return self._run(lambda client: kept(client, self.settings, prefix))

    def forget(self, name: str) -> None:
        for consumer in [one for one in list(self._pulls) if one.name == name]:
            del self._pulls[consumer]
        self._run(lambda client: forget(client, self.settings.stream, name))

    def ack(self, delivered: Sequence[Delivered]) -> None:
        self._run(lambda client: settle(client, delivered, b"+ACK"))

    def extend(self, delivered: Sequence[Delivered]) -> None:
        self._run(lambda client: tell(client, delivered, b"+WPI"))

    def retry(self, delivered: Delivered, delay: float) -> None:
        # Said in the message itself: a bare refusal comes back at once, whatever the consumer's own back-off says.
        told = b'-NAK {"delay": %d}' % int(delay * 1_000_000_000)
        self._run(lambda client: tell(client, [delivered], told))

    def dead_letter(self, consumer: Consumer, delivered: Delivered, reason: str) -> None:
        self._run(lambda client: bury(client, self.settings, consumer, delivered, reason))
        self._run(lambda client: settle(client, [delivered], b"+TERM"))

    def dead_letters(self, consumer: str | None = None, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        return self._run(lambda client: letters(client, self.settings, consumer, after, limit))

    def resend(self, letter: DeadLetter) -> None:
        self._run(lambda client: resend(client, self.settings, letter))

    def pending(self, consumer: Consumer) -> int:
        pull = self._pull(consumer)
        return self._run(lambda client: pull.pending(client, self.settings.stream))

    def close(self) -> None:
        self._connection.close()

    async def _look(self, client: Client, prefix: str) -> Holding:
        found = await holding(client, self.settings, prefix)
        self._looked[prefix] = client
        return found

    def _publish(self, prefix: str, batch: Sequence[Message], after: int) -> int:
        return self._run(lambda client: self._send(client, prefix, batch, after))

    async def _send(self, client: Client, prefix: str, batch: Sequence[Message], after: int) -> int:
        # A sequence is a fence in one life of the stream, and while a connection was away another may have begun.
        if self._looked.get(prefix, client) is not client:
            raise BrokerMoved("the connection is a new one: what the broker holds is to be looked at first")
        return await publish(client, self.settings.stream, prefix, batch, after)

    def _pull(self, consumer: Consumer) -> Pull:
        return self._pulls.setdefault(consumer, Pull(consumer))

    def _warnings(self) -> tuple[str, ...]:
        """Looked at now and then: it costs a request to every server."""
        now = time.monotonic()
        if self._risks is None or now - self._risks[0] > _LOOK_AGAIN_SECONDS:
            stream = self._run(lambda client: describe(client, self.settings.stream))
            self._risks = now, risks(self.settings, stream)
        return self._risks[1]

    def _run(self, work: Callable[[Client], Coroutine[Any, Any, T]], *, timeout: float | None = None) -> T:
        try:
            return self._connection.run(work, timeout=timeout)
        except ApiError as error:
            raise BrokerUnavailable(f"JetStream refused a request about {self.settings.stream}: {error}") from error
