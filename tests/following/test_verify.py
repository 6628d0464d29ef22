"""Read models compared with the log while they run: every planted fault is found, none is invented, all are mended."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import psycopg
import pytest

from everlog import (
    Fold,
    FromNow,
    InvalidInput,
    Log,
    Misconfigured,
    NotFound,
    Platform,
    Recorded,
    SqlProjection,
    StoreUnavailable,
    Transaction,
)
from everlog.app.comparing import Everything, Which
from everlog.app.following import Projection
from everlog.app.rebuild import Rebuild
from everlog.app.shadow import ShadowBuild
from everlog.app.verify import Verification
from everlog.core.clock import system_clock
from everlog.core.envelope import FoldKey
from everlog.projection.sample import Draw
from everlog.projection.verify import LAST_EVENT, FieldDifference, RowDifference
from tests.following.parts import (
    ADD,
    LEASE,
    TABLE,
    Counted,
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

TENANTS = ("acme", "acme-2")
QUIET = [f"quiet-{number:02}" for number in range(12)]
BUSY = [f"busy-{number:02}" for number in range(8)]


def tamper(log: Log, sql: str, *values: object) -> None:
    """Change the database under a log, as somebody with a console would."""
    store: Any = log.store
    if hasattr(store, "_announcer"):  # PostgreSQL
        with psycopg.connect(store._connections.settings.conninfo, autocommit=True) as connection:
            assert connection.execute(sql.replace("?", "%s").encode(), values).rowcount == 1
    else:
        with store._connections.committing() as connection:
            assert connection.execute(sql, values).rowcount == 1


def verified(
    log: Log, projection: Projection, which: Which | None = None, *, repair: bool = False, **more: Any
) -> list[RowDifference]:
    return list(work(log, projection, **more).run(which or Everything(), repair=repair))


def work(log: Log, projection: Projection, **more: Any) -> Verification:
    return Verification(projection, log._scope.types, log.store, lease_seconds=LEASE, **more)


def faults(found: Sequence[RowDifference]) -> dict[tuple[object, ...], str]:
    told = {tuple(one.key.values())[:2]: str(one.fault) for one in found}
    assert len(told) == len(found), found
    return told


# ---- Under load.


class Load:
    """A worker, and an application that goes on appending for some keys; others are quiet."""

    def __init__(self, log: Log, random: Random) -> None:
        self.log, self._random = log, random
        self._done, self.appended = threading.Event(), 0

    def quiet(self) -> None:
        for tenant in TENANTS:
            keys = [*QUIET, *QUIET, *self._random.choices(QUIET, k=20)]
            append_many(self.log.tenant(tenant), keys)

    def run(self) -> None:
        while not self._done.is_set():
            append_many(self.log.tenant(self._random.choice(TENANTS)), self._random.choices(BUSY, k=3))
            self.appended += 3

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            eventually(lambda: self.appended)
            yield
        finally:
            self._done.set()
            thread.join()


def plant_in_fold(log: Log, fold: Fold[int], random: Random) -> dict[tuple[object, ...], str]:
    """One of each fault, in rows that no event changes meanwhile."""
    rows = [(tenant, key) for tenant in TENANTS for key in QUIET]
    edited, deleted, stale, unreadable, moved = random.sample(rows, 5)
    of = "WHERE projection = ? AND tenant = ? AND key = ?"
    tamper(log, f"UPDATE everlog_fold SET state = ? {of}", b"4711", fold.name, *edited)
    tamper(log, f"DELETE FROM everlog_fold {of}", fold.name, *deleted)
    tamper(log, f"UPDATE everlog_fold SET state = ?, position = 1 {of}", b"1", fold.name, *stale)
    tamper(log, f"UPDATE everlog_fold SET state = ? {of}", b'{"no": "number"}', fold.name, *unreadable)
    tamper(log, f"UPDATE everlog_fold SET position = position + 1 {of}", fold.name, *moved)
    tamper(log, "INSERT INTO everlog_fold VALUES (?, 1, 'acme', 'ghost', ?, 3)", fold.name, b"0")
    tamper(log, "INSERT INTO everlog_fold VALUES (?, 1, 'nobody', 'quiet-00', ?, 3)", fold.name, b"7")
    return {
        edited: "edited", deleted: "missing", stale: "stale", unreadable: "unreadable", moved: "edited",
        ("acme", "ghost"): "invented", ("nobody", "quiet-00"): "invented",
    }  # fmt: skip


def plant_in_table(log: Log, random: Random) -> dict[tuple[object, ...], str]:
    rows = [(tenant, key) for tenant in TENANTS for key in QUIET]
    edited, deleted, stale, emptied = random.sample(rows, 4)
    of = "WHERE tenant = ? AND key = ?"
    tamper(log, f"UPDATE counted SET n = 4711 {of}", *edited)
    tamper(log, f"DELETE FROM counted {of}", *deleted)
    tamper(log, f"UPDATE counted SET n = 1 {of}", *stale)  # as it was after the first event
    tamper(log, f"UPDATE counted SET n = NULL {of}", *emptied)
    tamper(log, "INSERT INTO counted VALUES ('acme', 'ghost', 0)")
    return {
        edited: "edited", deleted: "missing", stale: "stale", emptied: "edited", ("acme", "ghost"): "invented",
    }  # fmt: skip


@on_both
@pytest.mark.parametrize("seed", range(3))
def test_every_fault_is_found_and_mended_and_none_invented_while_a_worker_runs(url: str, seed: int) -> None:
    random = Random(seed)
    fold, inline, shared, table = tally(), tally("inline", inline=True), _shared(), _table(1 + seed % 3)
    everything: list[Projection] = [fold, inline, shared, table]
    with Platform(url, *everything).open(worker=True, lease_seconds=LEASE) as log:
        load = Load(log, random)
        load.quiet()
        settled(log)
        with load.running():
            for _ in range(2):
                for one in everything:
                    assert verified(log, one) == []
            planted: Mapping[str, Mapping[tuple[object, ...], str]] = {
                one.name: plant_in_fold(log, one, random) if isinstance(one, Fold) else plant_in_table(log, random)
                for one in everything
            }
            for one in everything:
                assert faults(verified(log, one)) == planted[one.name], one.name
                assert faults(verified(log, one, Draw(10**6, seed))) == planted[one.name], one.name
                assert faults(verified(log, one, repair=True)) == planted[one.name], one.name
                assert verified(log, one) == [], one.name
        settled(log)
        for tenant in TENANTS:
            expected = sums(log.tenant(tenant).events(Counted))
            for one in (fold, inline, shared):
                assert dict(log.tenant(tenant).all(one)) == expected
            assert {key: n for (whose, key), n in counted(log).items() if whose == tenant} == expected


def _shared() -> Fold[int]:
    """In partitions."""
    fold = Fold("shared", initial=0, partitions=3)

    @fold.on(Counted, key=lambda e: e.data.key or None)
    def add(total: int, e: Recorded[Counted]) -> int:
        return total + e.data.n

    return fold


def _table(partitions: int) -> SqlProjection:
    table = SqlProjection("counter", setup=[TABLE], tables=["counted"], partitions=partitions)

    @table.on(Counted)
    def add(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute(ADD, (e.tenant, e.data.key, e.data.n))

    return table


# ---- What is told.


@contextmanager
def followed(url: str, *projections: Projection, times: int = 3) -> Iterator[Log]:
    """Nobody runs them any more."""
    platform = Platform(url, *projections)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        for tenant in TENANTS:
            append_many(log.tenant(tenant), ["a", "b", "c"], times)
        settled(log, *[one.name for one in projections])
    with platform.open() as log:
        yield log


@on_both
def test_a_row_is_told_field_by_field_with_the_events_behind_it(url: str) -> None:
    carts, table = _carts(), counter()
    with followed(url, carts, table) as log:
        wrong = b'{"items": {"a": 1, "c": 2}, "last": "c"}'
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE projection = 'carts' AND tenant = 'acme'", wrong)
        tamper(log, "UPDATE counted SET n = 3 WHERE tenant = 'acme' AND key = 'b'")
        [told] = verified(log, carts)
        assert (told.place, told.fault, told.key) == ("carts", "edited", {"tenant": "acme", "key": "cart"})
        assert set(told.fields) == {
            FieldDifference("items.a", 1, 3),
            FieldDifference("items.b", "<missing>", 3),
            FieldDifference("items.c", 2, 3),
        }
        assert (told.events, told.positions, told.position, told.cut) == (9, tuple(range(1, 10)), 18, False)
        [told] = verified(log, carts, most_positions=2)
        assert (told.events, told.positions, told.cut) == (9, (8, 9), True)
        [told] = verified(log, table)
        assert (told.place, told.fault, told.key) == ("counted", "stale", {"tenant": "acme", "key": "b"})
        assert told.fields == (FieldDifference("n", 3, 6),)
        assert (told.events, told.positions, told.repaired) == (3, (2, 5, 8), False)


def _carts() -> Fold[dict[str, Any]]:
    fold = Fold[dict[str, Any]]("carts", initial={})

    @fold.on(Counted, key=lambda e: "cart")
    def put(state: dict[str, Any], e: Recorded[Counted]) -> dict[str, Any]:
        return {**state, "items": {**state.get("items", {}), e.data.key: e.data.n}, "last": e.data.key}

    return fold


def test_a_row_is_there_for_a_key_that_an_event_touched_whatever_its_state(url: str) -> None:
    fold = Fold("nothing", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def stay(state: int, e: Recorded[Counted]) -> int:
        return state

    with followed(url, fold) as log:
        assert verified(log, fold) == []
        tamper(log, "DELETE FROM everlog_fold WHERE tenant = 'acme' AND key = 'a'")
        tamper(log, "INSERT INTO everlog_fold VALUES ('nothing', 1, 'acme', 'd', ?, 1)", b"0")
        found = verified(log, fold)
        assert faults(found) == {("acme", "a"): "missing", ("acme", "d"): "invented"}
        assert [one.events for one in found if one.fault == "invented"] == [0]


def test_other_bytes_for_the_same_state_are_no_difference(url: str) -> None:
    carts = _carts()
    with followed(url, carts) as log:
        same = b'{ "last":"c",  "items": {"c":3,"b":3,"a":3} }'
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE tenant = 'acme'", same)
        assert verified(log, carts) == []


def test_a_row_that_names_another_last_event_is_told(url: str) -> None:
    fold = tally()
    with followed(url, fold) as log:
        tamper(log, "UPDATE everlog_fold SET position = 2 WHERE tenant = 'acme' AND key = 'a'")
        [told] = verified(log, fold)
        assert (told.fault, told.fields) == ("stale", (FieldDifference(LAST_EVENT, 2, 7),))


@on_both
def test_only_the_keys_that_are_named_are_compared(url: str) -> None:
    fold = tally()
    with followed(url, fold) as log:
        for key in "ab":
            tamper(log, "UPDATE everlog_fold SET state = ? WHERE tenant = 'acme' AND key = ?", b"99", key)
        one = work(log, fold)
        keys = [FoldKey("acme", "b"), FoldKey("acme", "b"), FoldKey("acme", "c"), FoldKey("acme", "nothing")]
        assert faults(list(one.run(keys))) == {("acme", "b"): "edited"}
        assert (one.outcome.rows, one.outcome.differing, one.outcome.complete) == (2, 1, False)


@on_both
def test_only_the_tenant_that_is_named_is_compared(url: str) -> None:
    fold = tally()
    with followed(url, fold) as log:
        for tenant in TENANTS:
            tamper(log, "UPDATE everlog_fold SET state = ? WHERE tenant = ? AND key = 'a'", b"99", tenant)
            tamper(log, "DELETE FROM everlog_fold WHERE tenant = ? AND key = 'b'", tenant)
        found = verified(log, fold, tenant="acme", repair=True)
        assert faults(found) == {("acme", "a"): "edited", ("acme", "b"): "missing"}
        assert faults(verified(log, fold)) == {("acme-2", "a"): "edited", ("acme-2", "b"): "missing"}


def test_a_table_is_compared_as_a_whole(url: str) -> None:
    table = counter()
    with followed(url, table) as log:
        with pytest.raises(InvalidInput, match="has no keys to name"):
            verified(log, table, [FoldKey("acme", "a")])
        with pytest.raises(InvalidInput, match="verify it without a tenant"):
            verified(log, table, tenant="acme")


# ---- Sampling.


def test_a_sample_is_drawn_from_what_is_stored_and_what_should_be(url: str) -> None:
    """Each row with the same chance, and as many as were asked for."""
    fold = tally()
    keys = [f"k{number:02}" for number in range(30)]
    platform = Platform(url, fold)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), keys)
        settled(log)
    with platform.open() as log:
        for key in keys[:15]:
            tamper(log, "DELETE FROM everlog_fold WHERE key = ?", key)
        drawn = dict.fromkeys(keys, 0)
        for seed in range(60):
            one = work(log, fold)
            found = list(one.run(Draw(10, seed)))
            assert one.outcome.rows == 10
            for row in found:
                drawn[str(row.key["key"])] += 1
        assert all(8 <= drawn[key] <= 34 for key in keys[:15]), drawn  # 20 each on the average
        assert not any(drawn[key] for key in keys[15:])
        assert verified(log, fold, Draw(10, 7)) == verified(log, fold, Draw(10, 7))
        assert verified(log, fold, Draw(10, 7)) != verified(log, fold, Draw(10, 8))


# ---- Mending.


@on_both
def test_a_worker_that_holds_a_wrong_state_forgets_it(url: str) -> None:
    """Without the fence it would go on from what it keeps in memory."""
    fold = tally()
    platform = Platform(url, fold)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), ["a"], 3)
        settled(log)
    with platform.open() as log:
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE key = 'a'", b"1000")
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        acme = log.tenant("acme")
        append_many(acme, ["a"])
        settled(log)
        assert acme.get(fold, "a") == 1001
        before = progress_of(log, "tally").position
        [told] = verified(log, fold, repair=True)
        assert (told.repaired, acme.get(fold, "a"), progress_of(log, "tally").position) == (True, 7, before)
        append_many(acme, ["a"])
        settled(log)
        assert acme.get(fold, "a") == 8


def test_only_the_rows_that_differ_are_written(url: str) -> None:
    fold, table = tally(), counter()
    with followed(url, fold, table) as log:
        same = "SELECT * FROM everlog_fold WHERE key <> 'a' ORDER BY tenant, key"
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE tenant = 'acme' AND key = 'a'", b"99")
        connections: Any = log.store
        with connections._connections.committing() as connection:
            for name in ("everlog_fold", "counted"):
                for act in ("UPDATE", "DELETE"):
                    connection.execute(
                        f"CREATE TRIGGER {name}_{act} BEFORE {act} ON {name} WHEN OLD.key <> 'a' "
                        "BEGIN SELECT raise(ABORT, 'not this one'); END"
                    )
        before = connections._connections.rows(same)
        verified(log, fold, repair=True)
        verified(log, table, repair=True)
        assert connections._connections.rows(same) == before
        assert verified(log, fold) == []


@on_both
def test_a_projection_that_a_row_made_fail_goes_on_once_it_is_mended(url: str) -> None:
    fold = tally()
    platform = Platform(url, fold)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), ["a"], 2)
        settled(log)
    with platform.open() as log:
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE key = 'a'", b"no json")
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), ["a"])
        failed(log, "tally")
        [told] = verified(log, fold, repair=True)
        assert (told.fault, told.repaired) == ("unreadable", True)
        settled(log)
        assert log.tenant("acme").get(fold, "a") == 4


class Cut(BaseException):
    pass


@on_both
@pytest.mark.parametrize("point", ["checkpoint.before_commit", "checkpoint.after_commit"])
@pytest.mark.parametrize("leaving", [True, False], ids=["leaves", "dies"])
def test_a_repair_that_was_cut_off_is_done_again(
    url: str, point: str, leaving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, table = tally(), counter()
    with followed(url, fold, table):
        pass

    def crash(name: str) -> None:
        if name == point:
            raise Cut

    platform = Platform(url, fold, table)
    with platform.open() as log:
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE tenant = 'acme' AND key = 'a'", b"99")
        tamper(log, "DELETE FROM counted WHERE tenant = 'acme' AND key = 'b'")
        if not leaving:
            monkeypatch.setattr(type(log.store.checkpoints), "leave", lambda self, claim: None)
        for projection in (fold, table):
            monkeypatch.setattr(log.store.checkpoints, "_crash", crash)
            with pytest.raises(Cut):
                verified(log, projection, repair=True)
    monkeypatch.undo()
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), ["a", "b"])
        settled(log)
        for projection in (fold, table):
            left = faults(verified(log, projection, repair=True))
            assert len(left) == (point == "checkpoint.before_commit")
            assert verified(log, projection) == []


@pytest.mark.parametrize("make", [tally, counter])
def test_what_is_paused_is_compared_and_not_mended(url: str, make: Any) -> None:
    projection = make()
    with followed(url, projection) as log:
        log.store.checkpoints.set_status(projection.name, "paused")
        assert verified(log, projection, repair=True) == []
        what = "everlog_fold SET state = ?" if make is tally else "counted SET n = ?"
        tamper(log, f"UPDATE {what} WHERE tenant = 'acme' AND key = 'a'", b"99" if make is tally else 99)
        assert len(verified(log, projection)) == 1
        with pytest.raises(StoreUnavailable, match="is paused: let it run first"):
            verified(log, projection, repair=True)
        assert progress_of(log, projection.name).status == "paused"


# ---- What cannot be compared is said.


def test_what_never_ran_or_is_about_to_begin_anew_is_not_compared(url: str) -> None:
    fold, table = tally(), counter()
    with Platform(url, fold, table).open() as log:
        with pytest.raises(NotFound, match="'tally' never ran"):
            verified(log, fold)
        with pytest.raises(Misconfigured, match="the table counted of 'counter' is not there"):
            verified(log, table)
    with followed(url, fold, table) as log:
        for projection in (fold, table):
            log.store.checkpoints.reset(projection.name)
            with pytest.raises(StoreUnavailable, match="has not begun anew"):
                verified(log, projection)
        with pytest.raises(StoreUnavailable, match="is run as version 1, not 2"):
            verified(log, tally(version=2))
    with pytest.raises(Misconfigured, match="begins at a now"):
        verified(log, tally(start=FromNow()))


def test_tables_of_another_shape_are_not_compared(url: str) -> None:
    with followed(url, counter()) as log:
        other = SqlProjection("counter", setup=[TABLE.replace("n INTEGER", "m INTEGER")], tables=["counted"])
        other.on(Counted)(lambda e, tx: None)
        with pytest.raises(Misconfigured, match="has the columns tenant, key, n, and the setup of 'counter' makes"):
            verified(log, other)


@on_both
def test_a_function_that_writes_to_a_table_of_others_is_not_run_again(url: str) -> None:
    table = SqlProjection("counter", setup=[TABLE], tables=["counted"])

    @table.on(Counted)
    def add(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute("INSERT INTO theirs VALUES (?)", (e.position,))

    with Platform(url, table).open() as log, log.store.checkpoints.transaction(_claim(log), 0) as tx:
        tx.execute("CREATE TABLE theirs (position INTEGER)")
    with followed(url, table) as log:
        with pytest.raises(Misconfigured, match="which its setup does not make"):
            verified(log, table)
        store: Any = log.store
        assert store._connections.rows("SELECT count(*) FROM theirs") == [(18,)]
        assert log.store.shadows.names() == []


def _claim(log: Log) -> Any:
    log.store.checkpoints.register("somebody", "projection", 1, 0)
    return log.store.checkpoints.claim("somebody", "a test", 60.0)


# ---- Tables of every kind.


@on_both
def test_tables_with_and_without_keys_are_compared_and_mended(url: str) -> None:
    serial = "INTEGER PRIMARY KEY" if url.startswith("sqlite") else "BIGSERIAL PRIMARY KEY"
    notes = SqlProjection(
        "notes",
        setup=[
            f"CREATE TABLE IF NOT EXISTS numbered (id {serial}, key TEXT, n INTEGER, "
            "twice INTEGER GENERATED ALWAYS AS (n * 2) STORED)",
            "CREATE TABLE IF NOT EXISTS loose (key TEXT, share DOUBLE PRECISION)",
            "CREATE INDEX IF NOT EXISTS loose_key ON loose (key)",
        ],
        tables=["numbered", "loose"],
    )

    @notes.on(Counted)
    def note(e: Recorded[Counted], tx: Transaction) -> None:
        tx.execute("INSERT INTO numbered (key, n) VALUES (?, ?)", (f"{e.position}", e.data.n))
        tx.execute("INSERT INTO loose VALUES (?, ?)", (e.data.key, e.data.n / 3))

    with followed(url, notes) as log:
        assert verified(log, notes) == []
        tamper(log, "UPDATE numbered SET n = 99 WHERE key = '2'")
        tamper(log, "DELETE FROM numbered WHERE key = '4'")
        tamper(log, "INSERT INTO loose VALUES ('a', ?)", 1 / 3)
        tamper(log, "INSERT INTO loose VALUES ('ghost', NULL)")
        found = verified(log, notes, repair=True)
        assert {one.fault for one in found if one.place == "loose"} == {"invented"}
        assert len([one for one in found if one.place == "loose"]) == 2
        assert len([one for one in found if one.place == "numbered"]) >= 2
        assert verified(log, notes) == []
        store: Any = log.store
        [(count, total)] = store._connections.rows("SELECT count(*), sum(twice) FROM numbered")
        assert (count, int(total)) == (18, 2 * 2 * 3 * 6)


@on_both
def test_more_rows_than_a_page_holds_are_compared(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from everlog.app import verify, verify_fold, verify_table

    monkeypatch.setattr(verify_fold, "AT_ONCE", 7)
    monkeypatch.setattr(verify_table, "PAGE", 7)
    monkeypatch.setattr(verify_table, "TRACED", 3)
    monkeypatch.setattr(verify, "BATCH", 4)
    keys = [f"k{number:03}" for number in range(40)]
    fold, table = tally(), counter()
    with Platform(url, fold, table).open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), keys)
        settled(log)
        for key in keys[3:30]:
            tamper(log, "DELETE FROM everlog_fold WHERE key = ?", key)
            tamper(log, "DELETE FROM counted WHERE key = ?", key)
        for key in keys[30:35]:
            tamper(log, "UPDATE everlog_fold SET state = ? WHERE key = ?", b"99", key)
            tamper(log, "UPDATE counted SET n = 99 WHERE key = ?", key)
        for one in (fold, table):
            found = verified(log, one, repair=True)
            assert sorted(str(row.key["key"]) for row in found) == keys[3:35]
            assert verified(log, one) == []
            traced = [row.events for row in found if row.events is not None]
            assert traced == [1] * (32 if one is fold else 24)


# ---- Shadows that are left, and several at once.


@on_both
def test_what_a_verification_left_that_was_killed_is_cleared_up(url: str) -> None:
    table = counter()
    with followed(url, table) as log:
        shadows = log.store.shadows
        new = f"~verify-{system_clock() // 1_000_000}-new"
        for name in ("~verify-1234-dead", "~verify-1234-alive", "of-others", new):
            shadow = shadows.open(name)
            shadow.checkpoints.register("everlog-verification", "projection", 1, 0)
            if name.endswith("alive"):
                assert shadow.checkpoints.claim("everlog-verification", "its verification", 60.0) is not None
            shadow.close()
        assert verified(log, table) == []
        assert shadows.names() == sorted(["of-others", "~verify-1234-alive", new])


@on_both
def test_several_verifications_at_once_do_not_disturb_each_other(url: str) -> None:
    table = counter()
    with followed(url, table, times=20) as log:
        results: list[Any] = []

        def verify() -> None:
            try:
                results.append(verified(log, table))
            except BaseException as error:  # seen by the assertion
                results.append(error)

        threads = [threading.Thread(target=verify) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [[]] * 4
        assert log.store.shadows.names() == []


def test_a_look_that_is_broken_off_leaves_nothing(url: str) -> None:
    table = counter()
    with followed(url, table) as log:
        tamper(log, "DELETE FROM counted WHERE tenant = 'acme' AND key = 'b'")
        look = work(log, table).run(Everything())
        assert next(look)
        del look
        assert log.store.shadows.names() == []


# ---- What is being built beside.


@on_both
def test_what_is_built_beside_is_compared_and_mended_before_it_serves(url: str) -> None:
    fold, table = tally(version=2), counter(version=2)
    with followed(url, tally(), counter()):
        pass
    platform = Platform(url, fold, table)
    with platform.open() as log:
        for one in (fold, table):
            ShadowBuild(one, platform.types, log.store).run()
        tamper(log, "UPDATE everlog_fold SET state = ? WHERE version = 2 AND tenant = 'acme' AND key = 'a'", b"99")
        shadow = log.store.shadows.open("counter")
        claim = shadow.checkpoints.claim("counter+", "a test", 60.0)
        assert claim is not None
        with shadow.checkpoints.transaction(claim, claim.position) as tx:
            tx.execute("DELETE FROM counted WHERE tenant = 'acme' AND key = 'a'")
        shadow.checkpoints.leave(claim)
        shadow.close()
        for one, fault, serving in ((fold, "edited", tally()), (table, "missing", counter())):
            assert verified(log, serving) == []
            found = verified(log, one, building=True, repair=True)
            assert faults(found) == {("acme", "a"): fault}
            assert verified(log, one, building=True) == []
            ShadowBuild(one, platform.types, log.store).swap()
            assert verified(log, one) == []
        assert dict(log.tenant("acme").all(fold)) == dict.fromkeys("abc", 6)
        assert counted(log)["acme", "a"] == 6


# ---- Memory.


@pytest.mark.parametrize("make", [tally, counter])
def test_it_needs_no_more_memory_for_more_rows(url: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 1 KB pass through a few at a time, however many there are."""
    from everlog.app import rerun, verify_fold, verify_table
    from everlog.projection import run

    for module, name, size in (
        (run, "_CACHED_KEYS", 200), (rerun, "SAVE_EVERY", 200), (verify_fold, "AT_ONCE", 50),
        (verify_table, "PAGE", 50),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, size)
    projection = make()
    platform = Platform(url, projection)
    most: list[int] = []
    with platform.open() as log:
        for number in range(6):
            for start in range(0, 1000, 250):
                log.tenant().append("tally-1", *[Counted(f"{number}-{start + n}{'x' * 1000}") for n in range(250)])
            if number in (1, 5):
                Rebuild(projection, platform.types, log.store).run(lambda progress: None)
                one = work(log, projection)
                tracemalloc.start()
                assert (list(one.run(Everything())), one.outcome.rows) == ([], 1000 * (number + 1))
                most.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
    assert most[1] < 1.3 * most[0], most


# ---- Any projection.


@pytest.mark.parametrize("seed", range(6))
def test_an_untouched_projection_has_no_difference(url: str, seed: int) -> None:
    """Fanned out or not, divided or not, inline or not, with any keys, and as the worker left it or as it goes on."""
    random = Random(seed)
    letters = ["a", "ü", "😀", "\0", "/", "'", " "]
    names = ["".join(random.choices(letters, k=random.randint(0, 3))) for _ in range(8)]

    def keys(e: Recorded[Counted]) -> list[str]:
        return [name for number, name in enumerate(names) if (e.data.n >> number) % 2]

    folds = [Fold("inline", initial=0, inline=True), Fold("divided", initial=0, partitions=random.randint(1, 4))]
    for fold in folds:
        fold.on(Counted, key=keys)(lambda total, e: total + e.data.n)
    platform = Platform(url, *folds)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        for _ in range(4):
            for _ in range(random.randint(0, 40)):
                log.tenant(random.choice(TENANTS)).append("tally-1", Counted("any", random.randrange(256)))
            settled(log)
            for fold in folds:
                for which in (
                    Everything(),
                    Draw(5, seed),
                    [FoldKey(tenant, name) for tenant in TENANTS for name in names],
                ):
                    assert verified(log, fold, which) == []
                one = work(log, fold)
                list(one.run(Everything()))
                assert one.outcome.rows == len(list(log.admin().all(fold)))
