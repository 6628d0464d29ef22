"""Mistakes somebody could make in following the log, each as small as its author would have made it (T40)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from everlog.adapters.sqlite.checkpoints import SqliteCheckpoints, SqliteEffects
from everlog.core.envelope import StoredEvent
from everlog.processing.run import KeyRun, ProcessorHandler
from everlog.projection.run import Blame
from everlog.subscription.contract import Claim
from everlog.subscription.tail import Tail

Patch = pytest.MonkeyPatch


def checkpoint_before_effect(patch: Patch) -> None:
    """5: the checkpoint is committed by itself, and what it covers in a transaction of its own."""
    transaction = SqliteCheckpoints.transaction

    @contextmanager
    def first_one_then_the_other(self: SqliteCheckpoints, claim: Claim, position: int) -> Iterator[SqliteEffects]:
        with transaction(self, claim, position):
            pass
        with transaction(self, claim, position) as effects:
            yield effects

    patch.setattr(SqliteCheckpoints, "transaction", first_one_then_the_other)


def checkpoint_before_handlers(patch: Patch) -> None:
    """5, for effects elsewhere: a page counts as handled before anybody has handled it."""
    handle_page = ProcessorHandler._handle_page

    def settle_first(self: ProcessorHandler, claim: Claim, page: Sequence[StoredEvent], upto: int) -> int:
        with self._checkpoints.transaction(claim, upto):
            pass
        return handle_page(self, claim._replace(position=upto), page, upto)

    patch.setattr(ProcessorHandler, "_handle_page", settle_first)


def swallow_handler_errors(patch: Patch) -> None:
    """6: what a handler raises is the same as nothing."""
    attempt = ProcessorHandler._try

    def swallow(self: ProcessorHandler, claim: Claim, stored: StoredEvent) -> Any:
        outcome = attempt(self, claim, stored)
        return None if isinstance(outcome, str) else outcome

    patch.setattr(ProcessorHandler, "_try", swallow)


def swallow_projection_errors(patch: Patch) -> None:
    """6, for projections: the event that raised is passed over."""
    patch.setattr(Blame, "__exit__", lambda self, kind, error, trace: isinstance(error, Exception))


def no_fencing(patch: Patch) -> None:
    """7: whoever once owned a subscription commits under whatever epoch it has now."""
    transaction = SqliteCheckpoints.transaction

    @contextmanager
    def unfenced(self: SqliteCheckpoints, claim: Claim, position: int) -> Iterator[SqliteEffects]:
        known = next(one for one in self.progress() if one.name == claim.name)
        with transaction(self, claim._replace(epoch=known.epoch), max(position, known.position)) as effects:
            yield effects

    patch.setattr(SqliteCheckpoints, "transaction", unfenced)


def wake_up_without_poll(patch: Patch) -> None:
    """15: who is not told of an event does not look for one. (A minute stands for ever.)"""

    def wait(self: Tail, after: int, seconds: float) -> int:
        with self._changed:
            hints = self._hints
            if self._store.head().position <= after:
                self._changed.wait_for(lambda: self._hints != hints, 60.0)
        return self._store.head().position

    patch.setattr(Tail, "wait", wait)


def park_drops_later_events(patch: Patch) -> None:
    """17: the event that failed is parked, those behind it are passed over."""
    undone = KeyRun.undone
    patch.setattr(KeyRun, "undone", lambda self: undone(self)[:1])
