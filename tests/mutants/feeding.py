"""Mistakes somebody could make in feeding processors from a broker, each as small as its author would have made it
(T40)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from everlog.feed.pages import BrokerPages
from everlog.feed.stream import Place
from everlog.processing.contract import Feed
from everlog.relay.cloudevents import Received
from everlog.relay.contract import Delivered

Patch = pytest.MonkeyPatch


def dedup_by_broker_window_only(patch: Patch) -> None:
    """13: the broker drops what comes twice within its window, so nobody asks the inbox."""
    patch.setattr(BrokerPages, "_known", lambda self, positions: set())


def late_is_new(patch: Patch) -> None:
    """What was not handled is handled, whatever was handled meanwhile."""

    def fate(self: BrokerPages, event: Received, known: set[int]) -> str:
        if event.stored.position in known:
            return "settled"
        self._last = min(self._last, event.stored.position - 1)
        return "new"

    patch.setattr(BrokerPages, "_fate", fate)


def holes_are_not_seen(patch: Patch) -> None:
    """What the broker handed out is taken as it comes."""

    def as_it_comes(self: Place, found: Sequence[Delivered]) -> list[Delivered]:
        return list(found)

    patch.setattr(Place, "_in_order", as_it_comes)


def sequences_are_trusted(patch: Patch) -> None:
    """A stream of the same name is the same stream, however often it was rolled back or made anew."""
    patch.setattr(Place, "_continues", lambda self, partition, feed, last, *, forgets: True)


def place_is_not_kept(patch: Patch) -> None:
    """What is settled is in the inbox, so a person's word on a new incarnation need not be asked for."""

    def take_any(self: BrokerPages, event: Received) -> bool:
        assert self._feed is not None
        feed: Feed = self._feed
        self._feed = feed._replace(source=event.source, incarnation=event.incarnation)
        return False

    patch.setattr(BrokerPages, "_refuses", take_any)
