"""Which log a processor is fed with: what a new incarnation shares with the last, and two logs that are not one."""

from __future__ import annotations

from dataclasses import replace

from everlog import FromNow, Log, Platform
from everlog.app.feeding import accept
from everlog.relay.contract import BrokerUnavailable
from everlog.subscription.partition import Slice
from tests.feed.parts import (
    SOURCE,
    TENANT,
    Copy,
    Counted,
    Seen,
    events,
    eventually,
    on_both,
    progress_of,
    rows,
    stored,
)
from tests.feed.test_feeding import taken


def key_in(part: int) -> str:
    """A key of one of two partitions."""
    return next(key for n in range(100) if Slice(part, 2).holds(f"{TENANT}/tally-{(key := f'k{n}')}"))


def positions(log: Log) -> list[int]:
    return sorted(position for (position,) in rows(log, "SELECT position FROM taken"))


@on_both
def test_what_a_partition_had_not_reached_is_new_whoever_sent_it(copy: Copy, url: str) -> None:
    """`accept` says up to where two incarnations are the same, not that everybody came so far."""
    keys = key_in(0), key_in(1)
    divided = replace(taken, partitions=2)

    def sent(first: int, last: int, incarnation: int = 1) -> None:
        copy.send([stored(n, keys[n % 2]) for n in range(first, last + 1)], incarnation=incarnation)

    sent(1, 4)
    with copy.fed(Platform(url, divided), url) as log:
        eventually(lambda: len(positions(log)) == 4 if log.store.desk.inbox.known("taken", 1, [4]) else False)
    sent(5, 12)
    sent(11, 14, incarnation=2)  # a backup of position 10 went on
    with Platform(url, divided).open() as log:
        assert log.store.checkpoints.claim("taken/1of2", "somebody who is slow", 60.0)
    with copy.fed(Platform(url, divided), url) as log:
        eventually(lambda: any(one.status == "failed" for one in log.store.checkpoints.progress()))
        assert positions(log) == [1, 2, 3, 4, 6, 8, 10, 12]
        accept(log.store, "taken", source=SOURCE, incarnation=2, after=10)
        eventually(lambda: len(positions(log)) == 15)
        eventually(lambda: all(one.position >= 13 for one in log.store.checkpoints.progress()))
        # 12 lay behind what both share: what was there before is done, and what is there now is new.
        assert positions(log) == [*range(1, 13), 12, 13, 14]


@on_both
def test_a_worker_on_the_log_leaves_what_is_fed_with_another_log(copy: Copy, url: str) -> None:
    seen = Seen()
    platform = Platform(url, seen.processor())
    copy.send(events(1, 3))
    with copy.fed(platform, url) as log:
        seen.until(3)
        eventually(lambda: progress_of(log, "seen").position == 3)
    with platform.open(url, worker=True) as log:
        for _ in range(9):
            log.tenant(TENANT).append("tally-a", Counted("a"))
        assert log.worker is not None
        assert log.worker.drain(20, everything=True)
        assert log.worker.elsewhere == {"seen": SOURCE}
        assert log.worker.followers == {}
        assert (progress_of(log, "seen").position, progress_of(log, "seen").owner) == (3, "")
    copy.send(events(4, 5))
    with copy.fed(platform, url):
        seen.until(5)
    assert sorted(seen.positions) == [1, 2, 3, 4, 5]


@on_both
def test_one_that_followed_the_log_is_not_fed_with_another_by_chance(copy: Copy, url: str) -> None:
    platform = Platform(url, taken)
    with platform.open(url, worker=True) as log:
        for _ in range(4):
            log.tenant(TENANT).append("tally-a", Counted("a"))
        eventually(lambda: progress_of(log, "taken").position == 4)
    copy.send(events(1, 6))
    with copy.fed(platform, url) as log:
        eventually(lambda: progress_of(log, "taken").status == "failed")
        advice = f"everlog processor accept taken --source {SOURCE} --incarnation 1 --after 0"
        assert advice in progress_of(log, "taken").error
        accept(log.store, "taken", source=SOURCE, incarnation=1, after=0)
        eventually(lambda: progress_of(log, "taken").position == 6)
        assert positions(log) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 6]


@on_both
def test_from_now_on_means_so_when_all_is_sent_again(copy: Copy, url: str) -> None:
    seen = Seen()
    platform = Platform(url, seen.processor(start=FromNow()))
    copy.send(events(1, 10))
    with copy.fed(platform, url) as log:
        eventually(lambda: log.store.desk.feeds.get("seen"))
    copy.delete_stream()
    copy.send(events(1, 12))
    with copy.fed(platform, url):
        seen.until(2)
    assert sorted(seen.positions) == [11, 12]


@on_both
def test_what_a_dead_worker_owns_is_waited_for(copy: Copy, url: str) -> None:
    seen = Seen()
    platform = Platform(url, seen.processor())
    copy.send(events(1, 2))
    with copy.fed(platform, url) as log:
        seen.until(2)
        eventually(lambda: progress_of(log, "seen").position == 2)
        assert log.worker is not None
        assert log.worker.drain(20, everything=True)
    copy.send(events(3, 5))
    with platform.open(url) as log:
        assert log.store.checkpoints.claim("seen", "somebody who died", 1.5)
    with copy.fed(platform, url) as log:
        assert log.worker is not None
        eventually(lambda: log.worker.followers["seen"].owns is False)  # type: ignore[union-attr]
        assert not log.worker.drain(0.1, everything=True)
        assert log.worker.drain(20, everything=True)
        assert sorted(seen.positions) == [1, 2, 3, 4, 5]


@on_both
def test_what_another_worker_is_through_with_is_not_waited_for(copy: Copy, url: str) -> None:
    """Also behind messages that were nothing to it: copies, and other types."""
    seen = Seen()
    platform = Platform(url, seen.processor())
    other = stored(6, "a")._replace(type="tally.noted", data=b'{"text":"hello"}')
    copy.send([*events(1, 5), *events(1, 5), other])
    with copy.fed(platform, url, lease=30.0) as owner:
        seen.until(5)
        with copy.fed(platform, url, lease=30.0) as log:
            assert log.worker is not None
            assert log.worker.drain(20, everything=True)
            assert log.worker.followers["seen"].owns is False
            fed = log.worker.feeding
            assert fed is not None
            fed._pages["seen"].place.trouble = BrokerUnavailable("of a time when it was ours")
            assert fed.trouble() == ""
        assert owner.worker is not None
        assert owner.worker.owner == progress_of(owner, "seen").owner
