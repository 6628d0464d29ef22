"""Rebuilding: from zero with progress, stopped, cut off and resumed; equal to the live model byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from everlog import (
    AfterPosition,
    EverlogError,
    Fold,
    Log,
    Platform,
    Recorded,
    SqlProjection,
    StoreUnavailable,
    SubscriptionFailed,
    Transaction,
    processor,
)
from everlog.app import rebuild as rebuilding
from everlog.app.following import Projection
from everlog.app.rebuild import Rebuild, RebuildProgress
from tests.following.parts import (
    ADD,
    LEASE,
    TABLE,
    Counted,
    Noted,
    append_many,
    counted,
    counter,
    eventually,
    failed,
    on_both,
    progress_of,
    rows,
    settled,
    tally,
)

MakePlatform = Callable[..., Platform]


@pytest.fixture
def at(url: str) -> MakePlatform:
    """Platforms on one log."""
    return lambda *parts: Platform(url, Counted, Noted, *parts)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of ten events, saved every twenty-five."""
    monkeypatch.setattr(rebuilding, "REBUILD_PAGE", 10)
    monkeypatch.setattr(rebuilding, "SAVE_EVERY", 25)


def rebuild(
    platform: Platform,
    log: Log,
    projection: Projection,
    progress: Callable[[RebuildProgress], None] = lambda _: None,
    *,
    resume: bool = False,
) -> int:
    return Rebuild(projection, platform.types, log.store).run(progress, resume=resume)


def dump(log: Log) -> list[Any]:
    """Every byte that projections made."""
    found = rows(log, "SELECT * FROM everlog_fold ORDER BY projection, version, tenant, key")
    with suppress(EverlogError):  # not every test has the table
        found += rows(log, "SELECT * FROM counted ORDER BY tenant, key")
    return found


KEYS = [f"k{number}" for number in range(7)]


@on_both
@pytest.mark.usefixtures("small_pages")
def test_a_rebuilt_model_equals_the_live_one_byte_for_byte(at: MakePlatform) -> None:
    fold, table = tally(), counter()
    platform = at(fold, table)
    with platform.open(worker=True) as log:
        for tenant in ("acme", "globex"):
            append_many(log.tenant(tenant), KEYS, 9)
        settled(log)
        live = dump(log)
    with platform.open() as log:
        for projection in (fold, table):
            assert rebuild(platform, log, projection) == log.head().position
        assert dump(log) == live
        assert len(live) == 2 * 2 * len(KEYS)


@pytest.mark.usefixtures("small_pages")
def test_it_tells_how_far_it_is(at: MakePlatform) -> None:
    fold = tally()
    platform = at(fold)
    seen: list[RebuildProgress] = []
    with platform.open() as log:
        append_many(log.tenant(), ["a"], 45)
        log.tenant().append("s-1", *[Noted()] * 5)
        assert rebuild(platform, log, fold, seen.append) == 50
    assert [progress.position for progress in seen] == [0, 10, 20, 30, 40, 50]
    assert {progress.total for progress in seen} == {50}
    assert all(progress.rate > 0 and progress.seconds_left > 0 for progress in seen[1:-1])
    assert (seen[-1].rate > 0, seen[-1].seconds_left) == (True, 0.0)


def test_an_empty_log_is_rebuilt_too(at: MakePlatform) -> None:
    fold, table = tally(), counter()
    platform = at(fold, table)
    seen: list[RebuildProgress] = []
    with platform.open() as log:
        assert rebuild(platform, log, fold, seen.append) == rebuild(platform, log, table) == 0
        assert [(progress.position, progress.total) for progress in seen] == [(0, 0)]
        assert counted(log) == {}


@on_both
def test_what_an_earlier_build_made_goes_first(at: MakePlatform) -> None:
    """Also rows and states that no event accounts for."""
    fold, table = tally(), counter()
    platform = at(fold, table)
    with platform.open(worker=True) as log:
        append_many(log.tenant(), ["a"])
        settled(log)
        with log.store.checkpoints.transaction(_claim(log, "counter"), 1) as tx:
            tx.execute("INSERT INTO counted VALUES ('default', 'ghost', 9)")
            tx.execute("INSERT INTO everlog_fold VALUES ('tally', 1, 'default', 'ghost', ?, 1)", (b"9",))
    with platform.open() as log:
        rebuild(platform, log, fold)
        rebuild(platform, log, table)
        assert dict(log.tenant().all(fold)) == {"a": 1}
        assert counted(log) == {("default", "a"): 1}


def _claim(log: Log, name: str) -> Any:
    log.store.checkpoints.set_status(name, "running")
    return log.store.checkpoints.claim(name, "a test", 60.0)


@on_both
def test_it_takes_the_place_of_what_serves_and_leaves_what_is_kept(at: MakePlatform) -> None:
    for version in (1, 2):
        with at(tally(version=version)).open(worker=True) as log:
            append_many(log.tenant(), ["a"])
            settled(log)
    fold = tally(version=3)
    platform = at(fold)
    with platform.open() as log:
        assert [row[4] for row in dump(log)] == [b"1", b"2"]
        rebuild(platform, log, fold)
        assert [row[4] for row in dump(log)] == [b"1", b"2"]
        assert log.tenant().get(fold, "a") == 2
        assert {one.name: one.version for one in log.store.checkpoints.progress()} == {"tally": 3, "tally-": 1}


def test_it_begins_where_the_projection_does(at: MakePlatform) -> None:
    fold = tally(start=AfterPosition(2))
    platform = at(fold)
    with platform.open() as log:
        append_many(log.tenant(), ["a", "a", "a"])
        rebuild(platform, log, fold)
        assert log.tenant().get(fold, "a") == 1


# ---- Stopped, cut off, resumed.


@on_both
@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("make", [tally, counter])
def test_a_stopped_rebuild_keeps_what_is_built_and_goes_on_from_there(
    at: MakePlatform, make: Callable[[], Projection]
) -> None:
    projection = make()
    platform = at(projection)
    with platform.open() as log:
        append_many(log.tenant(), ["a", "b"], 30)
        first = Rebuild(projection, platform.types, log.store)
        assert first.run(lambda progress: first.stop() if progress.position >= 20 else None) == 20
        assert progress_of(log, projection.name).position == 20
        seen: list[int] = []
        assert rebuild(platform, log, projection, lambda progress: seen.append(progress.position), resume=True) == 60
        assert seen == [20, 30, 40, 50, 60]
        assert rebuild(platform, log, projection, lambda progress: seen.append(progress.position), resume=True) == 60
        assert seen == [20, 30, 40, 50, 60, 60]
        assert sum(row[-1] if make is counter else int(row[4]) for row in dump(log)) == 2 * 465


@on_both
@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("at_call", [1, 4, 24, 25, 26, 59])
def test_a_rebuild_that_was_cut_off_anywhere_is_resumed(at: MakePlatform, at_call: int) -> None:
    """The events of a page it had not saved are folded once more, onto states that know nothing of them."""

    class Cut(BaseException):
        pass

    calls = 0
    fold = Fold("tally", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise Cut
        return total + e.data.n

    platform = at(fold)
    with platform.open() as log:
        append_many(log.tenant(), ["a", "b"], 30)
        with pytest.raises(Cut):
            rebuild(platform, log, fold)
        assert rebuild(platform, log, fold, resume=True) == 60
        assert dict(log.tenant().all(fold)) == {"a": 465, "b": 465}


@pytest.mark.parametrize("resume", [True, False], ids=["resumed", "by a worker"])
def test_a_rebuild_that_was_cut_off_before_it_cleared_anything_doubles_nothing(at: MakePlatform, resume: bool) -> None:
    fold, table = tally(), counter()
    platform = at(fold, table)
    with platform.open(worker=True) as log:
        append_many(log.tenant(), ["a"], 3)
        settled(log)
    with platform.open() as log:
        for name in ("tally", "counter"):
            log.store.checkpoints.reset(name)  # the first thing a rebuild does, and here the last
        if resume:
            for projection in (fold, table):
                rebuild(platform, log, projection, resume=True)
    with platform.open(worker=True) as log:
        log.tenant().wait_for(fold, table)
        assert log.tenant().get(fold, "a") == 6
        assert counted(log) == {("default", "a"): 6}


def _refusing(world: dict[str, bool]) -> tuple[Fold[int], SqlProjection]:
    def refuse(e: Recorded[Counted]) -> None:
        if e.data.key == "bad" and not world["mended"]:
            raise ValueError("boom")

    fold = Fold("tally", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        refuse(e)
        return total + e.data.n

    table = SqlProjection("counter", setup=[TABLE], tables=["counted"])

    @table.on(Counted)
    def insert(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute(ADD, (e.tenant, e.data.key, e.data.n))
        refuse(e)

    return fold, table


@on_both
@pytest.mark.usefixtures("small_pages")
def test_an_event_it_cannot_take_stops_it_and_the_mended_code_goes_on(at: MakePlatform) -> None:
    world = {"mended": False}
    fold, table = _refusing(world)
    platform = at(fold, table)
    with platform.open() as log:
        append_many(log.tenant(), ["a"], 31)
        append_many(log.tenant(), ["bad", "a"])
        for projection in (fold, table):
            with pytest.raises(SubscriptionFailed, match=r"stopped at position 32: .*ValueError: boom") as stopped:
                rebuild(platform, log, projection)
            assert stopped.value.position == 32
            known = progress_of(log, projection.name)
            assert (known.status, known.position, known.failed_position) == ("failed", 31, 32)
        assert log.tenant().get(fold, "a") == 496
        assert counted(log) == {("default", "a"): 496}
        world["mended"] = True
        for projection in (fold, table):
            assert rebuild(platform, log, projection, resume=True) == 33
        assert dict(log.tenant().all(fold)) == {"a": 497, "bad": 1}
        assert {key: n for (_, key), n in counted(log).items()} == {"a": 497, "bad": 1}


def test_what_failed_before_is_rebuilt_from_zero(at: MakePlatform) -> None:
    world = {"mended": False}
    fold, table = _refusing(world)
    platform = at(fold, table)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a", "bad"])
        failed(log, "tally", "counter")
        world["mended"] = True
        assert rebuild(platform, log, fold) == rebuild(platform, log, table) == 2
        assert {lag.progress.status for lag in log.lags()} == {"running"}
        assert dict(log.tenant().all(fold)) == {"a": 1, "bad": 1}


# ---- Beside a worker.


@on_both
@pytest.mark.usefixtures("small_pages")
def test_a_worker_that_runs_it_is_fenced_off_and_takes_it_over_after(at: MakePlatform) -> None:
    fold, table = tally(), counter()
    platform = at(fold, table)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), KEYS, 9)
        log.tenant().wait_for(fold, table)
        done = threading.Event()

        def keep_appending() -> None:
            while not done.is_set():
                append_many(log.tenant(), ["a"])

        writer = threading.Thread(target=keep_appending)
        writer.start()
        for _ in range(3):
            for projection in (fold, table):
                rebuild(platform, log, projection)
        done.set()
        writer.join()
        append_many(log.tenant(), ["a"])
        eventually(lambda: all(lag.events == 0 for lag in log.lags()))
        expected = dict.fromkeys(KEYS, 45) | {"a": len(list(log.tenant().stream("tally-a")))}
        assert dict(log.tenant().all(fold)) == dict(sorted(expected.items()))
        assert {key: n for (_, key), n in counted(log).items()} == expected


@on_both
def test_it_does_not_resume_beside_a_worker(at: MakePlatform) -> None:
    fold = tally()
    platform = at(fold)
    with platform.open(worker=True) as log:
        append_many(log.tenant(), ["a"])
        settled(log)
        with pytest.raises(StoreUnavailable, match="owned by a running worker"):
            rebuild(platform, log, fold, resume=True)


def test_a_wait_does_not_end_early_because_it_once_was_further(at: MakePlatform) -> None:
    """While it is built anew elsewhere, this process's worker knows nothing of how far it is."""
    fold = tally()
    platform = at(fold)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a"], 3)
        log.tenant().wait_for(fold)
        log.store.checkpoints.reset("tally")
        claim = log.store.checkpoints.claim("tally", "a rebuild elsewhere", 60.0)
        assert claim is not None
        assert log.worker is not None
        follower = log.worker.followers["tally"]
        eventually(lambda: follower.owns is False)
        late = log._models.late([fold], 3)
        log.store.checkpoints.leave(claim)
        assert late == [fold]


# ---- T38: no side effects.


@on_both
def test_a_rebuild_calls_no_processor(at: MakePlatform) -> None:
    """T38: of a rebuild and of every replay of a read model nothing is sent anywhere."""
    sent: list[int] = []

    @processor("mail", on=Counted)
    def mail(e: Recorded[Counted]) -> None:
        sent.append(e.position)

    def run(version: int) -> None:
        fold, table = tally(version=version), counter(version=version)
        platform = at(fold, table, mail)
        with platform.open(worker=True, lease_seconds=LEASE) as log:
            settled(log, "tally", "counter", "mail")
        with platform.open() as log:
            for projection in (fold, table):
                rebuild(platform, log, projection)
                rebuild(platform, log, projection, resume=True)
            assert log.tenant().get(fold, "a", at=2) == 3

    with at(mail).open() as log:
        append_many(log.tenant(), ["a"], 3)
    run(version=1)
    assert sorted(sent) == [1, 2, 3]
    run(version=2)
    assert sorted(sent) == [1, 2, 3]
