"""What `doctor` says of a server, and what is refused at start (T37): each unsafe setting by itself."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from everlog.adapters.postgres import server
from everlog.core.errors import UnsafeSettings
from everlog.store.contract import Finding
from everlog.testing.conformance.events import new_event, request
from everlog.testing.postgres import Server, running
from tests.postgres.roles import admin, as_login, new_role, opened, under_roles

Url = str


def told(url: Url, check: str) -> list[Finding]:
    with opened(url) as store:
        return [one for one in store.examine() if one.check == check]


def test_nothing_is_wrong_with_a_server_as_it_comes(database: str) -> None:
    with opened(under_roles(database)) as store:
        store.append(request(new_event()))
        told = {one.check for one in store.examine(deep=True) if one.level != "ok"}
    assert told <= {"timeouts"}  # before PostgreSQL 17


# ---- Settings that lose events.


@pytest.fixture(scope="module")
def careless() -> Iterator[Server]:
    """A server whose machine may not crash."""
    with running(settings={"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}) as server:
        yield server


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_setting_that_loses_events_is_refused_with_the_override_named(careless: Server, name: str) -> None:
    others = {"fsync", "full_page_writes", "synchronous_commit"} - {name}
    with (
        pytest.raises(UnsafeSettings, match=f"^{name}=off: .* add allow_unsafe={name} to the URL"),
        opened(f"{careless.url()}?allow_unsafe={','.join(others)}"),
    ):
        pass


def test_a_setting_that_was_accepted_is_still_told(careless: Server) -> None:
    url = f"{careless.url()}?allow_unsafe=fsync,full_page_writes,synchronous_commit"
    [found] = told(url, "durability")
    assert found.level == "problem"
    assert found.seen == "fsync=off, synchronous_commit=off, full_page_writes=off"
    assert found.advice.endswith("turn fsync and synchronous_commit and full_page_writes on")


@pytest.mark.parametrize("where", ["DATABASE", "ROLE"])
def test_a_setting_of_a_database_or_a_role_counts(database: str, where: str) -> None:
    with opened(database):
        pass
    login = new_role(database, "LOGIN")
    name = conninfo_to_dict(database)["dbname"] if where == "DATABASE" else login
    admin(database, f'ALTER {where} "{name}" SET synchronous_commit = off')
    with pytest.raises(UnsafeSettings, match="synchronous_commit"), opened(as_login(database, "", login)):
        pass


# ---- What protects the log inside the database.


@pytest.mark.parametrize(("table", "trigger"), sorted(server._GUARDS))
@pytest.mark.parametrize("way", ["DISABLE TRIGGER {}", "ENABLE REPLICA TRIGGER {}"])
def test_a_trigger_that_is_off_is_told(database: str, table: str, trigger: str, way: str) -> None:
    with opened(database):
        admin(database, f"ALTER TABLE {table} {way.format(trigger)}")
    [found] = told(database, "append-only")
    assert found.level == "problem"
    assert found.seen == f"the trigger {trigger} of {table} is off or gone"


def test_a_session_without_triggers_is_told(database: str) -> None:
    with opened(database):
        pass
    admin(database, f'ALTER DATABASE "{database.rpartition("/")[2]}" SET session_replication_role = replica')
    assert len(told(database, "append-only")) == len(server._GUARDS)


def test_another_encoding_is_told(postgres_server: Server, database: str) -> None:
    name = f"{database.rpartition('/')[2]}_latin"
    admin(database, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        [found] = told(postgres_server.url(name), "encoding")
        assert (found.level, found.seen) == ("problem", "LATIN1")
    finally:
        admin(database, f"DROP DATABASE {name} WITH (FORCE)")


# ---- Room for connections.


@pytest.mark.parametrize("what", ["DATABASE", "ROLE"])
def test_more_connections_than_there_is_room_for_are_told(database: str, what: str) -> None:
    under_roles(database)
    login = new_role(database, "LOGIN")
    name = database.rpartition("/")[2] if what == "DATABASE" else login
    admin(database, f"GRANT test_engine TO {login}")
    try:
        for room, level in ((8, "problem"), (9, "ok")):
            admin(database, f"ALTER {what} {name} CONNECTION LIMIT {room}")
            [found] = told(as_login(database, "connections=3", login), "connections")
            seen = f"up to 9 a process, of {room} that this role may have here"  # 2 × 3, and the other three
            assert (found.level, found.seen) == (level, seen)
    finally:
        admin(database, f"ALTER {what} {name} CONNECTION LIMIT -1")


# ---- Who holds the head.


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to hold the head for seconds to be told."""
    monkeypatch.setattr(server, "_HOLDERS", server._HOLDERS.replace(server._HELD, "0"))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("taken", ["UPDATE everlog_log SET position = position", "SELECT FROM everlog_log FOR UPDATE"])
def test_who_holds_the_head_is_told_and_who_waits_for_it_is_not(database: str, taken: str) -> None:
    with opened(database):
        pass
    with (
        psycopg.connect(database, application_name="nightly") as holder,
        closing(psycopg.connect(database, application_name="waits")) as waits,
    ):
        holder.execute(taken)
        waits.pgconn.send_query(b"BEGIN; SELECT FROM everlog_log FOR UPDATE")
        [found] = told(database, "head")
        assert found.level == "problem"
        assert f"nightly (pid {holder.info.backend_pid}, idle in transaction) has held the head" in found.seen
        assert f"pg_terminate_backend({holder.info.backend_pid})" in found.advice


@pytest.mark.usefixtures("at_once")
def test_who_only_reads_holds_nothing_up(database: str) -> None:
    with opened(database):
        pass
    with psycopg.connect(database) as reader:
        reader.execute("SELECT position FROM everlog_log")
        reader.execute("CREATE TABLE mine (n int)")
        assert told(database, "head") == []


def test_a_holder_is_told_after_two_seconds(database: str) -> None:
    assert "'2000 milliseconds'" in server._HOLDERS
    with opened(database):
        pass
    with psycopg.connect(database) as holder:
        holder.execute("SELECT FROM everlog_log FOR UPDATE")
        assert told(database, "head") == []


def test_a_prepared_transaction_that_holds_the_head_is_told(database: str) -> None:
    with opened(database):
        pass
    with psycopg.connect(database, autocommit=True) as left:
        for statement in ("BEGIN", "UPDATE everlog_log SET position = position", "PREPARE TRANSACTION 'left'"):
            left.execute(statement)
        [found] = told(database, "head")
        left.execute("ROLLBACK PREPARED 'left'")
    assert (found.level, found.advice) == ("problem", "COMMIT PREPARED 'left' or ROLLBACK PREPARED 'left'")


# ---- What depends on the server's version.


@pytest.mark.parametrize(("version", "level"), [(160004, "warning"), (170000, "ok")])
def test_what_ends_a_busy_transaction_depends_on_the_version(
    database: str, monkeypatch: pytest.MonkeyPatch, version: int, level: str
) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", version)
    [found] = told(database, "timeouts")
    assert found.level == level
