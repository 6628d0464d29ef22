"""The worker: every projection and processor of a platform, each followed on a thread of its own."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from everlog.app.following import (
    Follows,
    ProcessorCalls,
    SessionOf,
    processor_handler,
    projection_handler,
    subscription_of,
)
from everlog.app.stores import Backend
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint, nothing
from everlog.domain.types import EventTypes
from everlog.processing.processor import Processor
from everlog.processing.run import ProcessorHandler
from everlog.subscription.contract import Progress
from everlog.subscription.follower import LEASE_SECONDS, Follower, Handler
from everlog.subscription.tail import Tail

_EVER = 2**62


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a subscription is behind the head, in events of the log, and how many of its keys are in lanes."""

    progress: Progress
    events: int
    lanes: int


class Worker:
    """Start it, stop it. Several may run on one log: each subscription has one owner, by lease and fence."""

    def __init__(
        self,
        parts: Sequence[Follows],
        types: EventTypes,
        backend: Backend,
        session_of: SessionOf,
        *,
        clock: Clock,
        crash: CrashPoint = nothing,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._backend, self._stopping = backend, threading.Event()
        self._calls = ProcessorCalls(backend, session_of)
        self.tail = Tail(backend)
        backend.on_append(self.tail.hint)
        self._handlers: list[ProcessorHandler] = []
        self.moved = threading.Condition()
        self.followers: dict[str, Follower] = {}
        for part in parts:
            handler: Handler
            if isinstance(part, Processor):
                handler = processor_handler(
                    part, types, backend, self._calls, clock, crash, self._stopping, lease_seconds
                )
                self._handlers.append(handler)
            else:
                handler = projection_handler(part, types, backend)
            self.followers[part.name] = Follower(
                subscription_of(part, types),
                handler,
                backend,
                backend.checkpoints,
                self.tail,
                owner=self.owner,
                stopping=self._stopping,
                lease_seconds=lease_seconds,
                on_progress=self._tell,
            )
        self._threads = [
            threading.Thread(target=follower.run, name=f"everlog-{name}", daemon=True)
            for name, follower in self.followers.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def drain(self, timeout: float, *, everything: bool = False) -> bool:
        """Wait until what this worker owns has seen all that is in the log now; false after `timeout` seconds.

        With `everything` also until no lane is to be tried again, each being empty or waiting for a person; and for
        what another worker owns, which gets on with it or loses its lease to this one.
        """
        head = self._backend.head().position

        def done() -> bool:
            if any(_behind(one, head) for one in self.followers.values()):
                return False
            return not everything or not any(self._to_do(one, head) for one in self._backend.checkpoints.progress())

        with self.moved:
            self.moved.wait_for(lambda: self._stopping.is_set() or done(), timeout)
            return done()

    def stop(self, timeout: float = 30.0) -> bool:
        """Finish what is in hand, leave the leases, and say whether all ended within `timeout` seconds.

        Called again, as when the log is closed, it does not wait again.
        """
        until = time.monotonic() + (0.0 if self._stopping.is_set() else timeout)
        self._stopping.set()
        for thread in self._threads:
            while thread.is_alive() and (left := until - time.monotonic()) > 0:
                self.tail.hint()  # again and again: it may look and find nothing just before one comes
                thread.join(min(left, 0.05))
        for handler in self._handlers:
            handler.close()
        self._calls.close()
        return not any(thread.is_alive() for thread in self._threads)

    def _to_do(self, known: Progress, head: int) -> bool:
        """Whether it is one of ours, whoever owns it, and neither at rest nor held up."""
        ours = self.followers.get(known.name)
        if ours is None or known.status != "running" or known.version != ours.subscription.version:
            return False
        # Its own checkpoint may be a second behind over pages that hold nothing for it.
        behind = not ours.owns and known.position < head
        return behind or bool(self._backend.desk.lanes.due(known.name, _EVER, 1))

    def _tell(self) -> None:
        with self.moved:
            self.moved.notify_all()


def _behind(follower: Follower, head: int) -> bool:
    return follower.owns is None or (follower.owns and follower.reached < head)


def lags(backend: Backend) -> list[Lag]:
    """Every subscription of the log, whoever runs it."""
    head = backend.head().position
    return [
        Lag(one, max(0, head - one.position), backend.desk.lanes.totals(one.name)[0])
        for one in backend.checkpoints.progress()
    ]
