"""Inline folds: an append sees its own effect in its own transaction; a fold that refuses costs one request."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlog import (
    Decider,
    Exactly,
    Fold,
    Log,
    Misconfigured,
    NoStream,
    Platform,
    Recorded,
    SubscriptionFailed,
    Write,
    WrongExpectedVersion,
)
from everlog.adapters.postgres import inline as postgres
from everlog.adapters.sqlite import SqliteStore
from everlog.adapters.sqlite import inline as adapter
from everlog.app.rebuild import Rebuild
from everlog.core.envelope import StoredEvent
from everlog.store.query import Filter
from tests.following.parts import Counted, Noted, append_many, eventually, on_both, rows, sums, tally

MakePlatform = Callable[..., Platform]


@pytest.fixture
def at(url: str) -> MakePlatform:
    """Platforms on one log."""
    return lambda *parts: Platform(url, Counted, Noted, *parts)


def strict(name: str = "strict", *, raised: BaseException | None = None) -> Fold[int]:
    """Sums that may not fall below zero."""
    fold = Fold(name, initial=0, inline=True)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(total: int, e: Recorded[Counted]) -> int:
        if total + e.data.n < 0:
            raise raised or ValueError(f"{e.data.key} would be {total + e.data.n}")
        return total + e.data.n

    return fold


@on_both
def test_an_append_sees_its_own_effect(at: MakePlatform) -> None:
    fold = tally(inline=True)
    with at(fold).open() as log:
        for number in range(1, 20):
            log.tenant("acme").append("tally-a", Counted("a"))
            assert log.tenant("acme").get(fold, "a") == number
        assert log.tenant("globex").get(fold, "a") == 0
        assert dict(log.tenant("acme").all(fold)) == {"a": 19}


def test_a_command_sees_its_own_effect_and_waits_for_nothing(at: MakePlatform) -> None:
    def decide(command: int, total: int) -> list[Counted]:
        return [Counted("a", command)]

    def evolve(total: int, event: Counted) -> int:
        return total + event.n

    decider = Decider("tally", initial=0, decide=decide, evolve=evolve)
    fold = tally(inline=True)
    with at(decider, fold).open() as log:
        log.tenant().execute(decider, "a", 5, wait_for=[fold], timeout=0.0)
        assert log.tenant().get(fold, "a") == 5
        log.tenant().wait_for(fold, timeout=0.0)


def test_a_joined_transaction_holds_the_effect_before_it_commits(at: MakePlatform, tmp_path: Path) -> None:
    fold = tally(inline=True)
    with at(fold).open() as log, closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as mine:
        select = "SELECT state FROM everlog_fold WHERE projection = 'tally'"
        with pytest.raises(ZeroDivisionError), log.tenant().join(mine) as tx:  # noqa: PT012
            tx.append("tally-a", Counted("a", 7))
            tx.flush()
            assert mine.execute(select).fetchone() == (b"7",)
            assert log.tenant().get(fold, "a") == 0
            raise ZeroDivisionError
        assert (log.tenant().get(fold, "a"), log.head().position) == (0, 0)
        with log.tenant().join(mine) as tx:
            tx.append("tally-a", Counted("a", 8))
        assert log.tenant().get(fold, "a") == 8


@on_both
def test_a_batch_is_folded_in_its_order(at: MakePlatform) -> None:
    fold = strict()
    with at(fold).open() as log:
        log.tenant().append_batch(
            Write("tally-a", Counted("a", 3), Counted("b", 1)),
            Write("tally-b", Counted("a", -3), Noted(), Counted("a")),
        )
        assert dict(log.tenant().all(fold)) == {"a": 1, "b": 1}
        [state] = rows(log, "SELECT position FROM everlog_fold WHERE key = 'a'")
        assert state[0] == 5


@on_both
def test_a_retry_with_the_same_ids_counts_once(at: MakePlatform) -> None:
    fold = tally(inline=True)
    ids = [uuid4()]
    with at(fold).open() as log:
        for _ in range(3):
            log.tenant().append("tally-a", Counted("a"), ids=ids)
        assert log.tenant().get(fold, "a") == 1


def test_an_append_that_is_refused_counts_nothing(at: MakePlatform) -> None:
    fold = tally(inline=True)
    with at(fold).open() as log:
        append_many(log.tenant(), ["a"])
        with pytest.raises(WrongExpectedVersion):
            log.tenant().append("tally-a", Counted("a"), expect=NoStream())
        assert log.tenant().get(fold, "a") == 1


# ---- A fold that refuses.


@pytest.mark.parametrize(
    "raised", [ValueError("no"), RecursionError("no"), SystemExit("no")], ids=lambda raised: type(raised).__name__
)
def test_a_fold_that_cannot_take_an_event_refuses_its_request_and_stores_nothing(
    at: MakePlatform, raised: BaseException
) -> None:
    fold, other = strict(raised=raised), tally("other", inline=True)
    with at(other, fold).open() as log:
        log.tenant().append("tally-a", Counted("a", 1))
        with pytest.raises(SubscriptionFailed, match=type(raised).__name__) as refused:
            log.tenant().append("tally-a", Counted("a", 1), Counted("a", -3), Counted("a", 5))
        assert (refused.value.name, refused.value.position) == ("strict", 3)
        assert log.head().position == 1
        assert log.tenant().get(fold, "a") == log.tenant().get(other, "a") == 1
        log.tenant().append("tally-a", Counted("a", 1), expect=Exactly(1))
        assert log.tenant().get(fold, "a") == log.tenant().get(other, "a") == 2


def _at_once(log: Log, appends: Sequence[int]) -> list[Exception | None]:
    """Append events of these numbers as requests of one group."""
    session, outcomes = log.tenant(), list[Exception | None]()
    requests = [session.scope.append([_write(n)], (), 0, None, None) for n in appends]
    for verdict in log.store.append_each(requests):
        outcomes.append(verdict if isinstance(verdict, Exception) else None)
    return outcomes


def _write(n: int) -> Write:
    return Write("tally-a", Counted("a", n))


@on_both
def test_it_costs_no_other_request_of_its_group(at: MakePlatform) -> None:
    fold = strict()
    with at(fold).open() as log:
        outcomes = _at_once(log, [1, -5, 2, -4, -3])
        assert [type(outcome) for outcome in outcomes] == [
            type(None), SubscriptionFailed, type(None), SubscriptionFailed, type(None),
        ]  # fmt: skip
        assert [e.data.n for e in log.tenant().events(Counted)] == [1, 2, -3]
        assert log.tenant().get(fold, "a") == 0


def _ratio() -> Fold[float]:
    fold = Fold("ratio", initial=0.0, inline=True)

    @fold.on(Counted, key=lambda e: e.data.key)
    def add(state: float, e: Recorded[Counted]) -> float:
        return float("inf") if e.data.n < 0 else state + e.data.n

    return fold


def test_a_state_that_json_cannot_hold_costs_its_request_only(at: MakePlatform) -> None:
    fold = _ratio()
    with at(fold).open() as log:
        outcomes = _at_once(log, [1, -1, 2])
        assert [type(outcome) for outcome in outcomes] == [type(None), SubscriptionFailed, type(None)]
        assert log.tenant().get(fold, "a") == 3.0


def test_a_state_that_cannot_be_read_costs_the_requests_of_its_key_only(at: MakePlatform, tmp_path: Path) -> None:
    fold = tally(inline=True)
    with at(fold).open() as log:
        append_many(log.tenant(), ["a", "b"])
        with closing(sqlite3.connect(tmp_path / "log.db")) as tool:
            tool.execute("UPDATE everlog_fold SET state = CAST('oops' AS BLOB) WHERE key = 'a'")
            tool.commit()
        with pytest.raises(SubscriptionFailed, match="'tally'"):
            append_many(log.tenant(), ["a"])
        append_many(log.tenant(), ["b"])
        assert log.tenant().get(fold, "b") == 2


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 3)), min_size=1, max_size=4), min_size=1, max_size=12
    )
)
@settings(max_examples=25, deadline=None)
def test_for_any_requests_it_holds_the_sum_of_what_is_stored(requests: list[list[tuple[str, int]]]) -> None:
    fold = strict()
    with Platform("memory:", Counted, fold).open() as log:
        for request in requests:
            with suppress(SubscriptionFailed):
                log.tenant().append("tally-x", *(Counted(key, n) for key, n in request))
        assert dict(log.tenant().all(fold)) == dict(sorted(sums(log.tenant().events(Counted)).items()))
        assert all(log.tenant().get(fold, key, at=log.head().position) == log.tenant().get(fold, key) for key in "abc")


# ---- Putting one in force.


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for inline in (adapter, postgres):
        monkeypatch.setattr(inline, "_PAGE", 7)


@on_both
@pytest.mark.usefixtures("small_pages")
def test_what_is_stored_already_is_folded_first(at: MakePlatform) -> None:
    with at().open() as log:
        append_many(log.tenant("acme"), ["a", "b", "c"], 20)
    fold = tally(inline=True)
    with at(fold).open() as log:
        assert dict(log.tenant("acme").all(fold)) == dict.fromkeys("abc", 210)
        append_many(log.tenant("acme"), ["a"])
        assert log.tenant("acme").get(fold, "a") == 211


@on_both
@pytest.mark.usefixtures("small_pages")
def test_processes_that_open_it_at_once_put_it_in_force_once(at: MakePlatform) -> None:
    with at().open() as log:
        append_many(log.tenant(), ["a", "b"], 30)
    start = threading.Barrier(4)
    trouble: list[BaseException] = []

    def open_and_append() -> None:
        fold = tally(inline=True)
        start.wait()
        try:
            with at(fold).open() as log:
                append_many(log.tenant(), ["a"], 5)
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=open_and_append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fold = tally(inline=True)
    with at(fold).open() as log:
        assert trouble == []
        assert dict(log.tenant().all(fold)) == sums(log.tenant().events(Counted)) == {"a": 465 + 60, "b": 465}
        assert rows(log, "SELECT DISTINCT projection FROM everlog_fold") == [("tally",)]


@pytest.mark.usefixtures("small_pages")
def test_one_more_leaves_those_in_force_alone_while_appends_go_on(
    at: MakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two pages that are folded for the new one, another process appends."""
    first = tally("first", inline=True)
    with at(first).open() as log:
        append_many(log.tenant(), ["a", "b"], 30)
        read = SqliteStore.read

        def read_while_others_append(self: SqliteStore, where: Filter, **page: Any) -> Iterator[StoredEvent]:
            if page.get("limit") == 7:
                append_many(log.tenant(), ["a"])
            return read(self, where, **page)

        monkeypatch.setattr(SqliteStore, "read", read_while_others_append)
        first_again, second = tally("first", inline=True), tally("second", inline=True)
        with at(first_again, second).open() as both:
            append_many(both.tenant(), ["b"])
            expected = sums(both.tenant().events(Counted))
            assert dict(both.tenant().all(first_again)) == dict(both.tenant().all(second)) == expected
            assert expected["a"] > 465 + 5
        with pytest.raises(Misconfigured, match="second v1"):
            append_many(log.tenant(), ["a"])


@on_both
@pytest.mark.usefixtures("small_pages")
def test_what_was_left_of_a_process_that_was_killed_counts_nothing(at: MakePlatform) -> None:
    with at().open() as log:
        append_many(log.tenant(), ["a"], 30)
    fold = tally(inline=True)
    calls = 0

    class Killed(BaseException):
        pass

    def die(total: int, e: Recorded[Counted]) -> int:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise Killed
        return total + e.data.n

    dying = Fold("tally", initial=0, inline=True)
    dying.on(Counted, key=lambda e: e.data.key)(die)
    with pytest.raises(Killed):
        at(dying).open()
    with at(fold).open() as log:
        assert log.tenant().get(fold, "a") == 465
        assert rows(log, "SELECT projection, key FROM everlog_fold") == [("tally", "a")]


@on_both
def test_a_process_that_lacks_it_may_read_but_not_append(at: MakePlatform) -> None:
    fold = tally(inline=True)
    with at(fold).open() as log:
        append_many(log.tenant(), ["a"])
    for lacking in (at(), at(tally("other", inline=True)), at(tally())):
        with lacking.open() as log:
            assert len(list(log.tenant().events(Counted))) == 1
            with pytest.raises(Misconfigured, match=r"this process lacks \(.*tally v1\)"):
                append_many(log.tenant(), ["a"])
            assert log.head().position == 1


@on_both
def test_a_raised_version_is_built_anew_and_the_old_one_may_not_append(at: MakePlatform) -> None:
    old, new = tally(inline=True), tally(version=2, inline=True)
    with at(old).open() as before:
        append_many(before.tenant(), ["a"], 3)
        with at(new).open() as log:
            assert log.tenant().get(new, "a") == 6
            append_many(log.tenant(), ["a"])
            assert log.tenant().get(new, "a") == 7
        with pytest.raises(Misconfigured, match="tally v2"):
            append_many(before.tenant(), ["a"])
        assert before.tenant().get(old, "a") == 6
    again = tally(inline=True)
    with at(again).open() as log:
        assert log.tenant().get(again, "a") == 7


def test_one_that_cannot_take_a_stored_event_is_not_put_in_force(at: MakePlatform) -> None:
    with at().open() as log:
        append_many(log.tenant(), ["a"])
        log.tenant().append("tally-a", Counted("a", -9))
    with pytest.raises(SubscriptionFailed, match="stopped at position 2"):
        at(strict()).open()
    with at().open() as log:
        append_many(log.tenant(), ["a"])


def test_no_worker_follows_it_and_no_rebuild_touches_it(at: MakePlatform) -> None:
    fold = tally(inline=True)
    platform = at(fold)
    assert platform.follows() == []
    with platform.open(worker=True) as log:
        append_many(log.tenant(), ["a"])
        assert log.lags() == []
        with pytest.raises(Misconfigured, match="raise its version"):
            Rebuild(fold, platform.types, log.store)


def test_what_a_worker_does_sees_the_effect_of_each_append(at: MakePlatform) -> None:
    """A plain projection beside it is late, the inline one never is."""
    late, inline = tally("late"), tally("inline", inline=True)
    with at(late, inline).open(worker=True) as log:
        for number in range(1, 30):
            log.tenant().append("tally-a", Counted("a"))
            assert log.tenant().get(inline, "a") == number >= log.tenant().get(late, "a")
        eventually(lambda: log.tenant().get(late, "a") == 29)


def test_an_error_that_is_nobodys_leaves_the_log_as_it_was(at: MakePlatform) -> None:
    """Ctrl-C in the middle of a fold: it passes, and nothing of the group is stored."""

    def interrupt(total: int, e: Recorded[Counted]) -> Any:
        raise KeyboardInterrupt

    fold: Fold[int] = Fold("tally", initial=0, inline=True)
    fold.on(Counted, key=lambda e: e.data.key)(interrupt)
    with at(fold).open() as log:
        with pytest.raises(KeyboardInterrupt):
            append_many(log.tenant(), ["a"])
        assert log.head().position == 0
        log.tenant().append("s-1", Noted())
        assert log.head().position == 1
