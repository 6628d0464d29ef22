"""One place in the broker's stream: what is handed out there, once, in order, for as long as it is in hand."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from everlog.adapters.nats.connection import api
from everlog.app.brokers import open_broker
from everlog.core.errors import SubscriptionFailed
from everlog.feed.stream import NOTHING_READ, Place, position_in
from everlog.processing.contract import Feed
from everlog.relay.contract import Delivered
from everlog.testing.nats import Cluster
from tests.feed.parts import Copy, events, eventually


def place(copy: Copy, **options: float) -> Place:
    made = Place(copy.broker, copy.relay, [f"{copy.relay}.>"], page=10, ack_seconds=options.get("ack_seconds", 30.0))
    made.begin("tests-1")
    return made


def positions(fetched: list[Delivered]) -> list[int]:
    return [position_in(one.message) for one in fetched]


def test_what_is_in_hand_is_not_handed_out_again_while_it_is_extended(copy: Copy) -> None:
    copy.send(events(1, 3))
    one = place(copy, ack_seconds=1.0)
    one.opened("seen", None)
    fetched = one.fetch(1)
    assert positions(fetched) == [1, 2, 3]
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        one.extend(fetched)
        assert one.fetch(0.05) == []
    assert one._number == 3
    one.ack(fetched)
    assert eventually(lambda: one._broker.pending(one._consumer) == 0)  # type: ignore[arg-type]


def test_what_is_handed_out_again_is_dropped(copy: Copy) -> None:
    copy.send(events(1, 3))
    one = place(copy, ack_seconds=0.2)
    one.opened("seen", None)
    assert positions(one.fetch(1)) == [1, 2, 3]
    eventually(lambda: (one.fetch(0.1), one._number)[1] >= 6)
    copy.send(events(4, 4))
    assert positions(eventually(lambda: one.fetch(0.1))) == [4]


def test_a_new_ownership_reads_what_the_last_one_has_in_hand(copy: Copy) -> None:
    copy.send(events(1, 30))
    first, second = place(copy), place(copy)
    first.opened("seen", None)
    first.fetch(1)
    second.begin("tests-2")
    second.opened("seen", None)
    assert positions(second.fetch(1)) == list(range(1, 11))
    assert positions(second.fetch(1)) == list(range(11, 21))


def test_what_a_stream_with_limits_lets_go_of_while_it_is_read_is_told(nats: Cluster) -> None:
    with Copy.at(nats.url("SLOWLY", max_bytes="20000")) as copy:
        copy.send(events(1, 10))
        one = place(copy)
        one.opened("seen", None)
        assert positions(one.fetch(1)) == list(range(1, 11))
        stream, created = one.life
        feed = Feed("s", 1, stream, created, 10, 10, 10, 0)
        copy.send(events(11, 20))
        assert positions(one.fetch(1)) == list(range(11, 21))
        copy.send(events(21, 400))
        assert one.fetch(1) == []
        assert not one.is_open
        with pytest.raises(SubscriptionFailed, match="let go of messages before they were seen"):
            one.opened("seen", feed._replace(sequence=20, read=20, position=20))


def test_a_number_that_is_left_out_is_nothing_where_the_oldest_is_still_there(nats: Cluster) -> None:
    with Copy.at(nats.url("LATELY", max_bytes="200000")) as copy:
        copy.send(events(1, 10))
        one = place(copy)
        one.opened("seen", None)
        one.fetch(1)
        copy.send(events(11, 12))
        copy.cut(10)
        copy.send(events(11, 12))  # at 13 and 14 now
        assert positions(one.fetch(1)) == [11, 12]


def others(copy: Copy, first: int, last: int) -> None:
    """The relay's messages of another type."""
    for event in events(first, last):
        made = copy.message(event)
        copy.send_messages([replace(made, subject=made.subject.replace("counted", "noted"))])


def narrow(copy: Copy) -> Place:
    """With a use for one type alone."""
    subject = copy.message(events(1, 1)[0]).subject
    made = Place(copy.broker, copy.relay, [subject], page=10, ack_seconds=30.0)
    made.begin("tests-1")
    return made


def test_what_a_place_has_no_use_for_may_go(nats: Cluster) -> None:
    """A type that is rarer than what the stream keeps."""
    with Copy.at(nats.url("RARELY", max_bytes="20000")) as copy:
        copy.send(events(1, 5))
        one = narrow(copy)
        one.opened("seen", None)
        assert positions(one.fetch(1)) == [1, 2, 3, 4, 5]
        for first in (6, 106, 206):
            others(copy, first, first + 99)
            assert one.fetch(0.05) == []
            one._look_at = 0.0
            assert one.passed() == (first + 99, first + 99)
        copy.send(events(306, 306))
        assert positions(one.fetch(1)) == [306]
        assert one.passed() is None  # it was asked a moment ago


def test_a_place_goes_on_where_the_oldest_message_follows_what_was_seen(nats: Cluster) -> None:
    with Copy.at(nats.url("NEXTLY", max_bytes="200000")) as copy:
        copy.send(events(1, 5))
        one = narrow(copy)
        one.opened("seen", None)
        one.fetch(1)
        others(copy, 6, 6)
        copy.send(events(7, 7))
        one._broker._run(lambda client: api(client, "STREAM.PURGE.NEXTLY", {"seq": 6}))  # type: ignore[attr-defined]
        assert positions(one.fetch(1)) == [7]


def test_a_refill_is_read_from_its_beginning_where_something_was_let_go_of(nats: Cluster) -> None:
    with Copy.at(nats.url("AGAIN", max_bytes="20000")) as copy:
        copy.send(events(1, 10))
        one = narrow(copy)
        one.opened("seen", None)
        stream, created = one.life
        feed = Feed("s", 1, stream, created, 10, 10, 10, 0)
        copy.send(events(11, 400))
        with pytest.raises(SubscriptionFailed, match="--from 10"):
            one.opened("seen", feed)
        copy.cut(0)
        copy.send(events(10, 30))
        assert one.opened("seen", feed) == 0
        assert positions(one.fetch(1)) == list(range(10, 20))


def test_a_broker_that_is_set_up_wrongly_is_waited_out(copy: Copy) -> None:
    one = Place(open_broker(copy.url.replace("nats://", "tls://")), copy.relay, ["a.>"], page=10, ack_seconds=30.0)
    one.begin("tests-1")
    assert one.opened("seen", None) is None
    assert "does not insist on TLS" in str(one.trouble)
    assert one.pause() > 0


def test_a_stream_that_is_cut_behind_the_place_is_read_from_its_beginning(copy: Copy) -> None:
    copy.send(events(1, 10))
    one = place(copy)
    one.opened("seen", None)
    stream, created = one.life
    feed = Feed("s", 1, stream, created, 10, 10, 10, 0)
    assert one.opened("seen", feed) == 10
    assert one.opened("seen", feed._replace(read=9)) == 0
    assert one.opened("seen", feed._replace(created=created - 1)) == 0
    assert one.opened("seen", feed._replace(stream="ANOTHER")) == 0
    assert one.opened("seen", feed._replace(read=NOTHING_READ)) == 10
    copy.cut(7)
    assert one.opened("seen", feed) == 0
    copy.send(events(8, 12))  # at 11 to 15 now
    assert one.opened("seen", feed) == 0
    assert positions(one.fetch(1)) == list(range(1, 11))
