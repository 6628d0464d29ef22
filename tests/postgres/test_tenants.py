"""Tenants under row-level security (T30): a read of one tenant runs as a role that sees no other, and nothing of that
is left on the connection. Whatever would let the role see more is refused at start, and told by `doctor`."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from everlog.adapters.postgres import PostgresStore
from everlog.app.stores import prepare_roles
from everlog.core.envelope import FoldKey, StoredSnapshot
from everlog.core.errors import InvalidInput, Misconfigured, StoreUnavailable, UnsafeSettings
from everlog.store.query import Filter
from everlog.testing.conformance.events import new_event, request
from tests.postgres.roles import ENGINE, LOGIN, TENANTS, admin, as_login, ask, make_role, new_role, opened, under_roles

BOTH = ("acme", "other")
SEEN = ("everlog_event", "everlog_payload", "everlog_tag", "everlog_snapshot", "everlog_fold")
UNSEEN = (
    "log",
    "origin",
    "release",
    "subscription",
    "lane",
    "parked",
    "mark",
    "inbox",
    "received",
    "feed",
    "timer",
    "attendance",
    "relay",
)
PRINT, CORRELATION = b"p" * 32, b"c" * 16
EVENT = new_event(actor="ann", tags=("red",), correlation_id=CORRELATION)

Read = Callable[[PostgresStore], object]

READS: dict[str, tuple[str, Read]] = {
    "read": ("everlog_event", lambda store: tenants_of(store.read(Filter("acme")))),
    "read one type": ("everlog_event", lambda store: tenants_of(store.read(Filter("acme", types=((EVENT.type, 1),))))),
    "read types": (
        "everlog_event",
        lambda store: tenants_of(store.read(Filter("acme", types=((EVENT.type, 1), ("x", None))))),
    ),
    "read tags": ("everlog_tag", lambda store: tenants_of(store.read(Filter("acme", tags=("red",))))),
    "read payloads": ("everlog_payload", lambda store: tenants_of(store.read(Filter("acme")))),
    "read an actor": ("everlog_event", lambda store: tenants_of(store.read(Filter("acme", actor="ann")))),
    "read a correlation": (
        "everlog_event",
        lambda store: tenants_of(store.read(Filter("acme", correlation_id=CORRELATION))),
    ),
    "read a stream": ("everlog_event", lambda store: tenants_of(store.read_stream("acme", "order-1"))),
    "find": ("everlog_event", lambda store: tenants_of(store.find("acme", [EVENT.id]).values())),
    "streams": ("everlog_event", lambda store: {head.tenant for head in store.streams("acme")}),
    "version": ("everlog_event", lambda store: {"acme"} if store.version_at("acme", "order-1", position=2) else set()),
    "version then": (
        "everlog_event",
        lambda store: {"acme"} if store.version_at("acme", "order-1", recorded_at=2**62) else set(),
    ),
    "snapshot": (
        "everlog_snapshot",
        lambda store: {one.tenant for one in [store.snapshots.latest("acme", "order-1", PRINT, version=9)] if one},
    ),
    "snapshots": ("everlog_snapshot", lambda store: {one.tenant for one in store.snapshots.all("acme")}),
    "state": (
        "everlog_fold",
        lambda store: {key.tenant for key in store.fold_states.load("sums", 1, [FoldKey("acme", "k")])},
    ),
    "states": ("everlog_fold", lambda store: {one.tenant for one in store.fold_states.all("sums", 1, "acme")}),
}


def tenants_of(events: Any) -> set[str]:
    return {event.tenant for event in events if event.data is not None}


@pytest.fixture
def url(database: str) -> str:
    """Of a log that holds the same for two tenants, as an application opens it, on one connection."""
    url = under_roles(database, "&connections=1")
    with opened(url) as store:
        for tenant in BOTH:
            event = EVENT if tenant == "acme" else EVENT._replace(id=bytes(16))
            store.append(request(event, tenant=tenant))
            store.snapshots.save(StoredSnapshot(tenant, "order-1", PRINT, 1, 1, 0, b"{}"))
        admin(
            database,
            *(f"INSERT INTO everlog_fold VALUES ('sums', 1, '{tenant}', 'k', '1', 1)" for tenant in BOTH),
        )
    return url


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with opened(url) as store:
        yield store


def left_behind(store: PostgresStore) -> tuple[object, ...]:
    """What the next one on the connection would find: who it is, for which tenant, and what that shows."""
    [(user, tenant)] = ask(store, "SELECT current_user::text, coalesce(current_setting('everlog.tenant', true), '')")
    with store._connections.transaction() as connection:
        connection.execute(f"SET LOCAL ROLE {TENANTS}")
        shown = connection.execute("SELECT count(*) FROM everlog_event").fetchall()[0][0]
    return user, tenant, shown


NOTHING = (LOGIN, "", 0)


# ---- What a tenant sees.


@pytest.mark.parametrize("name", READS)
def test_every_read_of_a_tenant_runs_as_the_tenants_role(store: PostgresStore, database: str, name: str) -> None:
    table, read = READS[name]
    assert read(store) == {"acme"}
    admin(database, f"REVOKE SELECT ON {table} FROM {TENANTS}")
    with pytest.raises(Misconfigured, match=f"permission denied for table {table}"):
        read(store)


@pytest.mark.parametrize("table", SEEN)
def test_a_session_without_tenant_sees_nothing_and_changes_nothing(
    store: PostgresStore, database: str, table: str
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"SET ROLE {TENANTS}")
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        for tenant in (*BOTH, "", "%", "nobody"):
            connection.execute("SELECT set_config('everlog.tenant', %s, false)", (tenant,))
            found = {row[0] for row in connection.execute(f"SELECT tenant FROM {table}")}
            assert found == ({tenant} if tenant in BOTH else set())
        for change in (f"INSERT INTO {table} SELECT * FROM {table}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(change)


@pytest.mark.parametrize("table", UNSEEN)
def test_what_belongs_to_no_tenant_is_closed_to_them(store: PostgresStore, database: str, table: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(f"SET ROLE {TENANTS}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SELECT FROM everlog_{table}")


def test_the_engine_sees_every_tenant_and_is_no_superuser(store: PostgresStore) -> None:
    assert {event.tenant for event in store.read(Filter(None))} == set(BOTH)
    assert ask(store, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user") == [(False,)]
    assert {one.check for one in store.examine(deep=True) if one.level != "ok"} <= {"timeouts"}  # before PostgreSQL 17


def test_a_role_that_is_nothing_to_the_log_sees_nothing_of_it(store: PostgresStore, database: str) -> None:
    stranger = new_role(database, "LOGIN")
    with pytest.raises(Misconfigured, match="permission denied"), opened(as_login(database, "", stranger)):
        pass
    admin(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {stranger}")
    with pytest.raises(Misconfigured, match="sees none of it"), opened(as_login(database, "", stranger)):
        pass


# ---- What is left on a connection for whoever comes next.


def test_the_next_request_on_a_connection_inherits_no_tenant(store: PostgresStore) -> None:
    for _, read in READS.values():
        read(store)
        assert left_behind(store) == NOTHING


def test_an_error_of_the_application_leaves_no_tenant(store: PostgresStore) -> None:
    def request() -> None:
        for _ in store.read(Filter("acme")):
            raise LookupError

    with pytest.raises(LookupError):
        request()
    assert left_behind(store) == NOTHING


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT nothing", "SELEKT", "SELECT 1; SELECT 2"])
def test_an_error_of_a_statement_leaves_no_tenant(store: PostgresStore, statement: str) -> None:
    with pytest.raises(InvalidInput):
        store._connections.rows(statement, tenant="acme")
    assert left_behind(store) == NOTHING


def test_a_request_that_is_cancelled_leaves_no_tenant(store: PostgresStore, database: str) -> None:
    refused: list[BaseException] = []

    def slow() -> None:
        try:
            store._connections.rows("SELECT pg_sleep(60)", tenant="acme")
        except StoreUnavailable as error:
            refused.append(error)

    request = threading.Thread(target=slow)
    request.start()
    with psycopg.connect(database, autocommit=True) as other:
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(60)%%' AND pid <> %s"
        while request.is_alive():
            other.execute(cancel, (other.info.backend_pid,))
            request.join(0.01)
    assert len(refused) == 1
    assert left_behind(store) == NOTHING


def test_a_connection_that_is_lost_leaves_no_tenant(store: PostgresStore, database: str) -> None:
    [(pid,)] = ask(store, "SELECT pg_backend_pid()")
    admin(database, f"SELECT pg_terminate_backend({pid}, 5000)")
    assert tenants_of(store.read(Filter("acme"))) == {"acme"}
    assert left_behind(store) == NOTHING


def test_two_tenants_at_once_on_one_connection_see_each_their_own(store: PostgresStore) -> None:
    wrong: list[object] = []

    def requests(tenant: str) -> None:
        sql = "SELECT tenant, current_user::text FROM everlog_event"  # which itself asks for everything
        for _ in range(100):
            found = store._connections.rows(sql, tenant=tenant)
            if found != [(tenant, TENANTS)]:
                wrong.append(found)

    threads = [threading.Thread(target=requests, args=(tenant,)) for tenant in BOTH * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert left_behind(store) == NOTHING


def test_an_append_reads_as_the_engine_and_leaves_no_tenant(store: PostgresStore) -> None:
    taken = EVENT._replace(id=bytes(16))  # known under another tenant, of which nothing may be shown
    with pytest.raises(Exception, match="id") as refused:
        store.append(request(taken, tenant="third"))
    assert "other" not in str(refused.value)
    with store._connections.writer() as connection:
        found = connection.execute("SELECT current_user::text, coalesce(current_setting('everlog.tenant', true), '')")
        assert found.fetchone() == (LOGIN, "")


# ---- What would let the tenants' role see more: refused at start, and told by doctor when that is overridden.


@contextlib.contextmanager
def superuser(database: str) -> Iterator[str]:
    yield new_role(database, "SUPERUSER")


@contextlib.contextmanager
def bypassing(database: str) -> Iterator[str]:
    yield new_role(database, "BYPASSRLS")


@contextlib.contextmanager
def owner(database: str) -> Iterator[str]:
    role = new_role(database)
    admin(database, f"ALTER TABLE everlog_event OWNER TO {role}")
    try:
        yield role
    finally:
        admin(database, "ALTER TABLE everlog_event OWNER TO postgres")


@contextlib.contextmanager
def member_of_the_owner(database: str) -> Iterator[str]:
    with owner(database) as role:
        member = new_role(database)
        admin(database, f"GRANT {role} TO {member}")
        yield member


@contextlib.contextmanager
def member_of_the_engine(database: str) -> Iterator[str]:
    role = new_role(database)
    admin(database, f"GRANT {ENGINE} TO {role}")
    yield role


@contextlib.contextmanager
def under_another_policy(database: str) -> Iterator[str]:
    admin(database, "CREATE POLICY reporting ON everlog_event FOR SELECT USING (true)")
    yield TENANTS


@contextlib.contextmanager
def without_a_policy(database: str) -> Iterator[str]:
    admin(database, "DROP POLICY everlog_tenant ON everlog_tag")
    yield TENANTS


@contextlib.contextmanager
def under_a_policy_that_only_has_the_name(database: str) -> Iterator[str]:
    admin(database, "ALTER POLICY everlog_tenant ON everlog_tag USING (true)")
    yield TENANTS


@contextlib.contextmanager
def without_row_level_security(database: str) -> Iterator[str]:
    admin(database, "ALTER TABLE everlog_payload DISABLE ROW LEVEL SECURITY")
    yield TENANTS


@contextlib.contextmanager
def allowed_to_write(database: str) -> Iterator[str]:
    admin(database, f"GRANT INSERT ON everlog_fold TO {TENANTS}")
    yield TENANTS


Way = Callable[[str], contextlib.AbstractContextManager[str]]

WAYS: dict[Way, str] = {
    superuser: "is a superuser",
    bypassing: "has BYPASSRLS",
    owner: "owns everlog_event",
    member_of_the_owner: "inherits from it",
    member_of_the_engine: "the policy everlog_engine shows it every row|may write to everlog_event",
    under_another_policy: "the policy reporting shows it every row of everlog_event",
    without_a_policy: "everlog_tenant is missing on everlog_tag",
    under_a_policy_that_only_has_the_name: "the policy everlog_tenant on everlog_tag shows true: ALTER POLICY",
    without_row_level_security: "row-level security is off on everlog_payload",
    allowed_to_write: "may write to everlog_fold",
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_role_that_passes_the_policies_is_refused_and_told(url: str, database: str, way: Way) -> None:
    with way(database) as role:
        admin(database, f"GRANT {role} TO {LOGIN}" if role != TENANTS else "SELECT 1")
        options = f"tenant_role={role}&connections=1"
        with pytest.raises(UnsafeSettings, match=WAYS[way]), opened(as_login(database, options)):
            pass
        with opened(as_login(database, f"{options}&allow_unsafe=tenant_role")) as store:
            found = [one for one in store.examine() if one.check == "tenant role"]
        assert {one.level for one in found} == {"problem"}
        assert re.search(WAYS[way], " ".join(one.seen for one in found))
        if role != TENANTS:
            admin(database, f"REVOKE {role} FROM {LOGIN}")


@pytest.mark.parametrize("name", ["nobody", "pg_monitor"])
def test_a_role_that_cannot_be_taken_is_refused_at_start(url: str, database: str, name: str) -> None:
    with (
        pytest.raises(Misconfigured, match=f"tenant_role={name}: .* migrate --tenant-role {name}"),
        opened(as_login(database, f"tenant_role={name}")),
    ):
        pass


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("VIEW v AS", "ALTER VIEW v SET"),
        ("VIEW v WITH (security_invoker = off) AS", "ALTER VIEW v SET"),
        ("MATERIALIZED VIEW v AS", "grant it to nobody"),
        ("VIEW v WITH (security_invoker) AS", ""),
    ],
)
def test_a_view_that_shows_everything_is_told(store: PostgresStore, database: str, view: str, told: str) -> None:
    [(version,)] = ask(store, "SELECT current_setting('server_version_num')::int")
    if version < 150000:
        if "security_invoker" in view:
            pytest.skip("PostgreSQL 15 brought security_invoker")
        told = "grant it to nobody"
    admin(database, f"CREATE {view} SELECT * FROM everlog_event", f"GRANT SELECT ON v TO {TENANTS}")
    leaks = {row[0] for row in store._connections.rows("SELECT tenant FROM v", tenant="acme")} == set(BOTH)
    found = [one.advice for one in store.examine() if one.check == "view"]
    assert (leaks, len(found)) == (bool(told), int(bool(told)))
    assert all(told in advice for advice in found)


def test_a_login_that_passes_every_policy_and_a_log_without_tenant_role_are_told(database: str) -> None:
    with opened(database) as store:
        told = {one.check: one.level for one in store.examine()}
    assert (told["role"], told["tenant role"]) == ("warning", "warning")


# ---- Making the roles.


def test_roles_are_made_with_nothing_to_spare_and_made_again(database: str) -> None:
    url = under_roles(database)
    under_roles(database)
    ours = "SELECT relname FROM pg_class WHERE starts_with(relname, 'everlog_') AND relkind = 'r'"
    granted = """SELECT grantee, string_agg(privilege_type, ' ' ORDER BY privilege_type)
        FROM information_schema.table_privileges WHERE table_name = %s AND grantee IN (%s, %s) GROUP BY grantee"""
    with opened(url) as store:
        tables = [row[0] for row in ask(store, ours)]
        assert sorted(tables) == sorted([*SEEN, *(f"everlog_{name}" for name in UNSEEN)])
    with psycopg.connect(database) as connection:
        found: dict[str, dict[str, str]] = {
            table: dict(connection.execute(granted, (table, ENGINE, TENANTS)).fetchall()) for table in tables
        }
    assert {table: rights.get(TENANTS) for table, rights in found.items()} == {
        table: "SELECT" if table in SEEN else None for table in tables
    }
    assert found["everlog_event"][ENGINE] == found["everlog_release"][ENGINE] == "INSERT SELECT"
    assert found["everlog_log"][ENGINE] == "SELECT UPDATE"
    assert found["everlog_payload"][ENGINE] == "DELETE INSERT SELECT"


def test_a_second_engine_role_does_not_take_it_from_the_first(database: str) -> None:
    url = under_roles(database)
    second = new_role(database, "LOGIN")
    prepare_roles(database, engine_role=second)
    for each in (url, as_login(database, "", second)):
        with opened(each) as store:
            store.append(request(new_event()))


def test_a_role_that_passes_policies_is_not_made_one_of_ours(database: str) -> None:
    under_roles(database)
    passing = new_role(database, "BYPASSRLS")
    for roles in ({"engine_role": passing}, {"tenant_role": passing}):
        with pytest.raises(Misconfigured, match="take SUPERUSER and BYPASSRLS from it"):
            prepare_roles(database, **roles)
    with pytest.raises(Misconfigured, match="cannot be the tenants' role"):
        prepare_roles(database, tenant_role=ENGINE)


def test_where_we_may_not_make_a_role_the_statement_is_named(database: str) -> None:
    under_roles(database)
    make_role(database, LOGIN, "LOGIN")
    missing = "test_never_made"
    with pytest.raises(Misconfigured, match=f'let an administrator run: CREATE ROLE "{missing}" NOLOGIN'):
        prepare_roles(as_login(database, ""), engine_role=missing)
    with pytest.raises(Misconfigured, match="as the owner of the tables"):
        prepare_roles(as_login(database, ""), engine_role=new_role(database))
    with pytest.raises(Misconfigured, match="knows no roles"):
        prepare_roles("sqlite:///x.db", engine_role="x")


def test_an_owner_who_is_no_superuser_prepares_the_roles(database: str) -> None:
    owning = new_role(database, "LOGIN CREATEROLE")
    admin(database, f"GRANT CREATE ON SCHEMA public TO {owning}")
    url = as_login(database, "", owning)
    with opened(url) as store:
        store.append(request(new_event()))
    names = {"engine_role": f"{owning}_engine", "tenant_role": f"{owning}_tenants"}
    prepare_roles(url, **names)
    admin(database, f"GRANT {names['engine_role']} TO {LOGIN}")
    with opened(as_login(database, f"tenant_role={names['tenant_role']}")) as store:
        assert tenants_of(store.read(Filter("acme"))) == {"acme"}
