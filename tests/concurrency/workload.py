"""Clients that fight over streams and write down what they saw.

A client is a generator of calls, so threads and tasks run the same one. It reads a version and appends under it,
appends under nothing, asks again for what it asked before, asks for what every other client asks for too, and reads.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Protocol

from everlog.core.envelope import Append, Appended, NewEvent
from everlog.core.errors import EverlogError, OutcomeUnknown, WrongExpectedVersion
from everlog.core.expect import Exactly
from everlog.core.ids import derived_id
from everlog.store.aio import AsyncStore
from everlog.store.contract import Store
from everlog.store.query import Filter
from tests.concurrency.checker import Logged, Operation, Read, Tried

TENANT = "acme"
SEED = os.environ.get("EVERLOG_SEED") or str(int.from_bytes(os.urandom(4), "big"))


class Target(Protocol):
    """What of a store the clients use; a `Store` is one."""

    def append(self, request: Append) -> Appended: ...

    def version_at(self, tenant: str, stream: str) -> int: ...


@dataclass(frozen=True, slots=True)
class AskVersion:
    stream: str


Call = AskVersion | Append
Answer = int | Appended | EverlogError
Client = Generator[Call, Answer, None]


def streams(many: int) -> list[str]:
    return [f"seat-{number}" for number in range(many)]


def client(name: str, seed: str, over: Sequence[str]) -> Client:
    """Calls without end; `name` makes its ids its own, all clients of one `seed` share some requests."""
    random = Random(f"{seed}/{name}")
    earlier: deque[Append] = deque(maxlen=50)
    own, shared = count(), count()
    while True:
        stream = random.choice(over)
        match random.choice(("exactly", "exactly", "anything", "again", "shared", "read")):
            case "exactly":
                version = yield AskVersion(stream)
                assert isinstance(version, int)
                request = _request(stream, derived_id(TENANT, seed, name, next(own)), Exactly(version))
            case "anything":
                request = _request(stream, derived_id(TENANT, seed, name, next(own)))
            case "again" if earlier:
                request = random.choice(earlier)
            case "shared":
                number = next(shared)
                request = _request(over[number % len(over)], derived_id(TENANT, seed, "everyone", number))
            case _:
                yield AskVersion(stream)
                continue
        yield request
        earlier.append(request)


def _request(stream: str, id: bytes, expect: Exactly | None = None) -> Append:
    event = NewEvent(id, stream, "seat.taken", 1, b'{"by":"' + id.hex().encode() + b'"}')
    return Append(TENANT, (event,), {} if expect is None else {stream: expect})


def run_threads(
    store: Target, clients: Iterable[Client], seconds: float, *, stop: threading.Event | None = None
) -> list[Operation]:
    """Each client on a thread of its own, all let go at once, until the time is up or they are told to stop."""
    running = list(clients)
    start = threading.Barrier(len(running))
    told = stop or threading.Event()

    def run(client: Client) -> list[Operation]:
        start.wait()
        return _drive(store, client, seconds, told)

    with ThreadPoolExecutor(len(running)) as threads:
        return [operation for seen in threads.map(run, running) for operation in seen]


def run_tasks(store: Store, clients: Iterable[Client], seconds: float) -> list[Operation]:
    """Each client as an asyncio task over an `AsyncStore`, which is closed at the end; so is `store`."""

    async def run() -> list[Operation]:
        skin = AsyncStore(store)
        try:
            seen = await asyncio.gather(*(_drive_async(skin, client, seconds) for client in clients))
        finally:
            await skin.close()
        return [operation for some in seen for operation in some]

    return asyncio.run(run())


def _drive(store: Target, client: Client, seconds: float, stop: threading.Event) -> list[Operation]:
    history: list[Operation] = []
    call, until = next(client), time.monotonic_ns() + int(seconds * 1e9)
    while (invoked := time.monotonic_ns()) < until and not stop.is_set():
        answer: Answer
        try:
            answer = store.append(call) if isinstance(call, Append) else store.version_at(TENANT, call.stream)
        except (WrongExpectedVersion, OutcomeUnknown) as error:
            answer = error
        history.append(_seen(call, answer, invoked, time.monotonic_ns()))
        call = client.send(answer)
    return history


async def _drive_async(store: AsyncStore, client: Client, seconds: float) -> list[Operation]:
    history: list[Operation] = []
    call, until = next(client), time.monotonic_ns() + int(seconds * 1e9)
    while (invoked := time.monotonic_ns()) < until:
        answer: Answer
        try:
            if isinstance(call, Append):
                answer = await store.append(call)
            else:
                answer = await store.run(store.blocking.version_at, TENANT, call.stream)
        except (WrongExpectedVersion, OutcomeUnknown) as error:
            answer = error
        history.append(_seen(call, answer, invoked, time.monotonic_ns()))
        call = client.send(answer)
    return history


def _seen(call: Call, answer: Answer, invoked: int, returned: int) -> Operation:
    if isinstance(call, AskVersion):
        assert isinstance(answer, int)
        return Read(call.stream, answer, invoked, returned)
    (event,) = call.events
    expect = call.expect.get(event.stream)
    expected = expect.version if isinstance(expect, Exactly) else None
    match answer:
        case Appended(places=((position, version),)):
            return Tried(event.id.hex(), event.stream, expected, "ok", invoked, returned, version, position)
        case WrongExpectedVersion(actual=actual):
            return Tried(event.id.hex(), event.stream, expected, "conflict", invoked, returned, actual)
    return Tried(event.id.hex(), event.stream, expected, "unknown", invoked, returned)


def logged(store: Store) -> list[Logged]:
    """The final log as the checker takes it."""
    events = store.read(Filter(tenant=None))
    return [Logged(event.position, event.stream, event.version, event.id.hex()) for event in events]


def exercised(history: Iterable[Operation]) -> Counter[str]:
    """What a run did; one that found nothing must show that it did something."""
    done: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for operation in history:
        if isinstance(operation, Read):
            done["reads"] += 1
        else:
            ids[operation.id] += 1
            done[{"ok": "acknowledged", "conflict": "conflicts", "unknown": "unknown"}[operation.outcome]] += 1
    done["retries"] = ids.total() - len(ids)
    return done
