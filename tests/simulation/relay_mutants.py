"""Bugs to find in relays: what they would do if somebody had not thought of something; the first is number 8 (T40)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from everlog.core.envelope import StoredEvent
from everlog.relay.compare import Comparison
from everlog.relay.contract import BrokerUnavailable, Held, Holding, Message
from everlog.relay.run import RelayHandler
from everlog.relay.state import Copy
from everlog.subscription.contract import Claim
from everlog.subscription.follower import Taken
from tests.simulation.broker import MemoryBroker

Patch = pytest.MonkeyPatch


def publish_after_save(patch: Patch) -> None:
    """What is appended is published once, and nobody remembers whether that worked."""

    def handle(self: RelayHandler, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        made, _ = self._messages(claim, page)
        try:
            holding = self._sender.holds(self._relay.word)
            after = holding.last.sequence if holding.last else 0
            self._sender.publish_batch(self._relay.word, [message for _, message in made], after=after)
        except BrokerUnavailable:
            pass
        self.save(claim, upto)
        return Taken(upto, upto)

    patch.setattr(RelayHandler, "handle", handle)
    patch.setattr(RelayHandler, "idle", lambda self, claim: False)


def checkpoint_before_sending(patch: Patch) -> None:
    handle = RelayHandler.handle

    def checkpoint_first(self: RelayHandler, claim: Claim, page: Sequence[StoredEvent], upto: int) -> Taken:
        self.save(claim, upto)
        return handle(self, claim._replace(position=upto), page, upto)

    patch.setattr(RelayHandler, "handle", checkpoint_first)


def no_fence(patch: Patch) -> None:
    """The broker takes whatever comes."""

    def publish(self: MemoryBroker, messages: Sequence[Message], after: int) -> int:
        for message in messages:
            self.sequence += 1
            self.messages.append(Held(self.sequence, message))
        return self.sequence

    patch.setattr(MemoryBroker, "publish", publish)


def never_compares(patch: Patch) -> None:
    """What the broker says it holds is believed to be what was sent."""
    patch.setattr(
        Comparison,
        "mend",
        lambda self, known, holding: self._copy(known, holding, holding.last)._replace(mark=known.mark),
    )


def looks_at_the_end_only(patch: Patch) -> None:
    """A hole is passed over."""
    sound = Comparison._sound
    patch.setattr(Comparison, "_sound", lambda self, known, holding: sound(self, known, holding._replace(forgets=True)))


def counts_alone(patch: Patch) -> None:
    """One doubled makes up for one lost. (The campaign's seed 3947374742.103552 showed that this check was missing.)"""

    def numbers_alone(self: Comparison, known: Copy, holding: Holding, copy: Copy) -> bool:
        return holding.created == known.created and known.sequence > 0 and copy.mark >= known.mark

    patch.setattr(Comparison, "_stands", numbers_alone)
    patch.setattr(Comparison, "_follows", lambda self, known, holding, copy: True)


def goes_on_where_it_was(patch: Patch) -> None:
    """It notices, and does not go back."""

    def stay(self: RelayHandler, claim: Claim, copy: Copy, *, missing: bool) -> None: ...

    patch.setattr(RelayHandler, "_go_back", stay)


MUTANTS: list[Callable[[Patch], None]] = [
    publish_after_save,
    checkpoint_before_sending,
    no_fence,
    never_compares,
    looks_at_the_end_only,
    counts_alone,
    goes_on_where_it_was,
]
