"""Writing behind a fence: batches that are stored whole or not at all, and only behind the message we believe last."""

import uuid
from collections.abc import Iterator, Sequence

from nats.aio.client import Client

from everlog.adapters.nats.connection import ApiError, api, checked
from everlog.adapters.nats.streams import MESSAGE_ID, NO_STREAM, held
from everlog.core.errors import Misconfigured
from everlog.relay.contract import BrokerMoved, BrokerUnavailable, Message

BATCH, BATCH_BYTES = 500, 4 * 1024 * 1024
_WRONG_SEQUENCE, _DUPLICATE = (10070, 10071, 10164), 10201
_AFTER, _AFTER_OF = "Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Last-Subject-Sequence-Subject"
_OUR_HEADERS = 512  # at most, of the fence, the batch and the id
_ID, _NUMBER, _COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"


def batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """So many, or so many bytes, at a time."""
    batch: list[Message] = []
    weight = 0
    for message in messages:
        if batch and (len(batch) == BATCH or weight + len(message.body) > BATCH_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(message)
        weight += len(message.body)
    if batch:
        yield batch


async def publish(client: Client, stream: str, prefix: str, batch: Sequence[Message], after: int) -> int:
    """One batch. The first message carries the fence, the last one the commit, which alone is answered."""
    for message in batch:
        _check_size(client, message)
    batch_id = uuid.uuid4().hex
    for number, message in enumerate(batch, 1):
        headers = {**message.headers, MESSAGE_ID: message.id}
        if number == 1:
            headers |= {_AFTER: str(after), _AFTER_OF: f"{prefix}.>"}
        if len(batch) > 1:
            headers |= {_ID: batch_id, _NUMBER: str(number)}
        if number < len(batch):
            await client.publish(message.subject, message.body, headers=headers)
    if len(batch) > 1:
        headers[_COMMIT] = "1"
    answer = await client.request(message.subject, message.body, timeout=60, headers=headers)
    try:
        stored = checked(answer.data)
    except ApiError as error:
        if error.code in _WRONG_SEQUENCE:
            raise BrokerMoved(f"stream {stream} holds another last message below {prefix} than {after}") from error
        if error.code == _DUPLICATE:
            raise _again(stream) from error
        raise BrokerUnavailable(f"stream {stream} refused a batch: {error}") from error
    if stored.get("duplicate"):
        raise _again(stream)
    return int(stored["seq"])


def _check_size(client: Client, message: Message) -> None:
    """Before anything of the batch is sent: the server would only end the connection."""
    size = len(message.body) + sum(len(f"{name}: {value}\r\n".encode()) for name, value in message.headers.items())
    if size + _OUR_HEADERS > client.max_payload:
        position = message.headers.get("ce-position")
        what = message.id if position is None else f"{message.id}, the event at position {position},"
        raise Misconfigured(
            f"message {what} has {size:,} bytes, and the broker takes "
            f"{client.max_payload - _OUR_HEADERS:,}: raise max_payload in its configuration, or let a transform send "
            "less of such events"
        )


def _again(stream: str) -> BrokerUnavailable:
    """What is sent again on purpose was removed before; the server's memory of ids is longer than its store's."""
    return BrokerUnavailable(
        f"stream {stream} keeps nothing twice within its duplicate window, also what was removed: the relay waits for "
        f"its end, and `nats stream edit {stream} --dupe-window 100ms` makes that short"
    )


async def cut(client: Client, stream: str, prefix: str, after: int) -> None:
    """From the end, so that what is left is the beginning of what was there, wherever this is cut off.

    All of it goes at once, with what somebody may be sending: a message that nothing precedes would be out of order.
    """
    subject = f"{prefix}.>"
    try:
        if after == 0:
            await api(client, f"STREAM.PURGE.{stream}", {"filter": subject})
            return
        while (last := await held(client, stream, {"last_by_subj": subject})) and last.sequence > after:
            await api(client, f"STREAM.MSG.DELETE.{stream}", {"seq": last.sequence, "no_erase": True})
    except ApiError as error:
        if error.code != NO_STREAM:
            raise
