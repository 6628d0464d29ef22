"""What everlog needs of a message broker: one that keeps messages in order, and hands them out until they are acked.

Retry, delay and dead letters are in our words, because brokers differ in theirs. Every call blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from everlog.core.errors import EverlogError


class BrokerUnavailable(EverlogError):
    """The broker cannot serve now, or did not answer: what was asked may or may not have happened."""

    code = "broker_unavailable"
    retryable = True


class BrokerMoved(BrokerUnavailable):
    """The broker holds other messages than the sender believed, and kept none of these: compare, then go on."""

    code = "broker_moved"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. `id` is the same each time the same thing is sent: receivers drop what they have seen."""

    subject: str
    id: str
    headers: Mapping[str, str]
    body: bytes


class Held(NamedTuple):
    """One message as the broker keeps it, and at which sequence of its stream."""

    sequence: int
    message: Message


class Holding(NamedTuple):
    """What the broker holds below one prefix of subjects.

    `created` tells one life of the broker's stream from the next. `forgets` says that it lets old messages go by
    itself, so that a missing one is no damage. `warnings` are settings that may lose what was acknowledged.
    """

    stream: str
    created: int
    messages: int
    last: Held | None
    forgets: bool
    warnings: tuple[str, ...] = ()


class Sender(Protocol):
    """What the relay needs. `prefix` is the first word of its subjects, in which nobody else publishes."""

    def holds(self, prefix: str) -> Holding:
        """What is there now, making the stream where it is missing. Raises `Misconfigured` for one that cannot do."""
        ...

    def publish_batch(self, prefix: str, messages: Sequence[Message], *, after: int) -> int:
        """Store them in this order behind sequence `after`, the last below `prefix` (0: none); gives the new last.

        Raises `BrokerMoved` when another one is the last. After `BrokerUnavailable` some of the first may be stored
        all the same: `holds` tells.
        """
        ...

    def held(self, prefix: str, after: int) -> Held | None:
        """The first message below `prefix` with a sequence greater than `after`."""
        ...

    def cut(self, prefix: str, after: int) -> None:
        """Remove every message below `prefix` with a sequence greater than `after`."""
        ...


@dataclass(frozen=True, slots=True)
class Consumer:
    """A named reader of some subjects, whose place the broker keeps. `*` stands for one word, `>` for all that follow.

    A message that is neither settled nor `extend`ed within `ack_seconds` is handed out again; so many may be unsettled.
    The first `fetch` makes it, to begin behind the sequence `after` (-1: with what is sent from then on). With
    `idle_seconds` the broker deletes it when nobody has fetched for so long; else only `forget` does. Where it settles
    `in_order`, what is acked settles all that was handed out before it. Of two that read for different logs, by their
    ids, each has a place of its own whatever their names.
    """

    name: str
    subjects: tuple[str, ...]
    ack_seconds: float = 30.0
    unsettled: int = 1000
    after: int = 0
    idle_seconds: float | None = None
    in_order: bool = False
    log: str = ""


class Delivered(NamedTuple):
    """A message as received. `attempt` is 1 the first time; `created` as in `Holding`; `token` is the broker's own.

    `number` counts what was handed out by this consumer, again or not, from 1: a hole says that a delivery was lost
    on its way here, or went to somebody else (JetStream's consumer sequence).
    """

    message: Message
    sequence: int
    attempt: int
    pending: int
    created: int
    token: Any
    number: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a consumer gave up, why, and its sequence in the dead-letter stream and in its own.

    `log` is the id of the log it was read for, where the consumer had one.
    """

    message: Message
    consumer: str
    log: str
    reason: str
    sequence: int
    original: int


class Receiver(Protocol):
    """What a consumer needs. All deliveries of one call belong to one consumer."""

    def fetch(self, consumer: Consumer, *, limit: int, max_bytes: int, wait: float) -> list[Delivered]:
        """Up to so many messages in the order of their sequence, as soon as there is one; none after `wait` seconds."""
        ...

    def kept(self, prefix: str) -> Holding:
        """What is there now of a relay's messages. Raises `BrokerUnavailable` where no relay sends them to this stream:
        who reads makes no stream, or a wrong name would.
        """
        ...

    def forget(self, name: str) -> None:
        """Delete the consumer of this name, so that nobody fetches from it any more; none there is fine."""
        ...

    def ack(self, delivered: Sequence[Delivered]) -> None:
        """They are done. Returns when the broker has noted it; raises `BrokerUnavailable` if that is not known."""
        ...

    def extend(self, delivered: Sequence[Delivered]) -> None:
        """They are still being worked on: their `ack_seconds` begin anew."""
        ...

    def retry(self, delivered: Delivered, delay: float) -> None:
        """Hand it out again in `delay` seconds; what lies behind it is not held up."""
        ...

    def dead_letter(self, consumer: Consumer, delivered: Delivered, reason: str) -> None:
        """Keep a copy with the reason, then never hand it out again; a crash between leaves one copy, not two."""
        ...

    def dead_letters(self, consumer: str | None = None, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Those that were given up, by consumers of one name or by all, oldest first, behind the letter's sequence
        `after`."""
        ...

    def resend(self, letter: DeadLetter) -> None:
        """Send its message to its subject once more, then delete the letter; a crash between may lead to two.

        Raises `BrokerUnavailable`, and `NotFound` where no stream of the broker keeps that subject now.
        """
        ...

    def pending(self, consumer: Consumer) -> int:
        """How many messages it has not settled, delivered or not."""
        ...


class Broker(Sender, Receiver, Protocol):
    """One connection to a broker, usable from any thread."""

    def close(self) -> None:
        """Let go of the connection; closing twice is fine."""
        ...
