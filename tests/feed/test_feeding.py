"""Processors fed by a broker: the same handlers, lanes and inbox as on the log, and each effect once (T14, T17)."""

from __future__ import annotations

import threading
from dataclasses import replace
from random import Random

from everlog import (
    AfterPosition,
    Backoff,
    FromNow,
    FromTime,
    LaneFilter,
    LaneOperator,
    Log,
    Platform,
    Recorded,
    Retry,
    Transaction,
    processor,
)
from everlog.core.clock import moment
from everlog.relay.run import source_of
from everlog.store.query import Filter
from tests.feed.parts import Copy, Counted, Seen, events, eventually, on_both, progress_of, rows, stored

KEYS = ("a", "b", "c")
QUICK = Retry(attempts=2, backoff=Backoff(first=0.001, longest=0.001))


@processor("taken", on=Counted, inbox=True)
def taken(e: Recorded[Counted], tx: Transaction) -> None:
    """Counts twice what it is given twice, and shows in which order it came."""
    tx.execute("CREATE TABLE IF NOT EXISTS taken (place INTEGER, position INTEGER, key TEXT)")
    [(place,)] = tx.execute("SELECT count(*) FROM taken")
    tx.execute("INSERT INTO taken VALUES (?, ?, ?)", (place, e.position, e.data.key))


def in_order(log: Log) -> list[int]:
    return [position for (position,) in rows(log, "SELECT position FROM taken ORDER BY place")]


def assert_once(log: Log, last: int) -> None:
    """Each of the events up to there had its effect once, and those of a key in their order."""
    found = rows(log, "SELECT key, position FROM taken ORDER BY place")
    assert sorted(position for _, position in found) == list(range(1, last + 1))
    for key in {key for key, _ in found}:
        mine = [position for one, position in found if one == key]
        assert mine == sorted(mine)


# ---- What a sound copy gives.


@on_both
def test_events_reach_a_processor_in_order_for_each_key(copy: Copy, url: str) -> None:
    seen = Seen()
    copy.send(events(1, 300))
    with copy.fed(Platform(url, seen.processor()), url):
        seen.until(300)
    assert sorted(seen.positions) == list(range(1, 301))
    for key in KEYS:
        assert seen.of(key) == sorted(seen.of(key))


@on_both
def test_what_is_sent_later_is_handled_soon(copy: Copy, url: str) -> None:
    seen = Seen()
    with copy.fed(Platform(url, seen.processor()), url) as log:
        for last in (1, 2, 50):
            copy.send(events(len(seen.positions) + 1, last))
            seen.until(last)
        assert log.worker is not None
        assert log.worker.drain(20, everything=True)
        assert progress_of(log, "seen").position == 50
    assert sorted(seen.positions) == list(range(1, 51))


@on_both
def test_another_worker_goes_on_where_one_stopped(copy: Copy, url: str) -> None:
    seen = Seen()
    copy.send(events(1, 150))
    for last in (150, 151, 300):
        copy.send(events(max(151, len(seen.positions) + 1), last))
        with copy.fed(Platform(url, seen.processor()), url):
            seen.until(last)
    assert sorted(seen.positions) == list(range(1, 301))


def test_only_the_types_of_a_processor_are_fetched(copy: Copy, url: str) -> None:
    seen = Seen()
    other = stored(1, "a")._replace(type="tally.noted", data=b'{"text":"hello"}')
    copy.send([other, *events(2, 5)])
    with copy.fed(Platform(url, seen.processor()), url):
        seen.until(4)
    assert sorted(seen.positions) == [2, 3, 4, 5]


@on_both
def test_partitions_share_the_keys_and_not_the_events(copy: Copy, url: str) -> None:
    copy.send([stored(position, f"k{position % 17}") for position in range(1, 201)])
    shared = replace(taken, partitions=3)
    with copy.fed(Platform(url, shared), url) as log:
        eventually(lambda: len(log.store.checkpoints.progress()) == 3)
        eventually(lambda: _count(log) == 200)
        copy.send([stored(position, f"k{position % 17}") for position in range(100, 301)])
        eventually(lambda: _count(log) == 300)
        assert_once(log, 300)
        assert list(log.store.desk.lanes.find(LaneFilter("taken"))) == []


# ---- Where it begins.


def test_it_begins_where_the_processor_says(copy: Copy, url: str) -> None:
    late, now, after = Seen("late"), Seen("now"), Seen("after")
    since = FromTime(moment(stored(8, "a").recorded_at))
    parts = [
        late.processor(start=since), now.processor(start=FromNow()), after.processor(start=AfterPosition(5)),
    ]  # fmt: skip
    copy.send(events(1, 10))
    with copy.fed(Platform(url, *parts), url) as log:
        late.until(3)
        after.until(5)
        eventually(lambda: log.store.desk.feeds.get("now"))
    copy.send(events(11, 12))
    with copy.fed(Platform(url, *parts), url):
        late.until(5)
        after.until(7)
        now.until(2)
    assert sorted(late.positions) == [8, 9, 10, 11, 12]
    assert sorted(after.positions) == [6, 7, 8, 9, 10, 11, 12]
    assert sorted(now.positions) == [11, 12]


@on_both
def test_a_worker_on_the_log_and_one_on_the_broker_take_turns(copy: Copy, url: str) -> None:
    seen = Seen()
    platform = Platform(url, seen.processor())
    with platform.open(url, worker=True) as log:
        for one in events(1, 6):
            log.tenant("acme").append(f"tally-{KEYS[one.position % 3]}", Counted(KEYS[one.position % 3]))
        seen.until(6)
        copies, source = list(log.store.read(Filter(None))), source_of(log.store.head().log_id)
    copy.send(copies, source=source)
    with copy.fed(platform, url) as log:
        assert log.worker is not None
        assert log.worker.drain(20)
        assert len(seen.positions) == 6
        log.tenant("acme").append("tally-a", Counted("a"))
        copy.send(list(log.store.read(Filter(None), after=6)), source=source)
        seen.until(7)
    with platform.open(url, worker=True) as log:
        log.tenant("acme").append("tally-a", Counted("a"))
        seen.until(8)
    assert sorted(seen.positions) == [1, 2, 3, 4, 5, 6, 7, 8]


# ---- Duplicates, refills, rollbacks.


@on_both
def test_an_event_that_comes_often_has_its_effect_once(copy: Copy, url: str) -> None:
    random = Random(14)
    sent = [one for one in events(1, 200) for _ in range(random.randint(1, 5))]
    copy.send(sent)
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) == 200)
        copy.send(sent)  # long after the broker's own window
        copy.send(events(201, 202))
        eventually(lambda: _count(log) >= 202)
        assert_once(log, 202)


@on_both
def test_an_event_that_comes_again_is_not_handled_again(copy: Copy, url: str) -> None:
    """Also where the effect is outside, and nothing but our own memory can tell."""
    seen = Seen()
    copy.send(events(1, 20))
    with copy.fed(Platform(url, seen.processor()), url) as log:
        seen.until(20)
        eventually(lambda: progress_of(log, "seen").position == 20)
        copy.send([*events(1, 20), *events(21, 22)])
        seen.until(22)
        assert list(log.store.desk.lanes.find(LaneFilter("seen"))) == []
    assert sorted(seen.positions) == list(range(1, 23))


@on_both
def test_a_copy_that_was_wiped_and_filled_again_is_read_through(copy: Copy, url: str) -> None:
    copy.send(events(1, 120))
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) == 120)
        copy.delete_stream()
        copy.send(events(1, 130))
        eventually(lambda: _count(log) >= 130)
        assert_once(log, 130)


@on_both
def test_a_copy_that_was_rolled_back_and_filled_again_loses_nothing(copy: Copy, url: str) -> None:
    """The same sequences hold other messages by now: before, duplicates lay among them."""
    copy.send([*events(1, 30), *events(1, 30), *events(31, 50)])
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) == 50)
    copy.delete_stream()
    copy.send(events(1, 20))
    with copy.fed(Platform(url, taken), url) as log:
        assert log.worker is not None
        assert log.worker.drain(20)
    copy.send(events(21, 90))
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) >= 90)
        assert_once(log, 90)


def test_a_tail_that_is_cut_while_it_is_read_is_read_again(copy: Copy, url: str) -> None:
    copy.send(events(1, 40))
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) == 40)
        copy.cut(25)
        copy.send(events(26, 60))
        eventually(lambda: _count(log) >= 60)
        assert_once(log, 60)


# ---- Order that was lost at the broker.


def test_what_was_swapped_within_a_page_is_put_in_order(copy: Copy, url: str) -> None:
    random = Random(3)
    shuffled = events(1, 60)
    random.shuffle(shuffled)
    copy.send(shuffled)
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) == 60)
        assert_once(log, 60)


@on_both
def test_an_event_that_comes_behind_later_ones_waits_for_a_person(copy: Copy, url: str) -> None:
    hole = [one for one in events(1, 20) if one.position not in (7, 8)]
    copy.send(hole)
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: _count(log) == 18)
        copy.send(events(1, 22))
        lanes = eventually(lambda: list(log.store.desk.lanes.find(LaneFilter("taken"))))
        eventually(lambda: progress_of(log, "taken").position == 22)
        assert _count(log) == 19  # the last one lies behind one of them
        lanes = list(log.store.desk.lanes.find(LaneFilter("taken")))
        assert {lane.first for lane in lanes} == {7, 8}
        assert all(lane.error.startswith("it came after later events") for lane in lanes)
        operator = LaneOperator(log.store, "ann")
        operator.skip("taken", lanes[1].key, "nobody needs it")
        operator.retry(LaneFilter("taken", lanes[0].key))
        eventually(lambda: not list(log.store.desk.lanes.find(LaneFilter("taken"))))
        copy.send(events(1, 23))
        eventually(lambda: progress_of(log, "taken").position == 23)
        assert sorted(in_order(log)) == [n for n in range(1, 24) if n != lanes[1].first]


@on_both
def test_duplicates_and_reordering_leave_every_effect_there_once(copy: Copy, url: str) -> None:
    """T14: each event one to five times, swapped within a window, sent again later; then what is late is let go."""
    random, last = Random(14), 600
    several = [one for one in events(1, last) for _ in range(random.randint(1, 5))]
    places = sorted(range(len(several)), key=lambda place: place + random.uniform(0, 20))
    copy.send([several[place] for place in places])
    with copy.fed(Platform(url, taken), url) as log:
        eventually(lambda: progress_of(log, "taken").position == last)
        copy.send([several[place] for place in places[:500]])
        copy.send(events(last + 1, last + 1))
        eventually(lambda: progress_of(log, "taken").position == last + 1)
        LaneOperator(log.store, "ann").retry(LaneFilter("taken"))
        eventually(lambda: not list(log.store.desk.lanes.find(LaneFilter("taken"))))
        found = rows(log, "SELECT position FROM taken")
        assert sorted(found) == [(position,) for position in range(1, last + 2)]


# ---- Lanes.


@on_both
def test_a_failing_key_lies_in_a_lane_with_its_events_and_others_go_on(copy: Copy, url: str) -> None:
    healthy, seen = threading.Event(), Seen()

    def fail(e: Recorded[Counted]) -> None:
        if e.data.key == "a" and not healthy.is_set():
            raise ValueError("boom")

    platform = Platform(url, seen.processor(fail, retry=QUICK))
    copy.send(events(1, 90))
    with copy.fed(platform, url) as log:
        seen.until(60)
        eventually(lambda: [lane.status for lane in log.store.desk.lanes.find(LaneFilter("seen"))] == ["parked"])
        assert rows(log, "SELECT count(*) FROM everlog_received") == [(30,)]
        [lane] = log.store.desk.lanes.find(LaneFilter("seen"))
        assert [one.position for one in LaneOperator(log.store, None).events("seen", lane.key)] == list(range(3, 91, 3))
        assert log.head().position == 0
    copy.delete_stream()
    healthy.set()
    with copy.fed(platform, url) as log:
        LaneOperator(log.store, None).retry(LaneFilter("seen"))
        seen.until(90)
        eventually(lambda: rows(log, "SELECT count(*) FROM everlog_received") == [(0,)])
        copy.send(events(1, 91))
        seen.until(91)
    assert seen.of("a") == list(range(3, 91, 3))
    assert sorted(seen.positions) == list(range(1, 92))


def _count(log: Log) -> int:
    return len(log.store.desk.inbox.known("taken", 1, range(1, 400)))
