"""Divided subscriptions: workers join, leave, die and freeze, the number of partitions changes; order per key holds."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random

import pytest

from everlog import Log
from everlog.app.rebuild import Rebuild
from everlog.core.errors import InvalidInput, Misconfigured
from everlog.processing.processor import processor
from everlog.projection.fold import Fold
from everlog.subscription.contract import Attendance, Claim, Progress
from everlog.subscription.partition import Slice, as_one, partition_name
from everlog.subscription.share import Share, fair_limit
from tests.following import sharing
from tests.following.parts import Counted, eventually, on_both
from tests.following.parts import rows as rows_of

LEASE = 1.0
DIVIDED = ("taken", "shares", "rows")


class WorkerProcess:
    def __init__(self, url: str, lease: float = LEASE) -> None:
        command = [sys.executable, "-m", "tests.following.sharing", url, str(lease)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        with self.process.stdout as said:
            self.owner = said.readline().strip()
        assert self.owner

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.send(signal.SIGTERM)
        assert self.process.wait(30) == 0


@contextmanager
def workers() -> Iterator[list[WorkerProcess]]:
    with ExitStack() as stack:
        running: list[WorkerProcess] = []
        stack.callback(_kill, running)
        yield running


def _kill(running: Sequence[WorkerProcess]) -> None:
    for one in running:
        one.process.kill()
        one.process.wait()


@contextmanager
def opened(url: str) -> Iterator[Log]:
    with sharing.platform.open(url) as log:
        with log.store.checkpoints.transaction(_setting_up(log), 0) as effects:
            effects.execute(sharing.NOTED)
        yield log


def _setting_up(log: Log) -> Claim:
    log.store.checkpoints.register("setup", "processor", 1, 0)
    claim = log.store.checkpoints.claim("setup", "the test", 10)
    assert claim is not None
    return claim


def append(log: Log, seed: str, events: int, keys: int = 40) -> None:
    """Numbered from 1 in each key."""
    random, acme = Random(seed), log.tenant("acme")
    numbers = dict(rows_of(log, "SELECT key, max(n) FROM noted GROUP BY key")) if events else {}
    numbers |= {key: n for key, n in _appended(log).items() if n > numbers.get(key, 0)}
    for _ in range(events):
        key = f"k{random.randrange(keys)}"
        numbers[key] = numbers.get(key, 0) + 1
        acme.append(f"s-{key}", Counted(key, numbers[key]))


def _appended(log: Log) -> dict[str, int]:
    return {e.data.key: e.data.n for e in log.tenant("acme").events(Counted)}


def partitions(log: Log, name: str) -> list[Progress]:
    return [one for one in log.store.checkpoints.progress() if one.subscription == name]


def owners(log: Log, name: str) -> list[str]:
    return [one.owner for one in partitions(log, name)]


def through(log: Log) -> None:
    """Until everything that is divided has seen what is in the log now."""
    head = log.head().position

    def seen() -> bool:
        known = as_one(log.store.checkpoints.progress())
        return all(name in known and known[name].position >= head for name in DIVIDED)

    eventually(seen)


def assert_once_and_in_order(log: Log) -> None:
    expected = {key: list(range(1, last + 1)) for key, last in _appended(log).items()}
    noted: dict[str, list[int]] = {}
    for key, n in rows_of(log, "SELECT key, n FROM noted ORDER BY key, place"):
        noted.setdefault(key, []).append(n)
    assert noted == expected
    sums = {key: sum(numbers) for key, numbers in expected.items()}
    assert dict(log.tenant("acme").all(sharing.shares)) == dict(sorted(sums.items()))
    assert dict(rows_of(log, "SELECT key, n FROM summed")) == sums


@on_both
def test_workers_share_partitions_evenly_as_they_join_and_leave(url: str) -> None:
    with opened(url) as log, workers() as running:
        for count, least in ((1, 4), (2, 2), (4, 1)):
            while len(running) < count:
                running.append(WorkerProcess(url))
            for name in DIVIDED:
                eventually(lambda name=name, least=least: _shares(log, name) == [least] * (4 // least))  # type: ignore[misc]
            append(log, f"join {count}", 30)
        running.pop().end()
        running.pop().end()
        for name in DIVIDED:
            eventually(lambda name=name: _shares(log, name) == [2, 2])  # type: ignore[misc]
        append(log, "left", 30)
        through(log)
        assert_once_and_in_order(log)
        assert len(rows_of(log, "SELECT DISTINCT owner FROM noted")) > 1


def _shares(log: Log, name: str) -> list[int]:
    held = owners(log, name)
    return sorted((held.count(owner) for owner in {*held} - {""}), reverse=True) if "" not in held else []


@on_both
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_the_work_of_one_that_dies_or_freezes_moves_within_the_lease(url: str, death: int) -> None:
    with opened(url) as log, workers() as running:
        running += [WorkerProcess(url), WorkerProcess(url)]
        eventually(lambda: _shares(log, "taken") == [2, 2])
        append(log, "before", 60)
        running[0].send(death)
        append(log, "after", 60)
        through(log)
        eventually(lambda: set(owners(log, "taken")) == {running[1].owner})
        if death == signal.SIGSTOP:
            running[0].send(signal.SIGCONT)
            append(log, "again", 60)
            eventually(lambda: _shares(log, "taken") == [2, 2])
            through(log)
        assert_once_and_in_order(log)


@on_both
def test_the_number_of_partitions_changes_while_they_work(url: str) -> None:
    with opened(url) as log, workers() as running:
        running += [WorkerProcess(url), WorkerProcess(url)]
        eventually(lambda: _shares(log, "taken") == [2, 2])
        for parts in (7, 1, 3):
            append(log, f"before {parts}", 40)
            for name in DIVIDED:
                log.store.checkpoints.divide(name, parts)
            append(log, f"into {parts}", 40)
            through(log)
            for name in DIVIDED:
                eventually(lambda name=name, parts=parts: len(partitions(log, name)) == parts)  # type: ignore[misc]
        assert_once_and_in_order(log)


@on_both
def test_a_rebuild_of_a_divided_projection_makes_the_same(url: str) -> None:
    with opened(url) as log:
        append(log, "rebuilt", 200)
        with sharing.platform.open(url, worker=True):
            through(log)
        for projection in (sharing.shares, sharing.rows):
            assert Rebuild(projection, sharing.platform.types, log.store).run(lambda progress: None) == 200
            assert len(partitions(log, projection.name)) == sharing.PARTITIONS
        assert_once_and_in_order(log)


@on_both
def test_who_waits_for_a_divided_projection_reads_its_own_write(url: str) -> None:
    with opened(url) as log, sharing.platform.open(url, worker=True) as working:
        for reader in (log, working):
            acme = reader.tenant("acme")
            for number in range(20):
                done = acme.append(f"s-w{number}", Counted(f"w{number}", 1))
                acme.wait_for(sharing.shares, position=done.position)
                assert acme.get(sharing.shares, f"w{number}") >= 1


# ---- The parts of it.


def test_a_key_is_in_one_partition_and_stays_there() -> None:
    keys = [f"acme/order-{number}" for number in range(1000)] + ["", "\udc80", "ключ"]
    for key in keys:
        assert [Slice(part, 7).holds(key) for part in range(7)].count(True) == 1
        assert Slice().holds(key)
    counts = [sum(Slice(part, 4).holds(key) for key in keys) for part in range(4)]
    assert min(counts) > 200


def test_partitions_have_names_of_their_own() -> None:
    assert partition_name("mail", 0, 1) == "mail"
    assert [partition_name("mail", part, 2) for part in range(2)] == ["mail/0of2", "mail/1of2"]


def test_a_share_takes_no_more_than_its_limit_and_gives_what_came_last() -> None:
    share = Share()
    assert share.may_own("a")
    assert not share.may_own("b")
    share.limit = 2
    assert share.may_own("b")
    share.limit = 1
    assert (share.may_own("a"), share.may_own("b")) == (True, False)
    share.let_go("b")
    share.let_go("a")
    assert share.may_own("b")


@pytest.mark.parametrize(
    ("partitions", "limits"), [(4, [2, 1, 1]), (6, [2, 2, 2]), (2, [1, 1, 0]), (8, [3, 3, 2])], ids=str
)
def test_all_partitions_are_shared_out_and_nobody_has_two_more_than_another(partitions: int, limits: list[int]) -> None:
    assert [fair_limit(partitions, Attendance(3, before)) for before in range(3)] == limits


@pytest.mark.parametrize("partitions", [0, 257])
def test_no_number_of_partitions_but_1_to_256_is_declared(partitions: int) -> None:
    with pytest.raises(Misconfigured, match="1 to 256"):
        Fold("f", initial=0, partitions=partitions)
    with pytest.raises(Misconfigured, match="1 to 256"):
        processor("p", on=Counted, partitions=partitions)


def test_dividing_what_is_being_divided_says_what_it_waits_for() -> None:
    with sharing.platform.open("memory:") as log:
        log.store.checkpoints.register("taken", "processor", 1, 0, parts=2)
        log.store.checkpoints.divide("taken", 3)
        with pytest.raises(InvalidInput, match="its earlier partitions go on up to position 0"):
            log.store.checkpoints.divide("taken", 4)
