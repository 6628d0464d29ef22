"""Messages that a consumer gave up, kept in a stream beside: one subject a letter, so that none is there twice."""

from nats import errors
from nats.aio.client import Client

from everlog.adapters.nats.connection import ApiError, api, checked
from everlog.adapters.nats.settings import NatsSettings
from everlog.adapters.nats.streams import NO_STREAM, describe, ensure_stream, held
from everlog.core.errors import NotFound
from everlog.relay.contract import BrokerUnavailable, Consumer, DeadLetter, Delivered
from everlog.relay.subjects import name_of, word

_THERE = (10070, 10071, 10164)
_NO_LOG, _NO_LETTER = "-", 10043
_REASON, _OF, _SUBJECT = "Everlog-Reason", "Everlog-Of", "Everlog-Subject"


def stream_of(settings: NatsSettings) -> str:
    return f"{settings.stream}-dead"


async def bury(client: Client, settings: NatsSettings, consumer: Consumer, letter: Delivered, reason: str) -> None:
    """Returns when it is kept."""
    stream, message = stream_of(settings), letter.message
    await ensure_stream(client, settings, stream, f"{stream}.>")
    subject = f"{stream}.{word(consumer.name)}.{consumer.log or _NO_LOG}.{letter.created}.{letter.sequence}"
    headers = {
        **message.headers,
        _REASON: " ".join(reason.split())[:2000] or "no reason given",
        _OF: message.id or "-",
        _SUBJECT: message.subject,
        "Nats-Expected-Last-Subject-Sequence": "0",
    }
    answer = await client.request(subject, message.body, timeout=60, headers=headers)
    try:
        checked(answer.data)
    except ApiError as error:
        if error.code not in _THERE:
            raise BrokerUnavailable(f"stream {stream} refused a dead letter: {error}") from error


async def resend(client: Client, settings: NatsSettings, letter: DeadLetter) -> None:
    """Without the id it had at the broker, which within its window would take it for the first one and drop it."""
    stream, message = stream_of(settings), letter.message
    try:
        answer = await client.request(message.subject, message.body, timeout=60, headers=dict(message.headers))
    except errors.NoRespondersError as error:
        raise NotFound(f"no stream of the broker keeps {message.subject} now: add it to one") from error
    try:
        checked(answer.data)
        await api(client, f"STREAM.MSG.DELETE.{stream}", {"seq": letter.sequence, "no_erase": True})
    except ApiError as error:
        if error.code != _NO_LETTER:  # else somebody was quicker
            raise BrokerUnavailable(f"letter {letter.sequence} in {stream} cannot be sent again: {error}") from error


async def letters(
    client: Client, settings: NatsSettings, consumer: str | None, after: int, limit: int
) -> list[DeadLetter]:
    stream, found, at = stream_of(settings), list[DeadLetter](), after
    subject = f"{stream}.>" if consumer is None else f"{stream}.{word(consumer)}.>"
    try:
        await describe(client, stream)
    except ApiError as error:
        if error.code == NO_STREAM:
            return []
        raise
    while len(found) < limit:
        letter = await held(client, stream, {"seq": at + 1, "next_by_subj": subject})
        if letter is None:
            break
        at = letter.sequence
        headers = dict(letter.message.headers)
        reason, id = headers.pop(_REASON, ""), headers.pop(_OF, "")
        _, reader, log, _, original = letter.message.subject.split(".")
        told = type(letter.message)(headers.pop(_SUBJECT, ""), "" if id == "-" else id, headers, letter.message.body)
        found.append(DeadLetter(told, name_of(reader), "" if log == _NO_LOG else log, reason, at, int(original)))
    return found
