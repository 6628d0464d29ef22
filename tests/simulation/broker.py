"""A broker in memory, and the wire to it: answers are lost, requests come late, and what it keeps is damaged (T13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from everlog.relay.contract import BrokerMoved, BrokerUnavailable, Held, Holding, Message
from tests.simulation.trouble import PLANNED, Trouble

T = TypeVar("T")

CHUNK = 3  # messages that are stored together or not at all


class MemoryBroker:
    """One stream, with the subjects of one relay. What it does, it does at once."""

    def __init__(self) -> None:
        self.created, self.sequence = 1, 0
        self.messages: list[Held] = []
        self._older: list[tuple[int, int, list[Held]]] = []
        self.stored: Callable[[], None] = lambda: None

    def holds(self) -> Holding:
        last = self.messages[-1] if self.messages else None
        return Holding("EVENTS", self.created, len(self.messages), last, forgets=False)

    def publish(self, messages: Sequence[Message], after: int) -> int:
        last = self.messages[-1].sequence if self.messages else 0
        if last != after:
            raise BrokerMoved(f"the last is {last}, not {after}")
        for message in messages:
            self.sequence += 1
            self.messages.append(Held(self.sequence, message))
        return self.sequence

    def held(self, after: int) -> Held | None:
        return next((one for one in self.messages if one.sequence > after), None)

    def cut(self, after: int, last: int) -> None:
        """All of it, or from `last` down, one by one."""
        self.messages = [one for one in self.messages if after and not after < one.sequence <= last]

    # ---- Damage.

    def wipe(self) -> None:
        self.created, self.sequence, self.messages, self._older = self.created + 1, 0, [], []

    def copy(self) -> None:
        self._older.append((self.created, self.sequence, list(self.messages)))

    def set_back(self, choose: Callable[[Sequence[object]], object]) -> None:
        if self._older:
            one = self._older[self._older.index(choose(self._older))]  # type: ignore[arg-type]
            self.created, self.sequence, self.messages = one[0], one[1], list(one[2])

    def lose(self, index: int) -> None:
        if self.messages:
            del self.messages[index % len(self.messages)]


class Wire:
    """`Sender` as one process has it."""

    def __init__(self, broker: MemoryBroker, trouble: Trouble) -> None:
        self._broker, self._trouble, self._scheduler = broker, trouble, trouble.scheduler

    def holds(self, prefix: str) -> Holding:
        return self._ask(self._broker.holds)

    def publish_batch(self, prefix: str, messages: Sequence[Message], *, after: int) -> int:
        for first in range(0, len(messages), CHUNK):
            after = self._ask(partial(self._broker.publish, messages[first : first + CHUNK], after), changes=True)
        return after

    def held(self, prefix: str, after: int) -> Held | None:
        return self._ask(partial(self._broker.held, after))

    def cut(self, prefix: str, after: int) -> None:
        last = self._ask(self._broker.holds).last
        self._ask(partial(self._broker.cut, after, 0 if last is None else last.sequence), changes=True)

    def _ask(self, act: Callable[[], T], *, changes: bool = False) -> T:
        self._scheduler.point("broker")
        if self._unlucky("requests lost"):
            raise BrokerUnavailable(PLANNED)
        if changes and self._unlucky("requests late"):
            self._scheduler.after(self._trouble.random.uniform(0, 5), partial(self._late, act))
            raise BrokerUnavailable(PLANNED)
        answer = act()
        self._broker.stored()
        self._scheduler.point("answered")
        if self._unlucky("answers lost"):
            raise BrokerUnavailable(PLANNED)
        return answer

    def _late(self, act: Callable[[], object]) -> None:
        try:
            act()
            self._broker.stored()
        except BrokerMoved:
            self._trouble.seen["late requests refused"] += 1

    def _unlucky(self, what: str) -> bool:
        struck = not self._trouble.mended and self._trouble.random.random() < self._trouble.setup.trouble
        self._trouble.seen[what] += struck
        return struck
