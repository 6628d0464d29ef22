"""Joining the transaction of an application: its rows and our events commit together, or neither is there."""

# ruff: noqa: PT012  (the whole block must raise as it ends, so the whole block stands under `raises`)

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import transaction
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from sqlalchemy import create_engine, orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from everlog.adapters.postgres import PostgresSettings, PostgresStore, join
from everlog.core.errors import Misconfigured, OutcomeUnknown, StoreUnavailable, WrongExpectedVersion
from everlog.core.expect import Exactly, NoStream
from everlog.testing.conformance.events import append, everything, new_event, request, versions
from tests.postgres.callers import OURS, THEIRS, Block, Caller, django_connection
from tests.postgres.server import empty_database

Run = Callable[[str, Block], None]

everybody = pytest.mark.parametrize("transact", OURS + THEIRS, ids=lambda run: run.__name__)
with_one_of_their_own = pytest.mark.parametrize("transact", THEIRS, ids=lambda run: run.__name__)
SEAT = "INSERT INTO seat VALUES ('A1')"


class Base(orm.DeclarativeBase):
    pass


class Seat(Base):
    __tablename__ = "seat"
    name: orm.Mapped[str] = orm.mapped_column(primary_key=True)


class _Changed(Exception):
    """The application changed its mind."""


@pytest.fixture
def url(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE seat (name TEXT)")
    return database


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with contextlib.closing(PostgresStore(PostgresSettings.from_url(f"{url}?lock_timeout=5"))) as store:
        yield store


@pytest.fixture
def elsewhere() -> Iterator[PostgresStore]:
    """Another log."""
    with empty_database() as url, contextlib.closing(PostgresStore(PostgresSettings.from_url(url))) as store:
        yield store


def seats(url: str) -> int:
    with psycopg.connect(url) as connection:
        return int(connection.execute("SELECT count(*) FROM seat").fetchall()[0][0])


def assert_nothing(store: PostgresStore, url: str) -> None:
    assert (seats(url), everything(store)) == (0, [])
    assert append(store).position == 1


@everybody
def test_rows_and_events_commit_together(store: PostgresStore, url: str, transact: Run) -> None:
    def block(caller: Caller) -> None:
        for _ in range(2):
            with store.join(caller.joins) as tx:
                caller.execute(SEAT)
                tx.append(request(new_event()))

    transact(url, block)
    assert (seats(url), versions(store)) == (2, [1, 2])


@everybody
def test_an_error_in_the_block_leaves_neither(store: PostgresStore, url: str, transact: Run) -> None:
    def block(caller: Caller) -> None:
        with store.join(caller.joins) as tx:
            caller.execute(SEAT)
            tx.append(request(new_event()))
            tx.flush()
            raise _Changed

    with pytest.raises(_Changed):
        transact(url, block)
    assert_nothing(store, url)


@everybody
def test_an_append_that_is_refused_takes_their_rows_along(store: PostgresStore, url: str, transact: Run) -> None:
    append(store)

    def block(caller: Caller) -> None:
        with store.join(caller.joins) as tx:
            caller.execute(SEAT)
            tx.append(request(new_event("order-2")))
            tx.append(request(new_event(), expect={"order-1": NoStream()}))

    with pytest.raises(WrongExpectedVersion):
        transact(url, block)
    assert (seats(url), versions(store, "order-2")) == (0, [])
    assert append(store).position == 2


@with_one_of_their_own
def test_a_rollback_after_the_block_leaves_neither(store: PostgresStore, url: str, transact: Run) -> None:
    def block(caller: Caller) -> None:
        with store.join(caller.joins) as tx:
            caller.execute(SEAT)
            tx.append(request(new_event()))
        raise _Changed

    with pytest.raises(_Changed):
        transact(url, block)
    assert_nothing(store, url)


@with_one_of_their_own
@pytest.mark.parametrize("flush", [False, True])
def test_an_error_that_is_passed_over_still_commits_nothing(
    store: PostgresStore, url: str, transact: Run, flush: bool
) -> None:
    def block(caller: Caller) -> None:
        caller.execute(SEAT)
        with contextlib.suppress(_Changed), store.join(caller.joins) as tx:
            tx.append(request(new_event()))
            if flush:
                tx.flush()
            raise _Changed

    transact(url, block)
    assert_nothing(store, url)


@with_one_of_their_own
def test_a_savepoint_of_theirs_bounds_what_a_failed_block_costs(store: PostgresStore, url: str, transact: Run) -> None:
    append(store)

    def block(caller: Caller) -> None:
        with contextlib.suppress(WrongExpectedVersion), caller.savepoint(), store.join(caller.joins) as tx:
            caller.execute(SEAT)
            tx.append(request(new_event(), expect={"order-1": NoStream()}))
        with caller.savepoint(), store.join(caller.joins) as tx:
            caller.execute(SEAT)
            tx.append(request(new_event(), expect={"order-1": Exactly(1)}))

    transact(url, block)
    assert (seats(url), versions(store)) == (1, [1, 2])


@everybody
def test_their_connection_is_as_it_was(store: PostgresStore, url: str, transact: Run) -> None:
    names = "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "enable_seqscan"
    shown = " || ' ' || ".join(f"current_setting('{name}')" for name in names)

    def block(caller: Caller) -> None:
        for _ in range(7):  # often enough for statements to be prepared
            with contextlib.suppress(_Changed), caller.savepoint():
                with store.join(caller.joins) as tx:
                    tx.append(request(new_event()))
                raise _Changed
            caller.execute(f"INSERT INTO seat SELECT {shown}")

    transact(url, block)
    with psycopg.connect(url) as connection:
        fresh = connection.execute(f"SELECT {shown}").fetchone()
        assert set(connection.execute("SELECT name FROM seat")) == {fresh}


def test_whoever_holds_the_head_is_bounded_from_then_on(store: PostgresStore, url: str) -> None:
    names = ["statement_timeout", "idle_in_transaction_session_timeout"]
    with psycopg.connect(url) as connection:
        if connection.info.server_version >= 170000:
            names.append("transaction_timeout")
        connection.execute("SET LOCAL statement_timeout = '7min'")
        with store.join(connection) as tx:
            tx.append(request(new_event()))
            assert connection.execute("SHOW statement_timeout").fetchone() == ("7min",)
            tx.flush()
            assert [connection.execute(f"SHOW {name}").fetchone() for name in names] == [("2s",)] * len(names)
        connection.commit()
        assert {connection.execute(f"SHOW {name}").fetchone() for name in names} == {("0",)}


def test_what_is_not_about_the_head_stays_theirs_after_a_flush(store: PostgresStore, url: str) -> None:
    names = (
        "lock_timeout", "enable_seqscan", "plan_cache_mode",
        "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout",
    )  # fmt: skip
    with psycopg.connect(url) as connection:
        theirs = dict(zip(names, ("7s", "on", "auto", "900ms", "1s", "1900ms"), strict=True))  # shorter than ours
        if connection.info.server_version < 170000:
            del theirs["transaction_timeout"]
        for name, value in theirs.items():
            connection.execute(f"SET LOCAL {name} = '{value}'")
        for _ in range(2):
            with store.join(connection) as tx:
                tx.append(request(new_event()))
            assert {name: connection.execute(f"SHOW {name}").fetchone() for name in theirs} == {
                name: (value,) for name, value in theirs.items()
            }


def test_a_longer_time_they_gave_their_transaction_does_not_let_it_hold_the_head(
    store: PostgresStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "HOLDER_MS", 200)
    with psycopg.connect(url) as connection:
        if connection.info.server_version < 170000:
            pytest.skip("this server ends no busy transaction")
        connection.execute("SET LOCAL transaction_timeout = '7min'")
        with pytest.raises(psycopg.Error, match="transaction timeout"), store.join(connection) as tx:
            tx.append(request(new_event()))
            tx.flush()
            for _ in range(100):
                connection.execute("SELECT pg_sleep(0.02)")
    assert append(store).position == 1


def test_waiting_for_the_head_is_bounded_by_the_settings(url: str) -> None:
    settings = PostgresSettings.from_url(f"{url}?lock_timeout=2")
    with contextlib.closing(PostgresStore(settings)) as store, psycopg.connect(url) as holder:
        holder.execute("SELECT FROM everlog_log FOR UPDATE")
        began = time.monotonic()
        with (
            psycopg.connect(url) as connection,
            pytest.raises(StoreUnavailable, match="lock timeout"),
            store.join(connection) as tx,
        ):
            tx.append(request(new_event()))
        assert time.monotonic() - began < 20  # and not the 30 s of the default


def test_an_event_loop_goes_on_while_a_block_waits_for_the_head(store: PostgresStore, url: str) -> None:
    def block(session: orm.Session) -> None:
        with store.join(session) as tx:
            tx.append(request(new_event()))

    async def run() -> None:
        engine = create_async_engine(
            "postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(url)
        )
        async with await psycopg.AsyncConnection.connect(url) as holder:
            await holder.execute("SELECT FROM everlog_log FOR UPDATE")
            async with AsyncSession(engine) as session, session.begin():
                joining = asyncio.create_task(session.run_sync(block))
                sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as looking:
                    while await (await looking.execute(sql)).fetchone() == (0,):
                        await asyncio.sleep(0.001)
                assert not joining.done()
                await holder.rollback()
                await joining
        await engine.dispose()

    asyncio.run(asyncio.wait_for(run(), 5))
    assert versions(store) == [1]


def test_what_an_orm_holds_back_is_sent_before_the_head_is_taken(store: PostgresStore, url: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    with orm.Session(engine) as session, session.begin(), store.join(session) as tx:
        session.add(Seat(name="A1"))
        tx.append(request(new_event()))
        tx.flush()
        assert not session.new
    engine.dispose()
    assert (seats(url), versions(store)) == (1, [1])


def test_django_forgets_what_it_was_to_do_on_commit(store: PostgresStore, url: str) -> None:
    done: list[str] = []
    with django_connection(url) as connection, transaction.atomic():
        transaction.on_commit(lambda: done.append("mailed"))
        with contextlib.suppress(_Changed), store.join(connection):
            raise _Changed
    assert done == []


def test_where_a_framework_has_no_transaction_there_is_none_to_join(store: PostgresStore, url: str) -> None:
    with (
        django_connection(url) as connection,
        pytest.raises(StoreUnavailable, match=r"transaction\.atomic"),
        store.join(connection),
    ):
        pass
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), isolation_level="AUTOCOMMIT")
    with orm.Session(engine) as session, pytest.raises(StoreUnavailable, match="AUTOCOMMIT"), store.join(session):
        pass
    engine.dispose()


def test_what_cannot_be_joined_is_refused(store: PostgresStore) -> None:
    with pytest.raises(Misconfigured, match=r"not str"), store.join("postgresql:///"):
        pass
    with pytest.raises(Misconfigured, match=r"run_sync"), store.join(AsyncSession()):
        pass


def test_a_connection_elsewhere_is_refused(store: PostgresStore) -> None:
    with empty_database() as other, psycopg.connect(other) as connection:
        with pytest.raises(Misconfigured, match="without this log"), store.join(connection):
            pass
        PostgresStore(PostgresSettings.from_url(other)).close()
        with pytest.raises(Misconfigured, match="another log"), store.join(connection):
            pass


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_join_that_was_refused_leaves_no_transaction_open(
    store: PostgresStore, elsewhere: PostgresStore, url: str, autocommit: bool
) -> None:
    """The next block would take it for one that the caller commits, and its events would be lost unheard."""
    with psycopg.connect(url, autocommit=autocommit) as connection:
        with pytest.raises(Misconfigured, match="another log"), elsewhere.join(connection):
            pass
        assert connection.info.transaction_status == TransactionStatus.IDLE
        with store.join(connection) as tx:
            tx.append(request(new_event()))
        connection.rollback()
    assert versions(store) == [1]


@pytest.mark.usefixtures("store")
def test_a_join_that_was_refused_leaves_theirs_as_it_was(elsewhere: PostgresStore, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(SEAT)
        with pytest.raises(Misconfigured, match="another log"), elsewhere.join(connection):
            pass
        connection.commit()
    assert seats(url) == 1


def test_a_role_that_may_not_append_is_told_so(store: PostgresStore, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL ROLE pg_monitor")
        with pytest.raises(Misconfigured, match="permission denied"), store.join(connection):
            pass


def test_their_taste_in_rows_and_cursors_is_kept(store: PostgresStore, url: str) -> None:
    with psycopg.connect(url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor) as connection:
        with store.join(connection) as tx:
            assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
            tx.append(request(new_event()))
            tx.flush()
            assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        assert isinstance(connection.cursor(), psycopg.ClientCursor)


@pytest.mark.parametrize(("options", "expected"), [("", "on"), ("&allow_unsafe=synchronous_commit", "off")])
def test_a_session_that_commits_without_the_disk_waits_for_it_this_once(
    store: PostgresStore, url: str, options: str, expected: str
) -> None:
    settings = PostgresSettings.from_url(f"{url}?lock_timeout=5{options}")
    with contextlib.closing(PostgresStore(settings)) as store, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        with store.join(connection) as tx:
            tx.append(request(new_event()))
            tx.flush()
            assert connection.execute("SHOW synchronous_commit").fetchone() == (expected,)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_lets_nobody_win_twice(store: PostgresStore, url: str, level: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"BEGIN ISOLATION LEVEL {level}")
        connection.execute("SELECT count(*) FROM everlog_event")
        append(store)
        with pytest.raises(StoreUnavailable, match="serialize"), store.join(connection) as tx:
            tx.append(request(new_event(), expect={"order-1": NoStream()}))
        connection.execute("ROLLBACK")
    assert versions(store) == [1]


def test_a_connection_lost_at_the_end_leaves_the_outcome_open(store: PostgresStore, url: str) -> None:
    with (
        psycopg.connect(url, autocommit=True) as connection,
        psycopg.connect(url, autocommit=True) as other,
        pytest.raises(OutcomeUnknown),
        store.join(connection) as tx,
    ):
        tx.append(request(new_event()))
        tx.flush()
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
    assert everything(store) == []
