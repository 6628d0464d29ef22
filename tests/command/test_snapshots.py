"""Snapshots only save time: written now and then, gone or damaged they change no answer, and wrong ones are noticed."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from everlog import Decider, Log, Misconfigured, Money, Platform, Session, StoreUnavailable, event
from everlog.core.envelope import StoredSnapshot
from tests.command.counting import Add, Added, Counter, Renamed, counters, evolve
from tests.command.sides import FAST, at_once

EVERY = 10
often = replace(counters, snapshot_every=EVERY)
platform = Platform("memory:", often)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    with platform.open(f"sqlite:///{path}{FAST}") as log:
        yield log


def add(session: Session, amounts: int, *, decider: Decider[Any, Counter, Any] = often, id: str = "c") -> Counter:
    for amount in range(1, amounts + 1):
        session.execute(decider, id, Add(amount))
    return session.state(decider, id)


def snapshots(log: Log, stream: str = "counter-c", tenant: str = "default") -> list[StoredSnapshot]:
    return list(log.store.snapshots.all(tenant, stream))


def without_snapshots(log: Log, id: str = "c") -> Counter:
    """What a naive fold gives."""
    state = Counter()
    for recorded in log.tenant().stream(f"counter-{id}"):
        state = evolve(state, recorded.data)
    return state


def test_one_is_written_every_hundred_events_unless_the_decider_says_otherwise(tmp_path: Path) -> None:
    assert counters.snapshot_every == 100
    with Platform("memory:", counters).open(f"memory:{FAST}") as log:
        add(log.tenant(), 99, decider=counters)
        assert snapshots(log) == []
        log.tenant().execute(counters, "c", Add(100))
        [snapshot] = snapshots(log)
        assert (snapshot.version, snapshot.position, log.counters["snapshots_saved"]) == (100, 100, 1)


def test_one_is_written_each_time_so_many_events_were_passed(log: Log) -> None:
    acme = log.tenant()
    add(acme, 25)
    assert [snapshot.version for snapshot in snapshots(log)] == [10, 20]
    acme.append("counter-c", *[Added("c", 1)] * 50)  # an append writes none; the next command makes up for it
    assert [snapshot.version for snapshot in snapshots(log)] == [10, 20]
    acme.execute(often, "c", Add(1))
    assert [snapshot.version for snapshot in snapshots(log)] == [10, 20, 76]
    acme.execute(often, "c", Add(1))
    assert [snapshot.version for snapshot in snapshots(log)] == [10, 20, 76]


def test_none_is_written_where_none_is_wanted() -> None:
    never = replace(counters, snapshot_every=None)
    with Platform("memory:", never).open(f"memory:{FAST}") as log:
        add(log.tenant(), 120, decider=never)
        assert list(log.store.snapshots.all(None)) == []
        assert log.tenant().state(never, "c") == without_snapshots(log)


def test_it_spares_folding_what_lies_before_it() -> None:
    evolved: list[int] = []

    def counting(counter: Counter, event: Added | Renamed) -> Counter:
        evolved.append(1)
        return evolve(counter, event)

    counted = replace(often, evolve=counting)
    with Platform("memory:", counted).open(f"memory:{FAST}") as log:
        add(log.tenant(), 2 * EVERY + 3, decider=counted)
        evolved.clear()
        assert log.tenant().state(counted, "c") == without_snapshots(log)
        assert len(evolved) == 3


def damaged(path: Path, how: str) -> None:
    """Change the rows behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        match how:
            case "deleted":
                connection.execute("DELETE FROM everlog_snapshot")
            case "random":
                connection.execute("UPDATE everlog_snapshot SET state = ?", (os.urandom(40),))
            case "truncated":
                connection.execute("UPDATE everlog_snapshot SET state = substr(state, 1, length(state) / 2)")
            case "empty":
                connection.execute("UPDATE everlog_snapshot SET state = x''")
            case "of another state":
                connection.execute("UPDATE everlog_snapshot SET state = ?", (WRONG,))
            case "of another version":
                connection.execute("UPDATE everlog_snapshot SET version = version + 1")


WRONG = b'{"total":1000000,"amounts":[],"name":""}'
DAMAGES = ["deleted", "random", "truncated", "empty", "of another state", "of another version"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_lost_or_damaged_one_changes_no_answer(log: Log, path: Path, how: str) -> None:
    acme = log.tenant()
    expected = add(acme, 35)
    damaged(path, how)
    assert acme.state(often, "c") == expected == without_snapshots(log)
    assert acme.state(often, "c", at=33) == replace(expected, total=sum(range(34)), amounts=(29, 30, 31, 32, 33))
    assert acme.execute(often, "c", Add(36)).state.total == sum(range(37))


def saved_wrong(log: Log, **wrong: Any) -> None:
    """The newest snapshot again with something else in it, written as a store writes it: its checksum is right."""
    newest = snapshots(log)[-1]
    log.store.snapshots.delete(None)
    log.store.snapshots.save(newest._replace(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": b"not JSON"},
        {"state": b'{"total":"many"}'},
        {"state": b"[]"},
        {"version": 29},  # made when the events lay elsewhere, as before a restore
        {"version": 99},  # ahead of the log
        {"position": 7},
        {"version": 99, "position": 99},
    ],
    ids=str,
)
def test_one_of_another_schema_or_history_is_counted_and_replayed(log: Log, wrong: dict[str, Any]) -> None:
    acme = log.tenant()
    expected = add(acme, 35)
    before = log.counters["snapshots_unreadable"]
    saved_wrong(log, **wrong)
    assert acme.state(often, "c") == expected
    assert log.counters["snapshots_unreadable"] == before + 1


def test_one_ahead_of_the_point_asked_for_is_not_used(log: Log) -> None:
    acme = log.tenant()
    add(acme, 35)
    assert acme.state(often, "c", at=29).total == sum(range(30))
    assert acme.state(often, "c", at=30).total == sum(range(31))


def test_one_of_another_stream_or_tenant_is_not_used(log: Log) -> None:
    add(log.tenant(), EVERY)
    log.tenant("other").append("counter-c", Added("c", 1))
    log.tenant().append("counter-d", Added("d", 1))
    assert log.tenant("other").state(often, "c").total == 1
    assert log.tenant().state(often, "d").total == 1


def test_a_wrong_one_is_noticed_when_it_is_compared_replayed_and_deleted(path: Path) -> None:
    comparing = Platform("memory:", often, compare_snapshots_every=3)
    with comparing.open(f"sqlite:///{path}{FAST}") as log:
        acme = log.tenant()
        acme.append("counter-c", *[Added("c", 1)] * 30)
        acme.execute(often, "c", Add(1))
        saved_wrong(log, state=WRONG)
        totals = [acme.state(often, "c").total for _ in range(6)]
        assert totals == [1_000_000, 1_000_000, 31, 31, 31, 31]
        assert (log.counters["snapshots_compared"], log.counters["snapshots_wrong"]) == (1, 1)
        assert list(log.store.snapshots.all(None)) == []


def test_one_that_cannot_be_deleted_changes_no_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*where: object) -> int:
        raise StoreUnavailable("full")

    with Platform("memory:", often, compare_snapshots_every=1).open(f"sqlite:///{path}{FAST}") as log:
        add(log.tenant(), 31)
        saved_wrong(log, state=WRONG)
        monkeypatch.setattr(log.store.snapshots, "delete", refuse)
        assert log.tenant().state(often, "c").total == sum(range(32))
        assert log.counters["snapshots_wrong"] == 1


def test_a_right_one_is_compared_too_and_is_right(path: Path) -> None:
    with Platform("memory:", often, compare_snapshots_every=1).open(f"sqlite:///{path}{FAST}") as log:
        add(log.tenant(), 35)
        assert log.counters["snapshots_compared"] >= 25
        assert log.counters["snapshots_wrong"] == 0


def test_one_load_in_a_thousand_is_compared_by_default(log: Log) -> None:
    acme = log.tenant()
    add(acme, EVERY)
    for _ in range(2_000):
        acme.state(often, "c")
    assert log.counters["snapshots_compared"] == 2


@pytest.mark.parametrize("every", [0, -1])
def test_comparing_more_often_than_every_load_is_refused(every: int) -> None:
    with pytest.raises(Misconfigured, match=f"compare_snapshots_every={every} must be 1 or more"):
        Platform("memory:", often, compare_snapshots_every=every)


@pytest.mark.parametrize("error", [StoreUnavailable("disk full"), RuntimeError("odd")])
def test_one_that_cannot_be_written_loses_nothing_and_is_counted(
    log: Log, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(snapshot: StoredSnapshot) -> None:
        raise error

    monkeypatch.setattr(log.store.snapshots, "save", fail)
    assert add(log.tenant(), 35).total == sum(range(36))
    assert (snapshots(log), log.counters["snapshots_saved"]) == ([], 0)
    assert log.counters["snapshots_failed"] >= 3
    assert len(list(log.tenant().stream("counter-c"))) == 35


@event("purse.filled")
@dataclass(frozen=True)
class Filled:
    minor: int


def fill(command: int, purse: Money) -> list[Filled]:
    return [Filled(command)]


def filled(purse: Money, event: Filled) -> Money:
    return Money(purse.minor + event.minor, purse.currency)


purses = Decider("purse", initial=Money(0, "EUR"), decide=fill, evolve=filled, snapshot_every=1)


def test_a_state_that_checks_itself_may_refuse_what_a_snapshot_holds(path: Path) -> None:
    with Platform("memory:", purses).open(f"sqlite:///{path}{FAST}") as log:
        log.tenant().execute(purses, "p", 3)
        [snapshot] = snapshots(log, "purse-p")
        log.store.snapshots.delete(None)
        log.store.snapshots.save(snapshot._replace(state=b'{"minor":3,"currency":"euro"}'))
        assert log.tenant().state(purses, "p") == Money(3, "EUR")
        assert log.counters["snapshots_unreadable"] == 1


def test_a_state_that_cannot_be_encoded_loses_nothing_and_is_counted(path: Path) -> None:
    with Platform("memory:", purses).open(f"sqlite:///{path}{FAST}") as log:
        acme = log.tenant()
        assert acme.execute(purses, "p", 2**63 - 1).state.minor == 2**63 - 1
        assert acme.execute(purses, "p", 1).state == Money(2**63, "EUR")  # beyond 64 bits: no snapshot can say it
        assert (acme.state(purses, "p").minor, log.counters["snapshots_failed"]) == (2**63, 1)


def test_many_who_write_the_same_one_at_once_leave_one_that_is_right(log: Log, path: Path) -> None:
    log.tenant().append("counter-c", *[Added("c", 1)] * (EVERY - 1))
    others = [platform.open(f"sqlite:///{path}{FAST}") for _ in range(4)]
    try:
        sessions = [log.tenant(), *(other.tenant() for other in others)]
        calls = [
            lambda s=session: s.execute(often, "c", Add(1), attempts=100) for session in sessions for _ in range(6)
        ]
        answers = at_once(*calls)
        assert not [answer for answer in answers if isinstance(answer, Exception)]
    finally:
        for other in others:
            other.close()
    assert log.tenant().state(often, "c") == without_snapshots(log)
    assert len({snapshot.version for snapshot in snapshots(log)}) == len(snapshots(log)) >= 3
    for snapshot in snapshots(log):
        assert log.tenant().state(often, "c", at=snapshot.position).total == snapshot.version


def test_saving_one_again_replaces_it_whoever_else_does(log: Log) -> None:
    add(log.tenant(), EVERY)
    [snapshot] = snapshots(log)
    states = [bytes([number]) for number in range(8)]
    saves = [partial(log.store.snapshots.save, snapshot._replace(state=state)) for state in states]
    assert at_once(*saves) == [None] * 8
    [left] = snapshots(log)
    assert left.state in states
    assert left._replace(state=snapshot.state) == snapshot


def test_deleting_them_says_how_many_and_changes_no_answer(log: Log) -> None:
    acme = log.tenant()
    expected = add(acme, 35)
    assert log.store.snapshots.delete("default", "counter-c", older_than_version=30) == 2
    assert [snapshot.version for snapshot in snapshots(log)] == [30]
    assert log.store.snapshots.delete("other") == 0
    assert log.store.snapshots.delete(None) == 1
    assert acme.state(often, "c") == expected
