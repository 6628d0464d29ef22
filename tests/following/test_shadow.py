"""A read model built beside the one that serves: readers see the old one or the new one, whole; the old one is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from everlog import Fold, Log, Platform, Recorded, SqlProjection
from everlog.app.following import Projection
from everlog.app.read_models import build_of
from everlog.app.shadow import ShadowBuild
from everlog.core.errors import Misconfigured, NotFound, NotReady, StoreUnavailable, SubscriptionFailed
from everlog.subscription.partition import as_one
from tests.following.parts import ADD, LEASE, TABLE, Counted, append_many, eventually, on_both, settled, tally
from tests.following.parts import rows as rows_of
from tests.following.test_rebuild import MakePlatform, at

KEYS = ["a", "b", "a", "c"]
EVENTS = 400

pytestmark = on_both
_ = at  # the fixture


def doubled(version: int = 2) -> Fold[int]:
    """What `tally` would be had it counted twice."""
    fold = Fold("tally", initial=0, version=version)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        return total + 2 * e.data.n

    return fold


def table(version: int = 1, times: int = 1, partitions: int = 1) -> SqlProjection:
    one = SqlProjection(
        "counter", setup=[TABLE, "CREATE INDEX IF NOT EXISTS counted_n ON counted (n)"], tables=["counted"],
        version=version, partitions=partitions, key=lambda e: e.data.key,
    )  # fmt: skip

    @one.on(Counted)
    def add(e: Recorded[Counted], tx: Any) -> None:
        tx.execute(ADD, (e.tenant, e.data.key, times * e.data.n))

    return one


def sums(log: Log, times: int = 1) -> dict[str, int]:
    found: dict[str, int] = {}
    for e in log.tenant().events(Counted):
        found[e.data.key] = found.get(e.data.key, 0) + times * e.data.n
    return dict(sorted(found.items()))


def serves(log: Log, projection: Projection) -> dict[str, int]:
    """What a reader sees by the name of it, and, of a fold, its version."""
    if isinstance(projection, Fold):
        found = log.store.fold_states.all(projection.name, build_of(projection, log.store), None)
        return {one.key: int(one.state) for one in found}
    return dict(rows_of(log, "SELECT key, n FROM counted ORDER BY key"))


def follow(platform: Platform) -> None:
    with platform.open(worker=True) as working:
        settled(working)


def beside(platform: Platform, log: Log, projection: Projection, **how: Any) -> ShadowBuild:
    return ShadowBuild(projection, platform.types, log.store, **how)


def swapped(build: ShadowBuild) -> None:
    build.run()
    build.swap()


def names(log: Log) -> dict[str, int]:
    return {name: one.version for name, one in as_one(log.store.checkpoints.progress()).items()}


@contextmanager
def reading(look: Callable[[], dict[str, int]]) -> Iterator[list[dict[str, int]]]:
    """All that a reader sees meanwhile, one look after the other."""
    seen: list[dict[str, int]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(look())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


MAKES: list[Callable[[int, int], Projection]] = [
    lambda version, times: tally(version=version) if times == 1 else doubled(version),
    lambda version, times: table(version, times),
]
either = pytest.mark.parametrize("make", MAKES, ids=["fold", "sql"])


@either
def test_readers_see_the_old_one_or_the_new_one_and_nothing_between(at: MakePlatform, make: Any) -> None:
    old, new = make(1, 1), make(2, 2)
    before, after = at(old), at(new)
    with before.open(worker=True) as log:
        append_many(log.tenant(), KEYS * (EVENTS // len(KEYS)))
        settled(log)
        wanted, to_come = sums(log), sums(log, 2)

        def look() -> dict[str, int]:
            """A reader of the new code, who waits for it."""
            try:
                return serves(log, new)
            except NotReady:
                return wanted

        with reading(look) as seen:
            with after.open() as other:
                build = beside(after, other, new)
                assert build.run() == EVENTS
                assert serves(log, old) == wanted
                assert build.swap() == EVENTS
            eventually(lambda: seen and seen[-1] == to_come)
        assert [one for one in seen if one not in (wanted, to_come)] == []
        assert wanted in seen
        assert names(log) == {old.name: 2, f"{old.name}-": 1}


@either
def test_the_one_that_serves_is_followed_while_another_is_built(at: MakePlatform, make: Any) -> None:
    old, new = make(1, 1), make(1, 1)
    platform = at(old)
    with platform.open(worker=True) as log:
        append_many(log.tenant(), KEYS * 20)
        build = beside(platform, log, new)
        build.run()
        append_many(log.tenant(), KEYS)
        settled(log)
        assert serves(log, old) == sums(log)
        build.swap()
        append_many(log.tenant(), KEYS)
        settled(log)
        assert serves(log, old) == sums(log)
        if isinstance(new, SqlProjection):
            assert _indexed(log)


def _indexed(log: Log) -> bool:
    if "sqlite" in type(log.store).__name__.lower():
        return bool(rows_of(log, "SELECT 1 FROM sqlite_schema WHERE name = 'counted_n' AND tbl_name = 'counted'"))
    return bool(rows_of(log, "SELECT 1 FROM pg_indexes WHERE indexname = 'counted_n' AND tablename = 'counted'"))


@either
def test_a_worker_with_a_raised_version_builds_it_beside_and_lets_it_serve(at: MakePlatform, make: Any) -> None:
    with at(make(1, 1)).open(worker=True) as log:
        append_many(log.tenant(), KEYS * 20)
        settled(log)
    new = make(2, 2)
    with at(new).open(worker=True) as log:
        done = log.tenant().append("s-a", Counted("a"))
        log.tenant().wait_for(new, position=done.position)
        assert serves(log, new) == sums(log, 2)


def test_a_version_that_does_not_serve_yet_says_so(at: MakePlatform) -> None:
    with at(tally()).open(worker=True) as log:
        append_many(log.tenant(), KEYS)
        settled(log)
    new = doubled()
    platform = at(new)
    with platform.open() as log:
        beside(platform, log, new).run()
        with pytest.raises(NotReady, match="version 2 of 'tally' does not serve yet"):
            log.tenant().get(new, "a")


def test_processes_of_the_code_before_go_on_with_what_was_kept(at: MakePlatform) -> None:
    """While a deploy is under way, both run."""
    old, new = tally(), doubled()
    with at(old).open(worker=True, lease_seconds=LEASE) as before, at(new).open(worker=True) as after:
        for _ in range(3):
            done = before.tenant().append("s-a", Counted("a"))
            before.tenant().wait_for(old, position=done.position)
            after.tenant().wait_for(new, position=done.position)
            assert (before.tenant().get(old, "a"), after.tenant().get(new, "a")) == (
                sums(before)["a"], sums(after, 2)["a"],
            )  # fmt: skip


@pytest.mark.parametrize("partitions", [1, 4])
def test_both_versions_of_a_fold_are_followed_by_all_their_partitions(at: MakePlatform, partitions: int) -> None:
    old, new = tally_in(partitions), tally_in(partitions, version=2)
    with at(old).open(worker=True, lease_seconds=LEASE) as before, at(new).open(worker=True) as after:
        append_many(after.tenant(), [f"k{number}" for number in range(20)])
        before.tenant().wait_for(old)
        after.tenant().wait_for(new)
        append_many(after.tenant(), [f"k{number}" for number in range(20)])
        before.tenant().wait_for(old)
        after.tenant().wait_for(new)
        assert serves(before, old) == serves(after, new) == sums(after)


@either
def test_many_workers_that_start_with_a_raised_version_build_it_once(at: MakePlatform, make: Any) -> None:
    with at(make(1, 1)).open(worker=True) as log:
        append_many(log.tenant(), KEYS * 100)
        settled(log)
    new = make(2, 2)
    with ExitStack() as opened:
        logs = [opened.enter_context(at(new).open(worker=True, lease_seconds=LEASE)) for _ in range(3)]
        for log in logs:
            append_many(log.tenant(), KEYS)
            eventually(lambda log=log: names(log).get(new.name) == 2)  # type: ignore[misc]
        append_many(logs[0].tenant(), KEYS)
        settled(logs[0], new.name)
        assert serves(logs[0], new) == sums(logs[0], 2)
        assert names(logs[0]) == {new.name: 2, f"{new.name}-": 1}


def test_a_version_may_have_tables_that_another_one_has_not(at: MakePlatform) -> None:
    def made(version: int, *more: str) -> SqlProjection:
        setup = [TABLE, *(f"CREATE TABLE IF NOT EXISTS {name} (key TEXT)" for name in more)]
        one = SqlProjection("counter", setup=setup, tables=["counted", *more], version=version)

        @one.on(Counted)
        def add(e: Recorded[Counted], tx: Any) -> None:
            tx.execute(ADD, (e.tenant, e.data.key, version * e.data.n))
            for name in more:
                tx.execute(f"INSERT INTO {name} VALUES (?)", (e.data.key,))

        return one

    old, new = made(1, "first_seen"), made(2, "last_seen")
    before, after = at(old), at(new)
    with before.open() as log:
        append_many(log.tenant(), KEYS)
        follow(before)
        swapped(beside(after, log, new))
        assert serves(log, new) == sums(log, 2)
        assert len(rows_of(log, "SELECT key FROM last_seen")) == len(KEYS)
        assert len(rows_of(log, "SELECT key FROM first_seen")) == len(KEYS)
        append_many(log.tenant(), KEYS)
        follow(after)
        beside(before, log, old).rollback()
        assert serves(log, old) == sums(log)


@either
def test_a_rollback_lets_the_old_one_serve_caught_up(at: MakePlatform, make: Any) -> None:
    old, new = make(1, 1), make(1, 2)
    platform = at(old)
    with platform.open() as log:
        append_many(log.tenant(), KEYS)
        follow(platform)
        swapped(beside(platform, log, new))
        assert serves(log, old) == sums(log, 2)
        append_many(log.tenant(), KEYS)
        assert beside(platform, log, old).rollback() == 2 * len(KEYS)
        assert serves(log, old) == sums(log)
        append_many(log.tenant(), KEYS)
        assert beside(platform, log, new).rollback() == 3 * len(KEYS)
        assert serves(log, old) == sums(log, 2)


def test_a_rollback_that_was_cut_off_is_never_taken_for_one_that_was_not(
    at: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a shadow is a file of its own, it has what served by then, and what it had is lost."""
    old, new = table(1, 1), table(1, 2)
    platform = at(old)
    with platform.open() as log:
        append_many(log.tenant(), KEYS)
        follow(platform)
        swapped(beside(platform, log, new))
        with monkeypatch.context() as patch:
            swap = log.store.shadows.swap

            def cut_off(*given: Any) -> None:
                swap(*given)
                raise ZeroDivisionError

            patch.setattr(log.store.shadows, "swap", cut_off)
            with pytest.raises(ZeroDivisionError):
                beside(platform, log, old).rollback()
        assert serves(log, old) == sums(log, 2)
        append_many(log.tenant(), KEYS)
        if platform.url.startswith("sqlite"):
            with pytest.raises(NotFound, match="was lost when a rollback was cut off"):
                beside(platform, log, old).rollback()
            swapped(beside(platform, log, old))
        else:
            beside(platform, log, old).rollback()
        assert serves(log, old) == sums(log)


@either
def test_what_was_built_by_other_code_is_rolled_back_with_that_code(at: MakePlatform, make: Any) -> None:
    old, new = make(1, 1), make(2, 2)
    before, after = at(old), at(new)
    with before.open() as log:
        append_many(log.tenant(), KEYS)
        follow(before)
        swapped(beside(after, log, new))
        with pytest.raises(Misconfigured, match="roll back with the code of version 1"):
            beside(after, log, new).rollback()
        assert beside(before, log, old).rollback() == len(KEYS)
        assert serves(log, old) == sums(log)


@either
def test_one_that_was_cut_off_goes_on_where_it_was(at: MakePlatform, make: Any) -> None:
    platform = at(make(1, 1))
    one = make(1, 2)
    with platform.open() as log:
        append_many(log.tenant(), KEYS * 200)
        follow(platform)
        stopping = threading.Event()
        cut_off = beside(
            platform, log, one, stopping=stopping, on_progress=lambda step: stopping.set() if step.position else None
        )
        stopped = cut_off.run()
        assert 0 < stopped < 800
        again: list[int] = []
        build = beside(platform, log, one, on_progress=lambda step: again.append(step.position))
        assert build.run(resume=True) == 800
        assert again[0] >= stopped
        build.swap()
        assert serves(log, one) == sums(log, 2)


@either
def test_without_resume_it_begins_at_nothing(at: MakePlatform, make: Any) -> None:
    platform = at(make(1, 1))
    with platform.open() as log:
        append_many(log.tenant(), KEYS)
        follow(platform)
        beside(platform, log, make(1, 3)).run()
        again = beside(platform, log, make(1, 2))
        again.run()
        again.swap()
        assert serves(log, platform.projections[0]) == sums(log, 2)


@either
def test_it_is_canceled(at: MakePlatform, make: Any) -> None:
    one = make(1, 1)
    platform = at(one)
    with platform.open() as log:
        append_many(log.tenant(), KEYS)
        follow(platform)
        build = beside(platform, log, make(1, 2))
        with pytest.raises(NotFound, match="nothing is being built"):
            build.cancel()
        build.run()
        build.cancel()
        with pytest.raises(NotFound, match="nothing is built beside"):
            build.swap()
        assert (serves(log, one), list(names(log))) == (sums(log), [one.name])
        with pytest.raises(NotFound, match="nothing that served before"):
            build.rollback()


def breaking(projection: Projection) -> Projection:
    """One of its name that cannot take an event."""
    if isinstance(projection, Fold):
        fold = Fold(projection.name, initial=0)
        fold.on(Counted, key=lambda e: e.data.key)(lambda total, e: total // 0)
        return fold
    one = SqlProjection(projection.name, setup=[TABLE], tables=["counted"])

    @one.on(Counted)
    def add(e: Recorded[Counted], tx: Any) -> None:
        tx.execute("SELECT * FROM no_such_table")

    return one


@either
def test_an_event_it_cannot_take_leaves_what_serves_as_it_is(at: MakePlatform, make: Any) -> None:
    platform = at(make(1, 1))
    broken = breaking(platform.projections[0])
    with platform.open() as log:
        append_many(log.tenant(), KEYS)
        follow(platform)
        with pytest.raises(SubscriptionFailed, match=r"ZeroDivisionError|no_such_table"):
            beside(platform, log, broken).run()
        assert serves(log, platform.projections[0]) == sums(log)


@either
def test_two_do_not_build_the_same_at_once(at: MakePlatform, make: Any) -> None:
    platform = at(make(1, 1))
    with platform.open() as log:
        append_many(log.tenant(), KEYS)
        follow(platform)
        build = beside(platform, log, make(1, 1))
        build.run()
        with build._place() as place:
            [one] = [one for one in place.checkpoints.progress() if one.subscription.endswith("+")]
            assert place.checkpoints.claim(one.name, "another machine", 60.0) is not None
        with pytest.raises(StoreUnavailable, match="another machine"):
            beside(platform, log, make(1, 1)).run()
        with pytest.raises(StoreUnavailable):
            beside(platform, log, make(1, 1)).run(resume=True)


@pytest.mark.parametrize("make", [lambda: tally_in(3), lambda: table(partitions=3)], ids=["fold", "sql"])
def test_a_divided_one_is_built_as_it_is_divided(at: MakePlatform, make: Any) -> None:
    platform = at(make())
    with platform.open() as log:
        append_many(log.tenant(), KEYS * 10)
        follow(platform)
        swapped(beside(platform, log, make()))
        assert serves(log, platform.projections[0]) == sums(log)
        name = platform.projections[0].name
        assert [one.parts for one in log.store.checkpoints.progress() if one.subscription == name] == [3, 3, 3]


def tally_in(partitions: int, version: int = 1) -> Fold[int]:
    fold = Fold("tally", initial=0, version=version, partitions=partitions)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        return total + e.data.n

    return fold


def test_an_inline_one_is_not_built_beside(at: MakePlatform) -> None:
    fold = tally(inline=True)
    platform = at(fold)
    with platform.open() as log, pytest.raises(Misconfigured, match="raise its version"):
        beside(platform, log, fold)


@either
def test_a_worker_of_older_code_leaves_what_newer_code_built(at: MakePlatform, make: Any) -> None:
    """As one that is restarted in the middle of a deploy, when what it ran is kept no more."""
    old, new = make(1, 1), make(2, 2)
    before, after = at(old), at(new)
    with before.open() as log:
        append_many(log.tenant(), KEYS)
        follow(before)
        for _ in range(2):
            swapped(beside(after, log, new))
        append_many(log.tenant(), KEYS)
        with before.open(worker=True) as working:
            assert working.worker is not None
            assert working.worker.drain(20, everything=True)
        assert names(log)[new.name] == 2
        follow(after)
        assert serves(log, new) == sums(log, 2)


@either
def test_a_database_that_is_away_for_a_moment_does_not_end_a_build(
    at: MakePlatform, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make(1, 1), make(2, 2)
    with at(old).open() as log:
        append_many(log.tenant(), KEYS)
        follow(at(old))
        away, kind = [StoreUnavailable("it restarts")], type(log.store.checkpoints)
        progress = kind.progress

        def flickers(self: Any) -> Any:
            if away and threading.current_thread().name.endswith("-shadow"):
                raise away.pop()
            return progress(self)

        monkeypatch.setattr(kind, "progress", flickers)
        with at(new).open(worker=True) as working:
            eventually(lambda: names(log)[new.name] == 2)
            assert away == []
            assert working.worker is not None
            eventually(lambda: working.worker.broken() == {})  # type: ignore[union-attr]
        assert serves(log, new) == sums(log, 2)
