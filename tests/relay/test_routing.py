"""What a relay says of itself: mistakes are found when it, or the platform, is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlog import ALL, Misconfigured, Platform, Relay, upcast_split
from everlog.core.errors import InvalidInput
from everlog.relay.routing import Outgoing, relayed
from everlog.store.query import Filter
from tests.feed.parts import stored
from tests.following.parts import Counted, Noted, tally


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Relay("out", types=[]), "nothing would leave"),
        (lambda: Relay("out", types=["order.placed"]), "is no event class; to let everything out"),  # type: ignore[list-item]
        (lambda: Relay("out", types=ALL, tenants=[]), "no tenant is left"),
        (lambda: Relay("out", types=ALL, tenants="acme"), "lists, not one text"),
        (lambda: Relay("out", types=ALL, tags="a"), "lists, not one text"),
        (lambda: Relay("out", types=ALL, mode="xml"), "mode is 'xml'"),  # type: ignore[arg-type]
        (lambda: Relay("o u t", types=ALL), "o u t"),
        (lambda: Platform("memory:", Relay("one", types=ALL), Relay("two", types=ALL, prefix="one")), "one prefix"),
        (lambda: Platform("memory:", Relay("tally", types=ALL), tally()), "are named 'tally'"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(Misconfigured, match=why):
        make()


def test_a_tenant_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not a name"):
        Relay("out", types=ALL, tenants=["a b"])


def test_the_database_is_asked_for_no_more_than_leaves() -> None:
    types = Platform("memory:", Counted, Noted).types
    assert relayed(Relay("out", types=ALL), types) == Filter(None)
    one = Relay("out", types=[Counted], tenants=["acme"], tags=["size:l"])
    assert relayed(one, types) == Filter("acme", types=(("tally.counted", None),), tags=("size:l",))
    assert relayed(Relay("out", types=ALL, tenants=["a", "b"]), types) == Filter(None)


def test_a_transform_sees_no_part_of_a_split_event_that_is_not_listed() -> None:
    split = upcast_split("tally.pair", 1, into=[("tally.counted", 1), ("tally.noted", 1)])
    pair = split(lambda old: [("tally.counted", {"key": "k", "n": 1}), ("tally.noted", {"text": "secret"})])
    types = Platform("memory:", Counted, Noted, pair).types
    relay = Relay("out", types=[Counted], transform=lambda e: {"type": e.type})
    outgoing = Outgoing(relay, types, source="everlog:x", incarnation=1)
    event = stored(1, "a")._replace(type="tally.pair", schema_version=1, data=b"{}")
    assert [message.body for _, message in outgoing.messages(event)] == [b'{"type":"tally.counted"}']


def test_a_transform_that_gives_what_cannot_be_sent_is_told() -> None:
    types = Platform("memory:", Counted).types
    outgoing = Outgoing(Relay("out", types=ALL, transform=lambda e: 7), types, source="everlog:x", incarnation=1)
    with pytest.raises(Misconfigured, match=r"gave int for tally\.counted: give a JSON object, an event, or None"):
        list(outgoing.messages(stored(1, "a")))
