"""A relay at work on a real NATS: what leaves, in which order and form, and that trouble of the broker stays there."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pytest

from everlog import ALL, BrokerUnavailable, FromNow, Log, Platform, Recorded, Relay
from everlog.adapters.nats import NatsBroker
from everlog.app.following import relay_handler
from everlog.app.relaying import refill, relay_lags
from everlog.core.clock import system_clock
from everlog.core.crash import nothing
from everlog.core.errors import Fenced, InvalidInput, NotFound
from everlog.relay.contract import Broker, BrokerMoved, Message, Sender
from everlog.store.contract import Release
from everlog.store.query import Filter
from everlog.testing.nats import Cluster
from tests.following.parts import LEASE, failed, tally
from tests.relay.parts import (
    Counted,
    Noted,
    Placed,
    counted,
    eventually,
    everything,
    held,
    is_whole,
    last_sequence,
    on_both,
    progress_of,
    relay_of,
    shop,
    whole,
)


@on_both
def test_everything_appended_is_sent_in_order_each_once(url: str, broker_url: str, prefix: str, broker: Broker) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open() as log:
        counted(log, range(1200))
    with platform.open(worker=True, relays_to=broker_url) as log:
        counted(log, range(1200, 1300))
        whole(log, platform, broker)
        [lag] = relay_lags(log.store)
        assert lag.relayed is not None
        assert (lag.events, lag.relayed.copy.messages, lag.relayed.copy.mark.position) == (0, 1300, 1300)
        assert (lag.progress.kind, lag.progress.status, lag.relayed.trouble) == ("relay", "running", "")


@on_both
def test_a_relay_goes_on_where_it_was(url: str, broker_url: str, prefix: str, broker: Broker) -> None:
    platform = shop(url, relay_of(prefix))
    for first in range(0, 90, 30):
        with platform.open(worker=True, relays_to=broker_url) as log:
            counted(log, range(first, first + 30))
    assert is_whole(platform.open(), platform, broker) == ""
    assert last_sequence(broker, prefix) == 90


def test_no_relay_runs_where_nothing_says_where_the_broker_is(url: str, prefix: str) -> None:
    with shop(url, relay_of(prefix)).open(worker=True) as log:
        counted(log, range(3))
        assert log.lags() == []


def test_only_says_what_this_worker_runs(url: str, broker_url: str, prefix: str, broker: Broker) -> None:
    platform = shop(url, relay_of(prefix), tally())
    with platform.open(worker=True, relays_to=broker_url, only=["out"]) as log:
        counted(log, range(3))
        whole(log, platform, broker)
        assert [lag.progress.name for lag in log.lags()] == ["out"]
    with pytest.raises(Exception, match="there is no 'mail' to run: this worker has tally, out"):
        platform.open(worker=True, relays_to=broker_url, only=["mail"])


# ---- What leaves.


def sent(url: str, broker_url: str, broker: Broker, relay: Relay, *more: Any) -> list[Any]:
    """What a relay sends of a log that holds something of everything."""
    platform = Platform(url, Counted, Noted, Placed, relay, *more)
    with platform.open() as log:
        acme, globex = log.tenant("acme", ip="10.0.0.9", user_agent="curl"), log.tenant("globex")
        acme.append("order-1", Placed("1", "s"), Placed("2", "l"))
        globex.append("order-3", Placed("3", "l"))
        acme.append("tally-a", Counted("a"), Noted("secret"))
    with platform.open(worker=True, relays_to=broker_url) as log:
        log.worker.drain(20)  # type: ignore[union-attr]
        eventually(lambda: progress_of(log, "out").position == 5)
    return held(broker, relay.word)


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        ({"types": [Placed]}, [1, 2, 3]),
        ({"types": [Placed, Noted]}, [1, 2, 3, 5]),
        ({"types": ALL}, [1, 2, 3, 4, 5]),
        ({"tenants": ["globex"]}, [3]),
        ({"tenants": ["globex", "acme"]}, [1, 2, 3, 4, 5]),
        ({"tenants": ["globex", "initech"]}, [3]),
        ({"tags": ["size:l"]}, [2, 3]),
        ({"tags": ["size:l", "order:2"]}, [2]),
        ({"tags": ["size:l"], "tenants": ["acme"], "types": [Placed]}, [2]),
    ],
)
def test_nothing_leaves_but_what_is_listed(
    url: str, broker_url: str, prefix: str, broker: Broker, options: Any, positions: list[int]
) -> None:
    found = sent(url, broker_url, broker, relay_of(prefix, **options))
    assert [one.stored.position for one in found] == positions


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_what_is_sent_is_what_is_stored_but_for_what_is_personal(
    url: str, broker_url: str, prefix: str, broker: Broker, mode: str
) -> None:
    found = sent(url, broker_url, broker, relay_of(prefix, mode=mode))
    with Platform(url, Counted, Noted, Placed).open() as log:
        stored = list(log.store.read(Filter(None)))
        assert [one.stored for one in found] == [event._replace(client=None) for event in stored]
        assert {one.source for one in found} == {f"everlog:{log.head().log_id.hex()}"}
    raw = b"".join(one.message.body + repr(one.message.headers).encode() for one in everything(broker, prefix))
    assert b"10.0.0.9" not in raw
    assert b"curl" not in raw
    is_structured = all(one.message.headers.get("content-type") for one in everything(broker, prefix))
    assert is_structured == (mode == "structured")


def test_a_transform_changes_what_leaves_or_keeps_it_back(
    url: str, broker_url: str, prefix: str, broker: Broker
) -> None:
    def short(e: Recorded[Any]) -> object | None:
        match e.data:
            case Placed(order_id, size):
                return {"order": order_id} if size == "l" else None
            case Counted(key):
                return Noted(key)
        return None

    found = sent(url, broker_url, broker, relay_of(prefix, transform=short))
    told = [(one.stored.position, one.stored.type, one.stored.schema_version, one.stored.data) for one in found]
    assert told == [
        (2, "order.placed", 1, b'{"order":"2"}'),
        (3, "order.placed", 1, b'{"order":"3"}'),
        (4, "tally.noted", 1, b'{"text":"a"}'),
    ]
    assert [one.message.subject for one in everything(broker, prefix)] == [
        f"{prefix}.acme.order.order%2Eplaced",
        f"{prefix}.globex.order.order%2Eplaced",
        f"{prefix}.acme.tally.tally%2Enoted",
    ]


@pytest.mark.parametrize("transform", [None, lambda e: {"n": e.data.n}])
def test_an_event_whose_payload_was_released_leaves_without_it_or_not_at_all(
    url: str, broker_url: str, prefix: str, broker: Broker, transform: Any
) -> None:
    platform = shop(url, relay_of(prefix, transform=transform))
    with platform.open() as log:
        counted(log, range(3))
        log.store.release(Release((2,), "erasure", "asked for"))
    with platform.open(worker=True, relays_to=broker_url) as log:
        eventually(lambda: progress_of(log, "out").position == 3)
        found = {one.stored.position: one.stored.data is None for one in held(broker, prefix)}
        assert found == ({1: False, 3: False} if transform else {1: False, 2: True, 3: False})


def test_a_transform_that_raises_stops_the_relay_before_that_event(
    url: str, broker_url: str, prefix: str, broker: Broker
) -> None:
    def fails(e: Recorded[Any]) -> object | None:
        return {"n": 10 // (e.data.n - 3)}

    platform = shop(url, relay_of(prefix, transform=fails))
    with platform.open(worker=True, relays_to=broker_url) as log:
        counted(log, range(6))
        failed(log, "out")
        assert progress_of(log, "out").failed_position == 4
        assert "ZeroDivisionError" in progress_of(log, "out").error
        assert [one.stored.position for one in held(broker, prefix)] == [1, 2, 3]
    mended = shop(url, relay_of(prefix, transform=lambda e: {"n": e.data.n}))
    with mended.open(worker=True, relays_to=broker_url) as log:
        eventually(lambda: [one.stored.position for one in held(broker, prefix)] == [1, 2, 3, 4, 5, 6])


def test_a_relay_may_begin_now(url: str, broker_url: str, prefix: str, broker: Broker) -> None:
    platform = shop(url, relay_of(prefix, start=FromNow()))
    with platform.open() as log:
        counted(log, range(5))
    with platform.open(worker=True, relays_to=broker_url) as log:
        eventually(lambda: relay_lags(log.store))
        counted(log, range(5, 7))
        eventually(lambda: [one.stored.position for one in held(broker, prefix)] == [6, 7])


@pytest.mark.parametrize("changed", [{"transform": lambda e: {"n": e.data.n}}, {"types": [Noted]}])
def test_a_change_of_what_is_sent_leaves_what_was_sent(
    url: str, broker_url: str, prefix: str, broker: Broker, changed: Any
) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as log:
        counted(log, range(20))
        log.tenant("acme").append("tally-k", Noted("x"), Counted("k"))
        whole(log, platform, broker)
    with shop(url, relay_of(prefix, **changed)).open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as log:
        if "transform" in changed:
            counted(log, range(5))
        else:
            log.tenant("acme").append("tally-k", *[Noted("x") for _ in range(5)])
        eventually(lambda: last_sequence(broker, prefix) >= 27)
        assert [one.sequence for one in everything(broker, prefix)] == [*range(1, 28)]


# ---- Trouble at the broker.


@on_both
def test_a_broker_that_is_down_fails_no_append_and_no_subscription(
    url: str, own_nats: Cluster, connect: Callable[[str], Broker], caplog: pytest.LogCaptureFixture
) -> None:
    own_nats.kill()
    platform = shop(url, relay_of("out"))
    target = own_nats.url("EVENTS")
    with caplog.at_level(logging.WARNING, "everlog"), platform.open(worker=True, relays_to=target) as log:
        counted(log, range(100))
        [lag] = eventually(lambda: [one for one in relay_lags(log.store) if one.relayed])
        assert lag.relayed is not None
        assert "cannot be reached" in lag.relayed.trouble
        assert (lag.progress.status, lag.events) == ("running", 100)
        assert sum("it waits and tries again" in record.message for record in caplog.records) == 1
        own_nats.start()
        whole(log, platform, connect(target))
        eventually(lambda: relay_lags(log.store)[0].relayed.trouble == "")  # type: ignore[union-attr]


def test_closing_a_log_does_not_wait_for_a_broker(url: str, own_nats: Cluster) -> None:
    own_nats.kill()
    log = shop(url, relay_of("out")).open(worker=True, relays_to=own_nats.url("EVENTS"))
    counted(log, range(3))
    eventually(lambda: [one for one in relay_lags(log.store) if one.relayed and one.relayed.trouble])
    closed = threading.Thread(target=log.close, args=(60.0,))
    closed.start()
    closed.join(20)
    assert not closed.is_alive()


def test_messages_of_somebody_else_below_the_prefix_are_left_alone(
    url: str, broker_url: str, prefix: str, broker: Broker
) -> None:
    broker.holds(prefix)
    broker.publish_batch(prefix, [Message(f"{prefix}.a.b.c", "x", {}, b"theirs")], after=0)
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url) as log:
        counted(log, range(3))
        eventually(lambda: any(one.relayed and "not sent by this relay" in one.relayed.trouble for one in _lags(log)))
        assert [one.message.body for one in everything(broker, prefix)] == [b"theirs"]
        broker.cut(prefix, 0)
        whole(log, platform, broker)


def test_a_relay_of_another_log_is_somebody_else(
    url: str, broker_url: str, prefix: str, broker: Broker, tmp_path: Any
) -> None:
    ours, theirs = shop(url, relay_of(prefix)), shop(f"sqlite:///{tmp_path}/theirs.db", relay_of(prefix))
    with ours.open(worker=True, relays_to=broker_url) as log:
        counted(log, range(3))
        whole(log, ours, broker)
        with theirs.open(worker=True, relays_to=broker_url) as other:
            counted(other, range(9))
            eventually(lambda: any(one.relayed and "this log is" in one.relayed.trouble for one in _lags(other)))
        assert is_whole(log, ours, broker) == ""


def _lags(log: Log) -> Any:
    return relay_lags(log.store)


def test_a_broker_of_one_node_is_warned_of(
    url: str, broker_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "everlog"),
        shop(url, relay_of(prefix)).open(worker=True, relays_to=broker_url) as log,
    ):
        [lag] = eventually(lambda: [one for one in _lags(log) if one.relayed and one.relayed.warnings])
        assert "three" in " ".join(lag.relayed.warnings)
        assert "three nodes" in caplog.text


def _is_at_the_head(log: Log) -> bool:
    return any(one.relayed and not one.events for one in _lags(log))


def test_warnings_are_told_each_time_a_relay_begins(
    url: str, broker_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    for times in (1, 2):
        with caplog.at_level(logging.WARNING, "everlog"):
            with shop(url, relay_of(prefix)).open(worker=True, relays_to=broker_url) as log:
                counted(log, range(3))
                eventually(partial(_is_at_the_head, log))
            assert caplog.text.count("three nodes") == times


def test_trouble_that_changes_is_told_as_it_is_now(
    url: str, own_nats: Cluster, connect: Callable[[str], Broker]
) -> None:
    own_nats.kill()
    target = own_nats.url("EVENTS")
    with shop(url, relay_of("out")).open(worker=True, relays_to=target) as log:
        counted(log, range(3))
        eventually(lambda: [one for one in _lags(log) if one.relayed and one.relayed.trouble])
        own_nats.start()
        broker = connect(target)
        eventually(lambda: _lags(log)[0].relayed.trouble == "")
        broker.cut("out", 0)
        broker.publish_batch("out", [Message("out.a.b.c", "x", {}, b"theirs")], after=0)
        eventually(lambda: "not sent by this relay" in _lags(log)[0].relayed.trouble)
        since = _lags(log)[0].relayed.since
        own_nats.kill()
        eventually(lambda: "not sent by this relay" not in _lags(log)[0].relayed.trouble)
        assert _lags(log)[0].relayed.since == since


@on_both
def test_two_relays_send_the_same_events_into_one_stream(
    url: str, broker_url: str, prefix: str, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    two = Relay("other", types=ALL, prefix=f"{prefix}x")
    with (
        caplog.at_level(logging.WARNING, "everlog"),
        shop(url, relay_of(prefix), two).open(worker=True, relays_to=broker_url) as log,
    ):
        counted(log, range(200))
        eventually(lambda: [last.events for last in _lags(log)] == [0, 0])
    assert [len(everything(broker, name)) for name in (prefix, two.word)] == [200, 200]
    assert "it waits and tries again" not in caplog.text


# ---- Refilling.


@on_both
def test_a_refill_sends_everything_again_in_order(url: str, broker_url: str, prefix: str, broker: Broker) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as log:
        counted(log, range(50))
        whole(log, platform, broker)
        assert refill(log.store, "out") == 1
        eventually(lambda: last_sequence(broker, prefix) == 100)
        whole(log, platform, broker)
        counted(log, range(50, 60))
        whole(log, platform, broker)


@on_both
def test_a_refill_from_a_position_leaves_what_is_before_it(
    url: str, broker_url: str, prefix: str, broker: Broker
) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as log:
        counted(log, range(50))
        whole(log, platform, broker)
        assert refill(log.store, "out", 41) == 41
        eventually(lambda: [one.sequence for one in everything(broker, prefix)] == [*range(1, 41), *range(51, 61)])
        whole(log, platform, broker)


def test_a_refill_without_a_position_goes_back_to_where_the_relay_began(
    url: str, broker_url: str, prefix: str, broker: Broker
) -> None:
    """Also after one from a later position on, which the copy then begins with."""
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as log:
        counted(log, range(20))
        whole(log, platform, broker)
        broker.cut(prefix, 0)
        refill(log.store, "out", 11)
        eventually(lambda: broker.holds(prefix).messages == 10)
        assert refill(log.store, "out") == 1
        whole(log, platform, broker)


def test_a_refill_of_a_broker_that_was_wiped_begins_where_it_was_asked_to(
    url: str, own_nats: Cluster, connect: Callable[[str], Broker]
) -> None:
    platform, target = shop(url, relay_of("out")), own_nats.url("EVENTS")
    with platform.open(worker=True, relays_to=target) as log:
        counted(log, range(50))
        whole(log, platform, connect(target))
    own_nats.kill()
    own_nats.wipe()
    with platform.open() as log:
        refill(log.store, "out", 41)
    own_nats.start()
    broker = connect(target)
    with platform.open(worker=True, relays_to=target) as log:
        eventually(lambda: [one.stored.position for one in held(broker, "out")] == [*range(41, 51)])
        counted(log, range(50, 55))
        eventually(lambda: [one.stored.position for one in held(broker, "out")] == [*range(41, 56)])


def test_a_refill_that_cannot_be_says_why(url: str, broker_url: str, prefix: str, broker: Broker) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url) as log:
        with pytest.raises(NotFound, match="no relay 'other' has sent anything"):
            refill(log.store, "other")
        counted(log, range(5))
        whole(log, platform, broker)
        for position in (0, 7):
            with pytest.raises(InvalidInput, match="it can be refilled from 1 to 6"):
                refill(log.store, "out", position)


# ---- The fence.


def test_of_two_senders_the_one_that_is_behind_is_refused(prefix: str, broker: Broker) -> None:
    def some(*numbers: int) -> list[Message]:
        return [Message(f"{prefix}.t.c.e{n % 2}", f"id{n}", {"ce-id": str(n)}, json.dumps(n).encode()) for n in numbers]

    assert broker.holds(prefix).last is None
    assert broker.publish_batch(prefix, some(1, 2, 3), after=0) == 3
    for stale in (0, 2, 4):
        with pytest.raises(BrokerMoved, match="holds another last message"):
            broker.publish_batch(prefix, some(4, 5), after=stale)
        with pytest.raises(BrokerMoved, match="holds another last message"):
            broker.publish_batch(prefix, some(4), after=stale)
    assert broker.publish_batch(prefix, some(4), after=3) == 4
    assert [json.loads(one.message.body) for one in everything(broker, prefix)] == [1, 2, 3, 4]


def test_a_stream_may_hold_several_relays(broker_url: str, prefix: str, broker: Broker) -> None:
    other = f"{prefix}x"
    for name in (prefix, other):
        assert broker.holds(name).messages == 0
        last = broker.publish_batch(name, [Message(f"{name}.t.c.e", f"{name}1", {}, b"1")], after=0)
        broker.publish_batch(name, [Message(f"{name}.t.c.e", f"{name}2", {}, b"2")], after=last)
    assert [broker.holds(name).messages for name in (prefix, other)] == [2, 2]
    broker.cut(prefix, 0)
    assert [broker.holds(name).messages for name in (prefix, other)] == [0, 2]


@pytest.mark.parametrize(("most", "events"), [(40, 150), (1, 4)])
def test_a_link_too_slow_for_a_page_gets_smaller_batches(
    url: str, broker_url: str, prefix: str, broker: Broker, monkeypatch: pytest.MonkeyPatch, most: int, events: int
) -> None:
    """Whatever takes longer than the time there is for an answer is as if it were larger than `most`."""
    publish = NatsBroker.publish_batch

    def slowly(self: NatsBroker, prefix: str, messages: Sequence[Message], *, after: int) -> int:
        if len(messages) > most:
            raise BrokerUnavailable("TimeoutError")
        return publish(self, prefix, messages, after=after)

    monkeypatch.setattr(NatsBroker, "publish_batch", slowly)
    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker_url) as log:
        counted(log, range(events))
        whole(log, platform, broker)


def test_what_cannot_be_reached_says_where_it_looked(connect: Callable[[str], Broker]) -> None:
    with pytest.raises(BrokerUnavailable, match=r"nats://127\.0\.0\.1:1 cannot be reached"):
        connect("nats://127.0.0.1:1/EVENTS").holds("out")


@on_both
def test_an_owner_that_slept_since_its_claim_believes_no_row_of_a_later_one(url: str) -> None:
    platform = shop(url, relay_of("out"))
    with platform.open() as log:
        checkpoints, [relay] = log.store.checkpoints, platform.relays
        checkpoints.register("out", "relay", 1, 0)
        slept = checkpoints.claim("out", "ann", 60.0)
        assert slept is not None
        checkpoints.reset("out")
        sender = cast(Sender, None)  # which it does not come to ask
        handler = relay_handler(
            relay, platform.types, log.store, sender, system_clock, nothing, threading.Event(), 60.0
        )
        with pytest.raises(Fenced):
            handler.begin(slept)
