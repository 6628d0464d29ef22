"""Pulling, and settling what was pulled. A durable consumer on the server keeps each reader's place."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from everlog.adapters.nats.connection import ApiError, api
from everlog.adapters.nats.streams import MESSAGE_ID, NO_STREAM, created_at, describe
from everlog.relay.contract import BrokerUnavailable, Consumer, Delivered, Message
from everlog.relay.subjects import word

NO_CONSUMER = 10014
_NANO = 1_000_000_000
_AROUND = 64 * 1024  # subject and reply, which the server counts too
_TOO_LARGE = "Message Size Exceeds MaxBytes"
_OPEN = "Nats-Pending-Messages"  # of a pull that ended: how many of its messages it did not send
_AT_ONCE_SECONDS, _SHORTEST_SECONDS = 1.0, 0.05


class Pull:
    """One consumer on the server, made where it is missing, and the life of the stream it reads."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.name = f"{word(consumer.name)}~{consumer.log}" if consumer.log else word(consumer.name)
        self._created: int | None = None

    async def fetch(self, client: Client, stream: str, *, limit: int, max_bytes: int, wait: float) -> list[Delivered]:
        """What is there at once; else the first that comes, and what came with it."""
        if self._created is None:
            await self._make(client, stream)
        # Exactly what is there: of a request for more some would come when nobody listens any more, and one that does
        # not wait (`no_wait`) is over before a replicated consumer has agreed on what it hands out.
        there = min(limit, await self._undelivered(client, stream))
        # A message of any size that the server takes must come through, whatever is asked for.
        request = {"batch": max(1, there), "max_bytes": max(max_bytes, client.max_payload + _AROUND)}
        seconds = max(wait, _AT_ONCE_SECONDS if there else _SHORTEST_SECONDS)
        return await self._next(client, stream, {**request, "expires": int(seconds * _NANO)}, seconds + 1.0)

    async def pending(self, client: Client, stream: str) -> int:
        if self._created is None:
            await self._make(client, stream)
        found = await self._info(client, stream)
        return int(found["num_pending"]) + int(found["num_ack_pending"])

    async def _undelivered(self, client: Client, stream: str) -> int:
        return int((await self._info(client, stream))["num_pending"])

    async def _info(self, client: Client, stream: str) -> Any:
        try:
            return await api(client, f"CONSUMER.INFO.{stream}.{self.name}")
        except ApiError as error:
            self._created = None
            raise BrokerUnavailable(f"consumer {self.name} is gone: {error}") from error

    async def _make(self, client: Client, stream: str) -> None:
        config: dict[str, object] = {
            "name": self.name,
            "durable_name": self.name,
            "ack_policy": "all" if self.consumer.in_order else "explicit",
            "ack_wait": int(self.consumer.ack_seconds * _NANO),
            "max_ack_pending": self.consumer.unsettled,
            "max_deliver": -1,  # how often is for us to say
            **_beginning(self.consumer.after),
            "replay_policy": "instant",
            "filter_subjects": list(self.consumer.subjects),
        }
        if self.consumer.idle_seconds is not None:
            config["inactive_threshold"] = int(self.consumer.idle_seconds * _NANO)
        try:
            created = created_at(await describe(client, stream))
            await api(client, f"CONSUMER.CREATE.{stream}.{self.name}", {"stream_name": stream, "config": config})
        except ApiError as error:
            what = "no relay has made it yet" if error.code == NO_STREAM else str(error)
            raise BrokerUnavailable(f"stream {stream} cannot be read: {what}") from error
        self._created = created

    async def _next(self, client: Client, stream: str, request: dict[str, int], seconds: float) -> list[Delivered]:
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        found: list[Delivered] = []
        try:
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{self.name}"
            await client.publish(subject, msgspec.json.encode(request), reply=inbox)
            wanted = request["batch"]
            async with asyncio.timeout(seconds):
                while len(found) < wanted:
                    message = await subscription.next_msg(timeout=seconds)
                    told = message.headers or {}
                    if "Status" not in told:
                        found.append(self._delivered(message))
                    elif not found and told.get("Description") == _TOO_LARGE:
                        raise BrokerUnavailable(
                            f"the next message in stream {stream} is larger than {request['max_bytes']} bytes, more "
                            "than this server takes (max_payload): give it the largest that a server of the cluster has"
                        )
                    elif _OPEN in told:
                        # The end of the request, which may overtake messages that it counts as sent.
                        wanted = request["batch"] - int(told[_OPEN])
                    else:
                        self._created = None  # the consumer, or its stream, may be another one by now
                        why = told.get("Description", told["Status"])
                        raise BrokerUnavailable(f"stream {stream} cannot be read now: {why}")
        except (TimeoutError, errors.TimeoutError):
            if not found:
                self._created = None
        finally:
            await subscription.unsubscribe()
        return found

    def _delivered(self, message: Msg) -> Delivered:
        headers = dict(message.headers or {})
        id = headers.pop(MESSAGE_ID, "")
        told = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
        of = message.metadata
        assert self._created is not None
        return Delivered(
            Message(message.subject, id, told, message.data),
            sequence=of.sequence.stream,
            attempt=of.num_delivered or 1,
            pending=of.num_pending,
            created=self._created,
            token=message.reply,
            number=of.sequence.consumer,
        )


async def forget(client: Client, stream: str, name: str) -> None:
    try:
        await api(client, f"CONSUMER.DELETE.{stream}.{word(name)}")
    except ApiError as error:
        if error.code not in (NO_CONSUMER, NO_STREAM):
            raise


def _beginning(after: int) -> dict[str, object]:
    if after < 0:
        return {"deliver_policy": "new"}
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1} if after else {"deliver_policy": "all"}


async def settle(client: Client, delivered: Sequence[Delivered], word_: bytes) -> None:
    """Tell the server, and wait until it has noted it."""
    answers = [client.request(one.token, word_, timeout=60) for one in delivered]
    await asyncio.gather(*answers)


async def tell(client: Client, delivered: Sequence[Delivered], word_: bytes) -> None:
    for one in delivered:
        await client.publish(one.token, word_)
    await client.flush()
