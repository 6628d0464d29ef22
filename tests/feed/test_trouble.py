"""What a broker, or a log behind it, can do to those it feeds: noticed, waited out, or refused with what to do."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from everlog import Backoff, InvalidInput, LaneFilter, LaneOperator, Misconfigured, NotFound, Platform, Recorded, Retry
from everlog.adapters.nats import NatsBroker
from everlog.app.feeding import accept
from everlog.relay.contract import BrokerUnavailable, Consumer, Message
from everlog.testing.nats import Cluster, running
from tests.feed.parts import SOURCE, Copy, Counted, Seen, events, eventually, on_both, progress_of, stored

QUICK = Retry(attempts=1_000, backoff=Backoff(first=0.001, longest=0.01))


# ---- Another log, or another history of it.


@on_both
def test_a_log_that_was_restored_stops_a_processor_until_a_person_says_what_it_shares(copy: Copy, url: str) -> None:
    seen = Seen()
    platform = Platform(url, seen.processor())
    copy.send(events(1, 20))
    with copy.fed(platform, url):
        seen.until(20)
    copy.cut(15)
    copy.send(events(16, 25), incarnation=2)  # a backup of position 15 went on
    with copy.fed(platform, url) as log:
        eventually(lambda: progress_of(log, "seen").status == "failed")
        error = progress_of(log, "seen").error
        assert "incarnation 2" in error
        assert f"everlog processor accept seen --source {SOURCE} --incarnation 2 --after POSITION" in error
        assert len(seen.positions) == 20
        accept(log.store, "seen", source=SOURCE, incarnation=2, after=15)
        seen.until(30)
        eventually(lambda: progress_of(log, "seen").position == 25)
    assert sorted(seen.positions[20:]) == list(range(16, 26))
    copy.delete_stream()
    copy.send(events(1, 26), incarnation=2)
    with copy.fed(platform, url):
        seen.until(31)
    assert seen.positions[30:] == [26]


def test_another_log_is_not_taken_for_this_one(copy: Copy, url: str) -> None:
    seen = Seen()
    copy.send(events(1, 3))
    copy.send(events(4, 5), source="everlog:another")
    with copy.fed(Platform(url, seen.processor()), url) as log:
        eventually(lambda: progress_of(log, "seen").status == "failed")
        assert "everlog:another" in progress_of(log, "seen").error
    assert sorted(seen.positions) == [1, 2, 3]


def test_what_is_accepted_must_make_sense(copy: Copy, url: str) -> None:
    def fail(e: Recorded[Counted]) -> None:
        raise ValueError("boom")

    platform = Platform(url, Seen().processor(fail, retry=Retry(attempts=1)))
    copy.send(events(1, 3))
    with copy.fed(platform, url) as log:
        eventually(lambda: len(list(log.store.desk.lanes.find(LaneFilter("seen")))) == 3)
        with pytest.raises(NotFound, match="no processor 'other'"):
            accept(log.store, "other", source=SOURCE, incarnation=2, after=1)
        with pytest.raises(InvalidInput, match="1 or more"):
            accept(log.store, "seen", source=SOURCE, incarnation=0, after=1)
        with pytest.raises(InvalidInput, match="retry or skip them first"):
            accept(log.store, "seen", source=SOURCE, incarnation=2, after=2)
        for lane in list(log.store.desk.lanes.find(LaneFilter("seen"))):
            LaneOperator(log.store, "ann").skip("seen", lane.key, "not needed")
        accept(log.store, "seen", source=SOURCE, incarnation=2, after=3)


# ---- Messages that are no events of ours.


def test_a_message_that_no_relay_sent_is_a_dead_letter(copy: Copy, url: str) -> None:
    seen = Seen()
    foreign = copy.message(stored(1, "a"))
    copy.send(events(1, 2))
    copy.send_messages([type(foreign)(foreign.subject, "x", {"ce-specversion": "1.0"}, b"nonsense")])
    copy.send(events(3, 4))
    with copy.fed(Platform(url, seen.processor()), url):
        seen.until(4)
        [letter] = eventually(lambda: copy.broker.dead_letters())
    assert letter.message.body == b"nonsense"
    assert letter.reason.startswith("no event of a relay")
    assert sorted(seen.positions) == [1, 2, 3, 4]


def test_a_message_that_could_not_be_put_aside_is_read_again(
    copy: Copy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, away, bury = Seen(), [BrokerUnavailable("it flickers")] * 2, NatsBroker.dead_letter

    def flickers(self: NatsBroker, *given: Any) -> None:
        if away:
            raise away.pop()
        bury(self, *given)

    monkeypatch.setattr(NatsBroker, "dead_letter", flickers)
    foreign = copy.message(stored(1, "a"))
    copy.send(events(1, 2))
    copy.send_messages([type(foreign)(foreign.subject, "x", {}, b"nonsense")])
    copy.send(events(3, 4))
    with copy.fed(Platform(url, seen.processor()), url):
        seen.until(4)
        assert [one.body for one in _dead(copy)] == [b"nonsense"]
    assert sorted(seen.positions) == [1, 2, 3, 4]


def test_events_that_were_sent_in_parts_are_refused(copy: Copy, url: str) -> None:
    from everlog.relay.cloudevents import message

    seen = Seen()
    whole = copy.message(stored(3, "a"))
    copy.send(events(1, 2))
    copy.send_messages([message(stored(3, "a"), whole.subject, source=SOURCE, incarnation=1, part=1)])
    with copy.fed(Platform(url, seen.processor()), url) as log:
        eventually(lambda: progress_of(log, "seen").status == "failed")
        assert "sent in parts" in progress_of(log, "seen").error
    assert sorted(seen.positions) == [1, 2]


def _dead(copy: Copy) -> list[Message]:
    return [one.message for one in copy.broker.dead_letters()]


# ---- What the broker loses, forgets, or gives to somebody else.


def test_messages_that_the_broker_let_go_of_unseen_are_missed(nats: Cluster, url: str) -> None:
    seen = Seen()
    platform = Platform(url, seen.processor())
    with Copy.at(nats.url("FORGETFUL", max_bytes="20000")) as copy:
        copy.send(events(1, 10))
        with copy.fed(platform, url):
            seen.until(10)
        for first in range(11, 200, 20):
            copy.send(events(first, first + 19))
        with copy.fed(platform, url) as log:
            eventually(lambda: progress_of(log, "seen").status == "failed")
            assert "everlog relay refill forgetful --from 10" in progress_of(log, "seen").error
    assert len(seen.positions) == 10


def test_what_somebody_else_fetched_in_our_name_is_read_all_the_same(copy: Copy, url: str) -> None:
    holds, go_on, seen = threading.Event(), threading.Event(), Seen()

    def hold(e: Recorded[Counted]) -> None:
        holds.set()
        assert go_on.wait(30)

    copy.send(events(1, 2))
    with copy.fed(Platform(url, seen.processor(hold)), url) as log:
        assert holds.wait(30)
        claim = eventually(lambda: [one for one in log.store.checkpoints.progress() if one.owner])[0]
        fed = log.worker.feeding  # type: ignore[union-attr]
        name = eventually(lambda: fed._pages["seen"].place._consumer).name  # type: ignore[union-attr]
        assert f"-{claim.epoch}-" in name
        copy.send(events(3, 10))
        subjects = fed._pages["seen"].place._subjects  # type: ignore[union-attr]
        thief = Consumer(name, subjects, ack_seconds=30.0, unsettled=200, idle_seconds=300.0, in_order=True)
        eventually(lambda: copy.broker.fetch(thief, limit=3, max_bytes=10_000, wait=1))
        go_on.set()
        seen.until(10)
    assert seen.of("a") == [3, 6, 9]
    assert sorted(seen.positions) == list(range(1, 11))


# ---- A broker that is away.


def test_lanes_are_tried_while_the_broker_is_away(url: str) -> None:
    healthy, seen = threading.Event(), Seen()

    def fail(e: Recorded[Counted]) -> None:
        if e.data.key == "a" and not healthy.is_set():
            raise ValueError("boom")

    with running() as cluster, Copy.at(cluster.url()) as copy:
        copy.send(events(1, 9))
        with copy.fed(Platform(url, seen.processor(fail, retry=QUICK)), url) as log:
            seen.until(6)
            eventually(lambda: list(log.store.desk.lanes.find(LaneFilter("seen"))))
            owner = progress_of(log, "seen").epoch
            cluster.kill()
            assert log.worker is not None
            assert log.worker.feeding is not None
            eventually(log.worker.feeding.trouble)
            healthy.set()
            seen.until(9)
            cluster.start()
            copy.send(events(10, 12))
            seen.until(12)
            assert progress_of(log, "seen").epoch == owner
    assert seen.of("a") == [3, 6, 9, 12]


def test_a_broker_that_never_was_there_is_waited_for(url: str) -> None:
    seen = Seen()
    with running() as cluster:
        copy_url = cluster.url()
        cluster.stop()
        with Platform(url, seen.processor()).open(
            url, worker=True, fed_from=copy_url, relay="events", lease_seconds=0.4
        ) as log:
            assert log.worker is not None
            assert log.worker.feeding is not None
            eventually(log.worker.feeding.trouble)
            cluster.start()
            with Copy.at(copy_url) as copy:
                copy.send(events(1, 3))
                seen.until(3)
                eventually(lambda: not log.worker.feeding.trouble())  # type: ignore[union-attr]


def test_times_are_those_of_the_log(copy: Copy, url: str) -> None:
    times: list[datetime] = []
    copy.send([stored(1, "a")])
    seen = Seen()
    with copy.fed(Platform(url, seen.processor(lambda e: times.append(e.recorded_at))), url):
        seen.until(1)
    assert times == [datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=1)]


def test_closing_does_not_wait_for_a_broker_that_is_away(url: str) -> None:
    seen = Seen()
    with running() as cluster:
        away = cluster.url()
    log = Platform(url, seen.processor()).open(url, worker=True, fed_from=away, relay="events", lease_seconds=0.4)
    assert log.worker is not None
    assert log.worker.feeding is not None
    eventually(log.worker.feeding.trouble)
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 8


def test_only_a_worker_can_be_fed(url: str) -> None:
    with pytest.raises(Misconfigured, match="worker=True"):
        Platform(url, Seen().processor()).open(fed_from="nats://127.0.0.1:1/EVENTS")
