"""What these tests send and receive: a log's copy at a broker, written as a relay would, and as it should not be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import urlsplit

import msgspec
import nats

from everlog import Log, Platform, Processor, Recorded, processor
from everlog.app.brokers import open_broker
from everlog.core.envelope import StoredEvent
from everlog.core.ids import derived_id
from everlog.processing.processor import Options
from everlog.relay.cloudevents import message
from everlog.relay.contract import Broker, Message
from everlog.relay.subjects import Address, subject
from tests.following.parts import Counted, eventually, on_both, progress_of, rows

__all__ = ["KEYS", "Copy", "Counted", "Seen", "events", "eventually", "on_both", "progress_of", "rows", "stored"]

SOURCE = "everlog:tests"
_sendings = itertools.count()
TENANT = "acme"
KEYS = ("a", "b", "c")


def stored(position: int, key: str, n: int = 1) -> StoredEvent:
    """An event of a log that nobody has."""
    data = msgspec.json.encode({"key": key, "n": n})
    id = derived_id(TENANT, position, key)
    at = 1_700_000_000_000_000 + position
    return StoredEvent(
        position, TENANT, f"tally-{key}", position, id, "tally.counted", 1, at, at, "ann", None, None, data, None
    )


def events(first: int, last: int) -> list[StoredEvent]:
    """Of three keys in turn."""
    return [stored(position, KEYS[position % 3]) for position in range(first, last + 1)]


class Copy:
    """A stream, and a relay's subjects in it. `send` does what a relay does; with what it is told."""

    def __init__(self, url: str, broker: Broker) -> None:
        self.url, self.broker = url, broker
        self.relay = urlsplit(url).path.strip("/").lower()  # no two streams of a server may keep one subject

    @classmethod
    def at(cls, url: str) -> Copy:
        return cls(url, open_broker(url))

    def send(self, events: Iterable[StoredEvent], *, incarnation: int = 1, source: str = SOURCE) -> int:
        """Behind what is there; gives the last sequence."""
        return self.send_messages([self.message(one, incarnation, source) for one in events])

    def send_messages(self, messages: Sequence[Message]) -> int:
        last = self.broker.holds(self.relay).last
        return self.broker.publish_batch(self.relay, messages, after=0 if last is None else last.sequence)

    def message(self, event: StoredEvent, incarnation: int = 1, source: str = SOURCE) -> Message:
        address = Address(self.relay, event.tenant, "tally", event.type)
        made = message(event, subject(address), source=source, incarnation=incarnation)
        # The broker's window is over long before a relay sends something again; here it would not be.
        return replace(made, id=f"{made.id} {next(_sendings)}")

    def count(self) -> int:
        return self.broker.holds(self.relay).messages

    def cut(self, after: int) -> None:
        self.broker.cut(self.relay, after)

    def delete_stream(self) -> None:
        """As an operator might, or a disk that died."""

        async def delete() -> None:
            client = await nats.connect(servers)
            await client.jetstream().delete_stream(stream)
            await client.close()

        parts = urlsplit(self.url)
        servers, stream = [f"nats://{host}" for host in parts.netloc.split(",")], parts.path.strip("/")
        asyncio.run(delete())

    def fed(self, platform: Platform, store: str, *, lease: float = 0.4, **more: Any) -> Log:
        """An open log whose worker is fed from here."""
        return platform.open(store, worker=True, fed_from=self.url, relay=self.relay, lease_seconds=lease, **more)

    def close(self) -> None:
        self.broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Seen:
    """A processor that notes which events it was given."""

    def __init__(self, name: str = "seen") -> None:
        self.name = name
        self._seen: list[tuple[str, int]] = []

    def processor(
        self, handle: Callable[[Recorded[Counted]], None] = lambda e: None, **options: Unpack[Options]
    ) -> Processor[Counted]:
        """`handle` runs first, and may raise."""

        @processor(self.name, on=Counted, **options)
        def note(e: Recorded[Counted]) -> None:
            handle(e)
            self._seen.append((e.data.key, e.position))

        return note

    @property
    def positions(self) -> list[int]:
        return [position for _, position in self._seen]

    def of(self, key: str) -> list[int]:
        return [position for one, position in self._seen if one == key]

    def until(self, count: int) -> None:
        eventually(lambda: len(self._seen) >= count)
