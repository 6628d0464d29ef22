"""A log moved to another store is the same log, and there is only ever one that takes appends."""

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from everlog import LogClosed, Platform, Retry, processor
from everlog.adapters.sqlite import SqliteSettings
from everlog.app import copying
from everlog.app.copying import CopyProgress, copy_log, reopen_log
from everlog.app.stores import migrate_store, place_of, prepare_roles
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import Fenced, IncompatibleStore, Misconfigured, NotFound, StoreUnavailable
from everlog.store.contract import Release
from everlog.store.query import Filter
from tests.copying.conftest import Place
from tests.copying.logs import append, everything, fill, kept, opened
from tests.following.parts import Counted, counted, counter, eventually, tally

PAIRS = pytest.mark.parametrize(
    ("source", "target"), [("file", "pg"), ("pg", "file"), ("file", "file-2"), ("pg", "pg-2")]
)


def test_there_and_back_every_byte_is_the_same(place: Place) -> None:
    fill(place("file"))
    with opened(place("file")) as store:
        before = everything(store)
    there = copy_log(place("file"), place("pg"))
    back = copy_log(place("pg"), place("file-2"))
    assert (there.root, there.events, there.streams) == (back.root, back.events, back.streams)
    assert (there.incarnation, back.incarnation) == (2, 3)
    for url in (place("pg"), place("file-2")):
        with opened(url) as store:
            assert everything(store) == before
            assert store.head().log_id == there.log_id
            problems = [one for one in store.examine(deep=True) if one.level == "problem"]
            assert problems == []
    with opened(place("file-2")) as store:
        assert append(store) == before["head"][0] + 1


@PAIRS
def test_the_source_is_closed_and_says_where_it_went(place: Place, source: str, target: str) -> None:
    with opened(place(source)) as store:
        append(store, "a")
        copy_log(place(source), place(target))
        went = "takes no appends: it was moved to " + place_of(place(target))
        with pytest.raises(LogClosed, match=went):
            append(store)
        with pytest.raises(LogClosed, match=went):
            store.release(Release((1,), "erasure", "asked"))
        assert len(list(store.read(Filter(None)))) == 1
        assert any(one.check == "appends" and went.split(": ")[1] in one.seen for one in store.examine())
    with opened(place(target)) as store:
        assert (append(store, "b"), store.head().incarnation) == (2, 2)


@pytest.mark.parametrize("source", ["file", "pg"])
def test_a_transaction_of_the_callers_own_is_refused_too(place: Place, tmp_path: Path, source: str) -> None:
    with opened(place(source)) as store:
        append(store)
        copy_log(place(source), place("file-2"))
        connection: Any
        if source == "pg":
            connection = psycopg.connect(place("pg"))
        else:
            path = SqliteSettings.from_url(place("file")).path
            assert path is not None
            connection = sqlite3.connect(path, isolation_level=None)
        with closing(connection), pytest.raises(LogClosed), store.join(connection) as joined:
            joined.append(Append("acme", (NewEvent(bytes(16), "a-1", "b", 1, b"{}"),)))


def test_run_again_it_says_that_all_is_done(place: Place) -> None:
    fill(place("file"))
    first = copy_log(place("file"), place("pg"))
    with opened(place("pg")) as store:
        append(store, "later")
        store.release(Release((1, 2), "erasure", "asked"))
    again = copy_log(place("file"), place("pg"))
    assert (again.root, again.incarnation, again.already, first.already) == (first.root, 2, True, False)


@PAIRS
def test_what_is_appended_meanwhile_goes_along(
    place: Place, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_CLOSE_AT", 0)
    fill(place(source))
    acknowledged: list[int] = []

    def go_on() -> None:
        with opened(place(source)) as store, suppress(LogClosed):
            while True:
                acknowledged.append(append(store, str(len(acknowledged))))

    appender = threading.Thread(target=go_on)
    appender.start()
    eventually(lambda: acknowledged)
    copied = copy_log(place(source), place(target))
    appender.join()
    with opened(place(target)) as store:
        notes = [e.position for e in store.read_stream("acme", "note-1")]
        assert notes == acknowledged
        assert copied.events == store.head().position >= acknowledged[-1]


def test_a_copy_that_is_not_whole_takes_no_appends_and_no_follower(place: Place) -> None:
    fill(place("file"))

    def stop(now: CopyProgress) -> None:
        if now.position >= 1000:
            raise KeyboardInterrupt

    for target in ("pg", "file-2"):
        with pytest.raises(KeyboardInterrupt):
            copy_log(place("file"), place(target), tell=stop)
        with opened(place(target)) as store:
            assert store.head().position == 1000
            with pytest.raises(LogClosed, match=r"a copy of sqlite:.* is being written here: run it to its end"):
                append(store)
            store.checkpoints.register("mails", "processor", 1, 0)
            assert store.checkpoints.claim("mails", "me", 10.0) is None
    with opened(place("file")) as store:
        append(store)
    assert copy_log(place("file"), place("pg")).found == 1000


def test_a_release_after_its_payload_was_copied_reaches_the_copy(place: Place) -> None:
    fill(place("file"))
    once: list[int] = []

    def release(now: CopyProgress) -> None:
        if not once:
            with opened(place("file")) as store:
                once.append(store.release(Release((1, 2, 3), "erasure", "asked")))

    copy_log(place("file"), place("pg"), tell=release)
    with opened(place("file")) as ours, opened(place("pg")) as theirs:
        assert once == [3]
        assert everything(ours) == everything(theirs)
        assert [leaf.event.data for leaf in theirs.leaves(upto=3)] == [None] * 3


@pytest.mark.parametrize("target", ["file-2", "pg"])
def test_a_release_of_the_last_event_that_was_copied_lets_it_go_on(place: Place, target: str) -> None:
    fill(place("file"))

    def stop(now: CopyProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_log(place("file"), place(target), tell=stop)
    with opened(place("file")) as ours, opened(place(target)) as theirs:
        assert ours.release(Release((theirs.head().position,), "erasure", "asked")) == 1
    assert copy_log(place("file"), place(target)).found == 1000
    with opened(place("file")) as ours, opened(place(target)) as theirs:
        assert everything(ours) == everything(theirs)


@pytest.mark.parametrize("target", ["file-2", "pg"])
def test_whoever_opened_the_target_before_opens_it_again(place: Place, target: str) -> None:
    with opened(place("file")) as store:
        append(store, "a")
    with opened(place(target)) as before:
        copy_log(place("file"), place(target))
        with pytest.raises(StoreUnavailable, match="another log was put here"):
            append(before, "b")
    with opened(place(target)) as after:
        append(after, "b")
        assert [one for one in after.examine(deep=True) if one.level == "problem"] == []


@pytest.mark.parametrize("target", ["file-2", "pg"])
def test_of_two_copies_into_one_place_the_later_goes_on(place: Place, target: str) -> None:
    with opened(place("file")) as source, opened(place(target)) as one, opened(place(target)) as other:
        append(source)
        log_id, rows = source.head().log_id, list(source.leaves())
        one.exact.become(log_id, "one")
        other.exact.shut("other")
        with pytest.raises(StoreUnavailable, match=r"somebody else works on this log by now \(other\)"):
            one.exact.write(rows)
        other.exact.write(rows)
        for late in (one.exact.forget, lambda: one.exact.open(9, "{}")):
            with pytest.raises(StoreUnavailable):
                late()


# What is refused


def test_a_place_that_holds_another_log_is_refused(place: Place) -> None:
    for name in ("file", "pg"):
        with opened(place(name)) as store:
            append(store)
    with pytest.raises(Misconfigured, match=r"holds a log of its own \([0-9a-f]{32}, 1 events, open for appends\)"):
        copy_log(place("file"), place("pg"))
    with opened(place("file")) as store:
        append(store)


@pytest.mark.parametrize("target", ["file-2", "pg"])
def test_a_copy_whose_log_took_another_way_is_refused(place: Place, target: str) -> None:
    """As after a restore: the same log, and another event at the same position."""
    with opened(place("file")) as source, opened(place(target)) as store:
        append(source, "a")
        store.exact.become(source.head().log_id, "half")
        store.exact.write(list(source.leaves()))
        store.exact.open(1, "{}")
    with opened(place("file")) as source, opened(place(target)) as store:
        append(source, "ours")
        append(store, "theirs")
        store.exact.shut("half")
    with pytest.raises(IncompatibleStore, match="does not begin with"):
        copy_log(place("file"), place(target))
    with opened(place(target)) as store:
        store.exact.shut("")
        append(store, "more")
        store.exact.shut("half")
    with pytest.raises(IncompatibleStore, match="holds 3 events"):
        copy_log(place("file"), place(target))
    with opened(place("file")) as source:
        append(source, "as before")


def test_a_difference_that_shows_late_opens_the_source_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(place("file")) as store:
        append(store)

    def differ(self: Any) -> None:
        raise self._differs("as the test says")

    monkeypatch.setattr(copying._Copying, "_compare_streams", differ)
    with pytest.raises(IncompatibleStore, match=r"as the test says\. The source takes appends as before"):
        copy_log(place("file"), place("pg"))
    with opened(place("file")) as store:
        append(store)
    with opened(place("pg")) as store, pytest.raises(LogClosed):
        append(store)


@pytest.mark.parametrize("source", ["file", "pg"])
def test_a_difference_after_a_run_that_was_cut_off_opens_the_source_too(place: Place, source: str) -> None:
    with opened(place(source)) as store:
        append(store)

    def die(self: Any) -> None:
        raise KeyboardInterrupt

    with patch.object(copying._Copying, "_compare_streams", die), pytest.raises(KeyboardInterrupt):
        copy_log(place(source), place("file-2"))
    with opened(place(source)) as store, pytest.raises(LogClosed):
        append(store)

    def differ(self: Any, *_: Any) -> None:
        raise self._differs("as the test says")

    with (
        patch.object(copying._Copying, "_compare", differ),
        pytest.raises(IncompatibleStore, match=r"as the test says\. The source takes appends as before"),
    ):
        copy_log(place(source), place("file-2"))
    with opened(place(source)) as store:
        append(store)
        assert store.head().incarnation == 1
    assert copy_log(place(source), place("file-2")).events == 2


def test_a_difference_after_the_target_was_opened_says_that_the_source_is_closed(place: Place) -> None:
    with opened(place("file")) as store:
        append(store)
    copy_log(place("file"), place("pg"))
    with psycopg.connect(place("pg")) as connection:
        connection.execute("ALTER TABLE everlog_event DISABLE TRIGGER ALL")
        connection.execute("UPDATE everlog_event SET leaf = sha256('another')")
        connection.execute("ALTER TABLE everlog_event ENABLE TRIGGER ALL")
    with pytest.raises(IncompatibleStore, match=r"position 1 is another one\. The source stays closed.*reopen --force"):
        copy_log(place("file"), place("pg"))
    with opened(place("file")) as store, pytest.raises(LogClosed):
        append(store)
    with opened(place("pg")) as store:
        append(store)


def test_other_bytes_in_the_copy_are_noticed(place: Place) -> None:
    fill(place("file"))
    done: list[int] = []

    def damage(now: CopyProgress) -> None:
        if now.position >= 2000 and not done:
            with psycopg.connect(place("pg")) as connection:
                connection.execute("ALTER TABLE everlog_payload DISABLE TRIGGER ALL")
                done.append(connection.execute("UPDATE everlog_payload SET data = '{}' WHERE position = 1500").rowcount)
                connection.execute("ALTER TABLE everlog_payload ENABLE TRIGGER ALL")

    with pytest.raises(IncompatibleStore, match="the event at position 1500 is another one"):
        copy_log(place("file"), place("pg"), tell=damage)
    with opened(place("file")) as store:
        append(store)


def test_a_log_goes_to_one_place_only(place: Place) -> None:
    with opened(place("file")) as store:
        append(store)
    copy_log(place("file"), place("pg"))
    with pytest.raises(LogClosed, match=r"cannot be copied to .*file-2\.db: it was moved to postgresql:"):
        copy_log(place("file"), place("file-2"))


def test_a_place_the_log_moved_on_from_is_no_copy_to_go_on_with(place: Place) -> None:
    with opened(place("file")) as store:
        append(store, "first")
    copy_log(place("file"), place("pg"))
    copy_log(place("pg"), place("file-2"))
    with pytest.raises(IncompatibleStore, match="a later incarnation"):
        copy_log(place("file"), place("pg"))
    with opened(place("pg")) as store, pytest.raises(LogClosed):
        append(store, "second")


@pytest.mark.parametrize(
    ("source", "target", "error", "says"),
    [
        ("sqlite:///nowhere.db", "sqlite:///b.db", NotFound, "there is no log at sqlite:///.*nowhere.db"),
        ("sqlite:///a.db", "sqlite:///../{}/a.db", Misconfigured, "cannot be copied into itself"),
        ("sqlite:///a.db", "memory:", Misconfigured, "memory: is gone"),
        ("memory:", "sqlite:///a.db", Misconfigured, "memory: is gone"),
        ("sqlite:///a.db", "mysql://x", Misconfigured, "names no store"),
    ],
)
def test_what_is_no_pair_of_places_is_refused(
    source: str, target: str, error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        copy_log(source, target.format(tmp_path.name))
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_told_without_a_password_and_options() -> None:
    assert place_of("postgresql://me:secret@db:5433/shop?lock_timeout=3&sslmode=require") == "postgresql://db:5433/shop"
    assert place_of("postgresql://a,b/shop") == "postgresql://a,b/shop"


# Those who follow


def test_processors_go_on_where_they_were_and_folds_are_there(place: Place) -> None:
    mailed: list[int] = []

    @processor("mails", on=Counted, retry=Retry(attempts=1))
    def mail(e: Any) -> None:
        if e.data.key == "bad":
            raise ValueError("no such address")
        mailed.append(e.position)

    fold, table, inline = tally(), counter(), tally("at-once", inline=True)
    platform = Platform(place("file"), fold, table, inline, mail)
    with platform.open(worker=True, lease_seconds=0.4) as log:
        acme = log.tenant("acme")
        for key in ("a", "b", "bad"):
            acme.append(f"tally-{key}", Counted(key))
        for follows in (fold, table):
            acme.wait_for(follows)
        eventually(lambda: any(lag.lanes for lag in log.lags()) and len(mailed) == 2)
    with opened(place("file")) as store:
        before = kept(store)
        assert (len(before["lane"]), len(before["parked"])) == (1, 1)
    copied = copy_log(place("file"), place("pg"))
    with opened(place("file")) as ours, opened(place("pg")) as theirs:
        assert everything(ours) == everything(theirs)
        subscriptions = [row for row in before["subscription"] if row[0] != table.name]
        after = kept(theirs)
        assert after["subscription"] == subscriptions
        other: dict[str, Any] = {"subscription": [], "origin": []}
        assert after | other == before | other
    mailed.clear()
    with platform.open(place("pg"), worker=True, lease_seconds=0.4) as log:
        acme = log.tenant("acme")
        assert dict(acme.all(inline)) == dict(acme.all(fold)) == {"a": 1, "b": 1, "bad": 1}
        last = acme.append("tally-a", Counted("a")).position
        for follows in (fold, table):
            acme.wait_for(follows)
        eventually(lambda: mailed)
        assert mailed == [last]
        assert counted(log)["acme", "a"] == 2, "a table of the user's own is built anew"
        assert (acme.get(inline, "a"), acme.get(fold, "a")) == (2, 2)
    assert copied.incarnation == 2


def test_keys_that_only_sqlite_can_hold_come_back_as_they_were(place: Place) -> None:
    with opened(place("file")) as store:
        store.exact.shut("for the test")
        store.exact.keep("fold", [("tally", 1, "acme", "a\x00b", b"1", 1)])
        store.exact.keep("lane", [("mails", "acme/a\x00b", 7, "parked", 5, 0, "no\x00", 1, "acme/c\x00")])
        store.exact.keep("parked", [("mails", "acme/a\x00b", 1)])
        store.exact.open(1, "{}")
    copy_log(place("file"), place("pg"))
    copy_log(place("pg"), place("file-2"))
    with opened(place("file")) as first, opened(place("file-2")) as last:
        lane = ("mails", "acme/a\x00b", 7, "parked", 5, 0, "no\\x00", 1, "acme/c\x00")
        assert kept(last) == kept(first) | {"lane": [lane], "origin": kept(last)["origin"]}


def test_an_owner_is_fenced_when_the_log_is_closed(place: Place) -> None:
    for source, target in (("file", "file-2"), ("pg", "pg-2")):
        with opened(place(source)) as store:
            append(store)
            store.checkpoints.register("mails", "processor", 1, 0)
            claim = store.checkpoints.claim("mails", "me", 60.0)
            assert claim is not None
            copy_log(place(source), place(target))
            with pytest.raises(Fenced), store.checkpoints.transaction(claim, 1):
                pass
            assert store.checkpoints.claim("mails", "me", 60.0) is None
        with opened(place(target)) as store:
            again = store.checkpoints.claim("mails", "you", 60.0)
            assert again is not None
            assert again.epoch > claim.epoch


@pytest.mark.parametrize("target", ["file-2", "pg"])
def test_a_worker_that_waits_for_the_copy_finds_it_where_the_other_one_stopped(place: Place, target: str) -> None:
    with opened(place("file")) as store:
        append(store)
        store.checkpoints.register("mails", "processor", 1, 1)
    with opened(place(target)) as early:
        forget = type(early.exact).forget

        def register_at_once(exact: Any) -> None:
            forget(exact)
            early.checkpoints.register("mails", "processor", 1, 0)

        with patch.object(type(early.exact), "forget", register_at_once):
            copy_log(place("file"), place(target))
        claim = early.checkpoints.claim("mails", "me", 60.0)
        assert claim is not None
        assert claim.position == 1


def test_what_the_inbox_took_counts_in_the_next_incarnation(place: Place) -> None:
    with opened(place("file")) as store:
        append(store)
        store.checkpoints.register("mails", "processor", 1, 0)
        claim = store.checkpoints.claim("mails", "me", 60.0)
        assert claim is not None
        with store.checkpoints.transaction(claim, 1) as effects:
            assert store.desk.inbox.first(effects, "mails", 1, 1, 0)
            assert store.desk.inbox.first(effects, "mails", 7, 1, 0)
    copy_log(place("file"), place("pg"))
    with opened(place("pg")) as store:
        assert kept(store)["inbox"] == [("mails", 2, 1, 0), ("mails", 7, 1, 0)]


def test_each_incarnation_names_its_parent_the_cut_and_the_root(place: Place) -> None:
    with opened(place("file")) as store:
        append(store)
        append(store)
    there = copy_log(place("file"), place("pg"))
    with opened(place("pg")) as store:
        append(store)
    back = copy_log(place("pg"), place("file-2"))
    reopen_log(place("pg"))
    roots = [bytes.fromhex(one.root) for one in (there, back)]
    origins = {"file-2": [(2, 1, 2, roots[0]), (3, 2, 3, roots[1])], "pg": [(2, 1, 2, roots[0]), (4, 2, 3, roots[1])]}
    for name, expected in origins.items():
        with opened(place(name)) as store:
            assert [row[:4] for row in kept(store)["origin"]] == expected
            [told] = [one for one in store.examine(deep=True) if one.check == "incarnation"]
            assert f"2 went on from 1 at position 2, {expected[1][0]} went on from 2 at position 3" in told.seen


@pytest.mark.parametrize("target", ["file-2", "pg"])
@pytest.mark.parametrize("change", ["root = zeroblob(32)", "cut = cut + 1"])
def test_a_log_that_did_not_go_on_from_where_it_says_is_found(place: Place, target: str, change: str) -> None:
    with opened(place("file")) as store:
        append(store)
    copy_log(place("file"), place(target))
    connection: Any
    if target == "pg":
        connection = psycopg.connect(place("pg"), autocommit=True)
        change = change.replace("zeroblob(32)", "decode(repeat('00', 32), 'hex')")
    else:
        path = SqliteSettings.from_url(place(target)).path
        assert path is not None
        connection = sqlite3.connect(path, isolation_level=None)
    with closing(connection):
        connection.execute(f"UPDATE everlog_origin SET {change}")
    with opened(place(target)) as store:
        assert [one.check for one in store.examine() if one.level == "problem"] == []
        assert [one.check for one in store.examine(deep=True) if one.level == "problem"] == ["incarnation"]


def test_an_empty_log_moves_too(place: Place) -> None:
    with opened(place("file")) as store:
        log_id = store.head().log_id
    copied = copy_log(place("file"), place("pg"))
    assert (copied.events, copied.log_id, copied.incarnation) == (0, log_id, 2)
    with opened(place("pg")) as store:
        assert append(store) == 1


def test_the_engines_role_may_copy(place: Place) -> None:
    """Neither owner nor superuser: nothing of a copy passes row-level security but by the engine's policy."""
    engine, tenants, login = (f"copying_{name}_{os.getpid()}" for name in ("engine", "tenants", "login"))
    migrate_store(place("pg"))
    prepare_roles(place("pg"), engine_role=engine, tenant_role=tenants)
    with psycopg.connect(place("pg")) as owner:
        owner.execute(f"CREATE ROLE {login} LOGIN IN ROLE {engine}")
    fill(place("file"))
    as_engine = place("pg").replace("postgres@", f"{login}@") + f"?tenant_role={tenants}"
    there, back = copy_log(place("file"), as_engine), copy_log(as_engine, place("file-2"))
    assert (there.root, there.incarnation, back.incarnation) == (back.root, 2, 3)
