"""Projections: folds and SQL tables, written with their checkpoint; a function that raises keeps what precedes it."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from everlog import (
    AfterPosition,
    Fold,
    FromNow,
    FromTime,
    Misconfigured,
    Platform,
    Recorded,
    SqlProjection,
    SubscriptionFailed,
    Transaction,
    event,
    processor,
    upcast,
    upcast_drop,
    upcast_split,
)
from everlog.app.shadow import ShadowBuild
from everlog.core.envelope import FoldState
from everlog.projection import run as projecting
from everlog.subscription.start import Start
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
    settled,
    sums,
    tally,
)

MakePlatform = Callable[..., Platform]


@pytest.fixture
def at(url: str) -> MakePlatform:
    """Platforms on one log."""
    return lambda *parts: Platform(url, Counted, Noted, *parts)


def work(platform: Platform, *names: str) -> None:
    """Let a worker see everything there is, and stop."""
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        settled(log, *names)


# ---- Folds.


@on_both
def test_a_fold_keeps_a_state_by_tenant_and_key(at: MakePlatform) -> None:
    totals = tally()
    with at(totals).open(worker=True) as log:
        for tenant in ("acme", "acme-2"):
            append_many(log.tenant(tenant), ["b", "a", "", "c"], 3)
        acme = log.tenant("acme")
        acme.wait_for(totals)
        assert {key: acme.get(totals, key) for key in "abcd"} == {"a": 6, "b": 6, "c": 6, "d": 0}
        assert list(acme.all(totals)) == [("a", 6), ("b", 6), ("c", 6)]
        assert list(log.tenant("nobody").all(totals)) == []
        everywhere = [(key.tenant, key.key) for key, _ in log.admin().all(totals)]
        assert everywhere == [(tenant, key) for tenant in ("acme", "acme-2") for key in "abc"]


def test_states_may_be_anything_json_can_hold(at: MakePlatform) -> None:
    seen = Fold[dict[str, list[int]]]("seen", initial={})

    @seen.on(Counted, key=lambda e: e.tenant)
    def note(state: dict[str, list[int]], e: Recorded[Counted]) -> dict[str, list[int]]:
        return {**state, e.data.key: [*state.get(e.data.key, []), e.position]}

    with at(seen).open(worker=True) as log:
        acme = log.tenant("acme")
        append_many(acme, ["a", "b"], 2)
        acme.wait_for(seen)
        assert acme.get(seen, "acme") == {"a": [1, 3], "b": [2, 4]}


@on_both
def test_a_state_outlives_the_process_that_folded_it(at: MakePlatform) -> None:
    for times in (1, 2, 3):
        totals = tally()
        with at(totals).open(worker=True) as log:
            append_many(log.tenant(), ["a"])
            log.tenant().wait_for(totals)
            assert log.tenant().get(totals, "a") == times


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[FoldState]]:
    """What is stored of folds, one list a transaction."""
    from everlog.adapters.sqlite.folds import SqliteFoldStates

    batches: list[list[FoldState]] = []
    store = SqliteFoldStates.store

    def spy(self: SqliteFoldStates, effects: Any, name: str, version: int, states: Iterable[FoldState]) -> None:
        batches.append(list(states))
        store(self, effects, name, version, batches[-1])

    monkeypatch.setattr(SqliteFoldStates, "store", spy)
    return batches


def test_a_batch_is_folded_in_memory_and_written_once_a_key(at: MakePlatform, written: list[list[FoldState]]) -> None:
    totals = tally()
    with at(totals).open() as log:
        append_many(log.tenant(), ["a", "b", "c"], 200)
    work(at(totals))
    rows = [row for batch in written for row in batch]
    assert [(row.key, row.state, row.position) for row in rows] == [
        ("a", b"20100", 598), ("b", b"20100", 599), ("c", b"20100", 600),
    ]  # fmt: skip


def test_more_keys_than_memory_holds_are_no_trouble(at: MakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projecting, "_CACHED_KEYS", 10)
    totals = tally()
    keys = [f"k{number:03}" for number in range(120)]
    with at(totals).open(worker=True) as log:
        for _ in range(3):
            append_many(log.tenant(), keys)
            log.tenant().wait_for(totals)
        assert dict(log.tenant().all(totals)) == dict.fromkeys(keys, 3)


def test_it_sees_old_events_as_they_are_today(at: MakePlatform) -> None:
    """Renamed, split and dropped ones; the state of the past is folded by today's code."""

    @event("tally.sum")
    class Sum:
        parts: int

    @event("tally.pair")
    class Pair:
        left: int
        right: int

    @event("tally.noise")
    class Noise:
        pass

    with Platform(at().url, Sum, Pair, Noise).open() as log:
        log.tenant().append("s-1", Sum(4), Pair(1, 2), Noise(), Sum(5))

    totals = tally()

    @upcast("tally.sum", 1, to=("tally.counted", 1))
    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        return {"key": "sum", "n": old["parts"]}

    @upcast_split("tally.pair", 1, into=[("tally.counted", 1)])
    def split(old: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("tally.counted", {"key": side, "n": old[side]}) for side in ("left", "right")]

    table = counter()
    with at(totals, table, renamed, split, upcast_drop("tally.noise", 1)).open(worker=True) as log:
        log.tenant().wait_for(totals, table)
        assert dict(log.tenant().all(totals)) == {"sum": 9, "left": 1, "right": 2}
        assert counted(log) == {("default", "sum"): 9, ("default", "left"): 1, ("default", "right"): 2}


# ---- SQL.


def test_the_tables_of_a_projection_are_open_to_any_tool(at: MakePlatform, tmp_path: Path) -> None:
    table = counter()
    with at(table).open(worker=True) as log:
        append_many(log.tenant("acme"), ["a", "b"], 2)
        append_many(log.tenant("globex"), ["a"])
        log.tenant("acme").wait_for(table)
        with closing(sqlite3.connect(tmp_path / "log.db")) as tool:
            rows = tool.execute("SELECT tenant, key, n FROM counted ORDER BY 1, 2").fetchall()
    assert rows == [("acme", "a", 3), ("acme", "b", 3), ("globex", "a", 1)]


@on_both
def test_an_orm_gets_the_connection_and_must_not_commit_on_it(at: MakePlatform, url: str) -> None:
    table = SqlProjection("table", setup=[TABLE], tables=["counted"])
    statement = ADD if url.startswith("sqlite") else ADD.replace("?", "%s")

    @table.on(Counted)
    def add(e: Recorded[Counted], tx: Transaction) -> None:
        tx.connection.execute(statement, (e.tenant, e.data.key, e.data.n))
        if e.data.key == "commit":
            tx.execute("COMMIT")

    with at(table).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a"])
        log.tenant().wait_for(table)
        append_many(log.tenant(), ["commit"])
        failed(log, "table")
        assert "leave COMMIT and ROLLBACK to everlog" in progress_of(log, "table").error
        assert counted(log)["default", "a"] == 1


@on_both
def test_a_setup_that_fails_says_so(at: MakePlatform) -> None:
    table = SqlProjection("table", setup=["CREATE TABEL oops"], tables=[])
    table.on(Counted)(lambda e, tx: None)
    with at(table).open(worker=True) as log:
        failed(log, "table")
        assert "TABEL" in progress_of(log, "table").error


def test_a_full_disk_is_waited_out_and_blamed_on_no_event(at: MakePlatform) -> None:
    full: list[int] = []
    table = SqlProjection("table", setup=[TABLE], tables=["counted"])

    @table.on(Counted)
    def add(e: Recorded[Counted], tx: Transaction) -> None:
        if not full:
            [(pages,)] = tx.execute("PRAGMA page_count")
            tx.execute(f"PRAGMA max_page_count = {pages}")
            full.append(e.position)
            tx.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")
        tx.execute(ADD, (e.tenant, e.data.key, e.data.n))

    with at(table).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a"])
        log.tenant().wait_for(table)
        assert counted(log) == {("default", "a"): 1}
        assert full == [1]
        assert progress_of(log, "table").status == "running"


# ---- Functions that raise.


def _raising(raised: BaseException, *, at: str = "apply") -> tuple[Fold[int], SqlProjection]:
    """A fold and a table that cannot take the event with the key "bad"."""

    def refuse(e: Recorded[Counted]) -> None:
        if e.data.key == "bad":
            raise raised

    fold = Fold("tally", initial=0)

    def key(e: Recorded[Counted]) -> str:
        if at == "key":
            refuse(e)
        return e.data.key

    @fold.on(Counted, key=key)
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
@pytest.mark.parametrize(
    ("raised", "where"),
    [
        (ValueError("boom"), "apply"),
        (ValueError("boom"), "key"),
        (RecursionError("boom"), "apply"),
        (SystemExit("boom"), "apply"),
        (sqlite3.OperationalError("boom"), "apply"),
        (SubscriptionFailed("other", 1, "boom"), "apply"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_raises_keeps_what_precedes_and_says_which_event_and_why(
    at: MakePlatform, raised: BaseException, where: str
) -> None:
    fold, table = _raising(raised, at=where)
    fine = tally("fine")
    with at(fold, table, fine).open() as log:
        append_many(log.tenant(), ["a", "b", "a", "bad", "a"])
    with at(fold, table, fine).open(worker=True, lease_seconds=LEASE) as log:
        for name in ("tally", "counter"):
            failed(log, name)
            known = progress_of(log, name)
            assert (known.position, known.failed_position, known.owner) == (3, 4, "")
            assert f"tally.counted v1 raised {type(raised).__name__}" in known.error
            assert "boom" in known.error
        assert dict(log.tenant().all(fold)) == {"a": 2, "b": 1}
        assert counted(log) == {("default", "a"): 2, ("default", "b"): 1}
        log.tenant().wait_for(fine)
        assert log.tenant().get(fine, "bad") == 1
        with pytest.raises(SubscriptionFailed, match="stopped at position 4") as stopped:
            log.tenant().wait_for(fold)
        assert (stopped.value.name, stopped.value.position) == ("tally", 4)
        log.tenant().wait_for(fold, position=3)


def test_it_goes_on_after_the_fix_without_losing_or_doubling(at: MakePlatform) -> None:
    fold, table = _raising(ValueError("boom"))
    with at(fold, table).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a", "bad", "a", "bad", "b"])
        failed(log, "tally", "counter")
    mended, table = tally(), counter()
    with at(mended, table).open(worker=True) as log:
        log.tenant().wait_for(mended, table)
        expected = {"a": 2, "bad": 2, "b": 1}
        assert dict(log.tenant().all(mended)) == expected
        assert counted(log) == {("default", key): n for key, n in expected.items()}


def test_a_person_lets_it_go_on_in_the_running_worker(at: MakePlatform) -> None:
    world = {"up": False}
    fold = Fold("tally", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        assert world["up"], "not now"
        return total + e.data.n

    with at(fold).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant(), ["a"])
        failed(log, "tally")
        world["up"] = True
        log.store.checkpoints.set_status("tally", "running")
        log.tenant().wait_for(fold)
        assert log.tenant().get(fold, "a") == 1


def test_what_raises_after_a_split_takes_back_the_other_part_too(at: MakePlatform) -> None:
    @event("tally.pair")
    class Pair:
        keys: tuple[str, ...]

    with Platform(at().url, Pair, Counted).open() as log:
        append_many(log.tenant(), ["a"])
        log.tenant().append("s-1", Pair(("a", "bad")))

    @upcast_split("tally.pair", 1, into=[("tally.counted", 1)])
    def split(old: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("tally.counted", {"key": key, "n": 1}) for key in old["keys"]]

    fold, table = _raising(ValueError("boom"))
    with at(fold, table, split).open(worker=True) as log:
        failed(log, "tally", "counter")
        assert dict(log.tenant().all(fold)) == {"a": 1}
        assert counted(log) == {("default", "a"): 1}


def test_an_event_its_upcaster_fails_on_is_never_passed_over(at: MakePlatform) -> None:
    @event("tally.sum")
    class Sum:
        parts: int

    with Platform(at().url, Sum, Counted).open() as log:
        append_many(log.tenant(), ["a"])
        log.tenant().append("s-1", Sum(4))
        append_many(log.tenant(), ["a"])

    @upcast("tally.sum", 1, to=("tally.counted", 1))
    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no way to tell")

    fold, table = tally(), counter()
    with at(fold, table, renamed).open(worker=True) as log:
        failed(log, "tally", "counter")
        for name in ("tally", "counter"):
            assert (progress_of(log, name).position, progress_of(log, name).failed_position) == (1, 2)
            assert "no way to tell" in progress_of(log, name).error
        with pytest.raises(SubscriptionFailed, match="no way to tell"):
            log.tenant().get(fold, "a", at=3)


def test_an_event_newer_than_this_code_stops_it_until_the_newer_code_is_there(at: MakePlatform) -> None:
    """While a new release rolls out, an old worker must not pass what it cannot read as if it were nothing."""

    @event("tally.counted", version=2)
    class Newer:
        key: str
        n: int
        unit: str

    @upcast("tally.counted", 1)
    def with_unit(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "unit": "one"}

    with Platform(at().url, Newer, with_unit).open() as new:
        new.tenant().append("tally-a", Newer("a", 1, "two"))
    old = tally()
    with at(old, counter()).open(worker=True, lease_seconds=LEASE) as log:
        failed(log, "tally", "counter")
        assert "deploy the newer code" in progress_of(log, "tally").error
        assert progress_of(log, "counter").position == 0

    today = Fold("tally", initial=0)

    @today.on(Newer, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Newer]) -> int:
        return total + e.data.n * (2 if e.data.unit == "two" else 1)

    with Platform(at().url, Newer, with_unit, today).open(worker=True) as log:
        log.tenant().wait_for(today)
        assert log.tenant().get(today, "a") == 2


def test_a_state_that_json_cannot_hold_stops_it(at: MakePlatform) -> None:
    fold = Fold("ratio", initial=0.0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def divide(state: float, e: Recorded[Counted]) -> float:
        return float("inf") if e.data.key == "bad" else state + 1

    with at(fold).open(worker=True) as log:
        append_many(log.tenant(), ["a"])
        log.tenant().wait_for(fold)
        append_many(log.tenant(), ["bad"])
        failed(log, "ratio")
        assert progress_of(log, "ratio").position == 1
        assert dict(log.tenant().all(fold)) == {"a": 1.0}


# ---- Versions and starts.


@on_both
def test_a_raised_version_is_built_anew(at: MakePlatform) -> None:
    for version in (1, 2):
        fold, table = tally(version=version), counter(version=version)
        with at(fold, table).open(worker=True) as log:
            append_many(log.tenant(), ["a"])
            log.tenant().wait_for(fold, table)
            assert log.tenant().get(fold, "a") == version
            assert counted(log) == {("default", "a"): version}


def test_a_version_that_comes_back_is_built_anew_too(at: MakePlatform) -> None:
    """What was built of it before counts nothing. Older code takes nothing back by itself: a person has it built."""
    for times, version in enumerate((1, 2, 1, 2), 1):
        fold, table = tally(version=version), counter(version=version)
        platform = at(fold, table)
        with platform.open() as log:
            append_many(log.tenant(), ["a"])
            for part in (fold, table) if times == 3 else ():
                build = ShadowBuild(part, platform.types, log.store)
                build.run()
                build.swap()
        with platform.open(worker=True) as log:
            log.tenant().wait_for(fold, table)
            assert log.tenant().get(fold, "a") == times
            assert counted(log) == {("default", "a"): times}


def test_the_same_version_is_not_built_anew(at: MakePlatform) -> None:
    calls: list[int] = []
    for _ in range(2):
        fold = Fold("calls", initial=0, version=4)

        @fold.on(Counted, key=lambda e: "all")
        def note(state: int, e: Recorded[Counted]) -> int:
            calls.append(e.position)
            return state + 1

        with at(fold).open(worker=True) as log:
            append_many(log.tenant(), ["a"])
            log.tenant().wait_for(fold)
    assert calls == [1, 2]


@pytest.mark.parametrize(
    ("start", "total"),
    [(AfterPosition(2), 1), (FromNow(), 0), (FromTime(datetime(2001, 1, 1, tzinfo=UTC)), 3)],
    ids=["position", "now", "time"],
)
def test_it_begins_at_its_start(at: MakePlatform, start: Start, total: int) -> None:
    with at().open() as log:
        append_many(log.tenant(), ["a"], 1)
        append_many(log.tenant(), ["a"], 1)
        append_many(log.tenant(), ["a"], 1)
    fold, table = tally(start=start), counter(start=start)
    with at(fold, table).open(worker=True) as log:
        eventually(lambda: len(log.lags()) == 2)
        append_many(log.tenant(), ["a"])
        log.tenant().wait_for(fold, table)
        assert log.tenant().get(fold, "a") == total + 1
        assert counted(log) == {("default", "a"): total + 1}


# ---- Live.


def test_one_key_is_folded_on_demand_at_any_position(at: MakePlatform) -> None:
    """No worker runs, and nothing is stored."""
    fold = tally()
    with at(fold).open() as log:
        acme = log.tenant("acme")
        for number in range(12):
            log.tenant("globex").append("tally-a", Counted("a", 100))
            acme.append("tally-a", Counted("ab"[number % 2], number))
        head = log.head().position
        for position in range(head + 1):
            expected = sums(acme.events(Counted, upto=position))
            assert [acme.get(fold, key, at=position) for key in "abc"] == [expected.get(key, 0) for key in "abc"]
        assert acme.get(fold, "a") == 0
        assert list(log.admin().all(fold)) == []


def test_a_live_read_of_what_raises_names_the_event(at: MakePlatform) -> None:
    fold, _ = _raising(ValueError("boom"))
    with at(fold).open() as log:
        append_many(log.tenant(), ["a", "bad"])
        assert log.tenant().get(fold, "a", at=1) == 1
        with pytest.raises(SubscriptionFailed, match="stopped at position 2"):
            log.tenant().get(fold, "bad", at=2)


# ---- Mistakes found before any I/O.


def _sql(name: str = "table", *, tables: Sequence[str] = (), version: int = 1) -> SqlProjection:
    return SqlProjection(name, setup=[], tables=tables, version=version)


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda: Fold("no name", initial=0), "cannot name a projection"),
        (lambda: Fold("", initial=0), "cannot name a projection"),
        (lambda: Fold("tally", initial=0, version=0), "versions start at 1"),
        (lambda: Fold("tally", initial=0, inline=True, start=FromNow()), "leave out its start"),
        (lambda: _sql("a/b"), "cannot name a projection"),
        (lambda: _sql(version=-1), "versions start at 1"),
        (lambda: _sql(tables=["everlog_event"]), "use a plain name of its own"),
        (lambda: _sql(tables=["x; DROP TABLE y"]), "use a plain name of its own"),
        (lambda: Platform("memory:", _sql()), "handles no event"),
        (lambda: Platform("memory:", tally("one"), counter("one")), "or relays are named 'one'"),
        (lambda: tally().on(Counted, key=lambda e: "k"), None),
    ],
)
def test_a_projection_that_cannot_work_is_refused(mistake: Callable[[], Any], told: str | None) -> None:
    if told is None:
        with pytest.raises(Misconfigured, match="twice"):
            mistake()(lambda total, e: total)
        return
    with pytest.raises(Misconfigured, match=told):
        mistake()


def test_a_table_projection_handles_each_event_once() -> None:
    table = counter()
    with pytest.raises(Misconfigured, match=r"handles 'tally\.counted' twice"):
        table.on(Counted)(lambda e, tx: None)


def test_a_projection_and_a_processor_share_no_name() -> None:
    @processor("tally", on=Counted)
    def handle(e: Recorded[Counted]) -> None: ...

    with pytest.raises(Misconfigured, match="or they share a checkpoint"):
        Platform("memory:", tally(), handle)


def test_a_projection_of_another_platform_is_not_read(at: MakePlatform) -> None:
    stranger = tally()
    with at(tally()).open() as log:
        for read in (
            lambda: log.tenant().get(stranger, "a"),
            lambda: log.tenant().get(stranger, "a", at=0),
            lambda: list(log.tenant().all(stranger)),
            lambda: log.tenant().wait_for(stranger),
        ):
            with pytest.raises(Misconfigured, match="not part of this platform"):
                read()


@on_both
def test_in_the_end_every_way_to_project_says_the_same(at: MakePlatform) -> None:
    fold, table, inline = tally(), counter(), tally("inline", inline=True)
    with at(fold, table, inline).open(worker=True) as log:
        for tenant in ("acme", "globex"):
            append_many(log.tenant(tenant), [f"k{number % 17}" for number in range(60)])
        for tenant in ("acme", "globex"):
            session = log.tenant(tenant)
            session.wait_for(fold, table)
            expected = dict(sorted(sums(session.events(Counted)).items()))
            assert dict(session.all(fold)) == dict(session.all(inline)) == expected
            assert {key: session.get(fold, key, at=sys.maxsize) for key in expected} == expected
            assert {key: n for (owner, key), n in counted(log).items() if owner == tenant} == expected
