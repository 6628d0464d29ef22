"""The two roles of a log: the engine's, which appends, follows and reads everything, and the tenants', whose reads see
one tenant. Neither owns the tables, is a superuser, or passes row-level security in any other way than by its policy.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege

from everlog.adapters.postgres.settings import PostgresSettings
from everlog.adapters.postgres.translate import said, translated
from everlog.core.errors import Misconfigured, UnsafeSettings
from everlog.store.contract import Finding

_KEPT = "SELECT, INSERT, UPDATE, DELETE"
ENGINE = {
    "everlog_log": "SELECT, UPDATE",
    "everlog_event": "SELECT, INSERT",
    "everlog_payload": "SELECT, INSERT, DELETE",  # the one door's trigger says which
    "everlog_tag": "SELECT, INSERT",
    "everlog_release": "SELECT, INSERT",
    **dict.fromkeys((
        "everlog_origin", "everlog_snapshot", "everlog_fold", "everlog_subscription", "everlog_lane", "everlog_parked",
        "everlog_mark", "everlog_inbox", "everlog_received", "everlog_feed", "everlog_attendance", "everlog_timer",
        "everlog_relay",
    ), _KEPT),
}  # fmt: skip
"""Every table, and what appending, following and reading need of it."""

TENANTS = ("everlog_event", "everlog_payload", "everlog_tag", "everlog_snapshot", "everlog_fold")
"""What a tenant's reads look into; each has the policy that shows the tenant a transaction is bound to."""

_ONE_TENANT = "(tenant = current_setting('everlog.tenant'::text, true))"
"""What the policy everlog_tenant, which the migration makes, lets through, in the server's words."""
_MIGRATE = "everlog store migrate with these roles, as the owner of the tables"
_SET_OPTION = 160000  # the first server where a membership says whether it may be used by SET ROLE
_SCHEMA = """SELECT nspname FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid
    WHERE pg_class.oid = 'everlog_log'::regclass"""
_ROLE = "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = %s"
_POLICY_ROLES = "SELECT roles FROM pg_policies WHERE schemaname = %s AND tablename = %s AND policyname = %s"
# Whoever inherits from the owner passes policies as the owner does; a policy for all, or for a role it inherits from,
# adds to what ours shows.
_PASSED = """
    SELECT c.relname, NOT c.relrowsecurity, pg_get_userbyid(c.relowner), pg_has_role(r.oid, c.relowner, 'USAGE'),
        (SELECT min(p.polname::text) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive
            AND p.polname <> 'everlog_tenant'
            AND EXISTS (SELECT FROM unnest(p.polroles) AS to_role
                WHERE CASE to_role WHEN 0 THEN true ELSE pg_has_role(r.oid, to_role, 'USAGE') END)),
        (SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
            WHERE p.polrelid = c.oid AND p.polname = 'everlog_tenant'),
        has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
    FROM pg_class c, pg_roles r WHERE c.oid = ANY(%s::regclass[]) AND r.rolname = %s ORDER BY c.relname"""
_OPEN_TABLES = """SELECT relname FROM pg_class WHERE oid = ANY(%s::regclass[]) AND NOT relrowsecurity ORDER BY 1"""
_INVOKER = 150000
"""The version that brought views which see what their reader may see."""
_VIEWS = """
    SELECT DISTINCT v.oid::regclass::text, v.relkind = 'm' FROM pg_depend d
    JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%s::regclass[])
        AND NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions)
            WHERE option_name = 'security_invoker' AND option_value::boolean)
    ORDER BY 1"""


def prepare_roles(settings: PostgresSettings, *, tenant_role: str | None, engine_role: str | None) -> None:
    """Make and grant what is missing, all or nothing; run it again after each migration, which may add tables."""
    with translated(), psycopg.connect(settings.conninfo) as connection:
        if engine_role is not None:
            grant_engine(connection, engine_role)
        if tenant_role is not None:
            grant_tenant(connection, tenant_role, engine=engine_role)


def grant_engine(connection: Connection, role: str) -> None:
    """Make it the role of whoever opens the log: they log in as it, or as a member of it."""
    _make(connection, role)
    schema = _schema(connection)
    with _as_owner(_MIGRATE):
        _run(connection, "GRANT USAGE ON SCHEMA {} TO {}", schema, role)
        for table, rights in ENGINE.items():
            _run(connection, f"GRANT {rights} ON {{}} TO {{}}", table, role)
            found = connection.execute(_POLICY_ROLES, (schema, table, "everlog_engine")).fetchone()
            if found is None:
                _run(connection, "CREATE POLICY everlog_engine ON {} TO {} USING (true)", table, role)
            elif role not in found[0]:
                every = sql.SQL(", ").join(map(sql.Identifier, [*found[0], role]))
                connection.execute(
                    sql.SQL("ALTER POLICY everlog_engine ON {} TO {}").format(sql.Identifier(table), every)
                )


def grant_tenant(connection: Connection, role: str, *, engine: str | None = None) -> None:
    """Make it the role that reads of one tenant run as, and let the engine (or whoever is connected) act as it."""
    _make(connection, role)
    with _as_owner(_MIGRATE):
        _run(connection, "GRANT USAGE ON SCHEMA {} TO {}", _schema(connection), role)
        for table in TENANTS:
            _run(connection, "GRANT SELECT ON {} TO {}", table, role)
    for reason in passes(connection, role):
        raise Misconfigured(f"{role!r} cannot be the tenants' role: {reason}")
    member = engine or connection.info.user
    if not _may_act_as(connection, member, role):
        only_set = " WITH INHERIT FALSE, SET TRUE" if connection.info.server_version >= _SET_OPTION else ""
        with _as_owner(f'GRANT "{role}" TO "{member}"{only_set}'):
            _run(connection, f"GRANT {{}} TO {{}}{only_set}", role, member)


def passes(connection: Connection, role: str) -> Iterator[str]:
    """Each way in which this role would see rows of every tenant, or could change them."""
    found = connection.execute(_ROLE, (role,)).fetchone()
    if found is None:
        yield "there is no such role"
        return
    for passed, attribute in zip(found, ("is a superuser", "has BYPASSRLS"), strict=True):
        if passed:
            yield f"it {attribute}, so row-level security does not hold for it"
    if any(found):
        return
    for table, is_open, owner, owns, policy, shown, writes in connection.execute(_PASSED, (list(TENANTS), role)):
        if is_open:
            yield f"row-level security is off on {table}: ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        if owns:
            yield f"it is {owner!r}, who owns {table}, or inherits from it, and owners pass policies"
        elif writes:
            yield f"it may write to {table}: REVOKE ALL ON {table} and grant SELECT"
        if policy is not None:
            yield f"the policy {policy} shows it every row of {table}"
        if shown is None:
            yield f"the policy everlog_tenant is missing on {table}"
        elif shown != _ONE_TENANT:
            mend = f"ALTER POLICY everlog_tenant ON {table} USING {_ONE_TENANT}"
            yield f"the policy everlog_tenant on {table} shows {shown}: {mend}"


def refuse_role(connection: Connection, settings: PostgresSettings) -> None:
    """Raises where reads of tenants would not run as `tenant_role`, or would see more than one tenant."""
    role = settings.tenant_role
    if role is None:
        return
    if connection.execute(_ROLE, (role,)).fetchone() is None or not _may_act_as(connection, None, role):
        raise Misconfigured(
            f"tenant_role={role}: there is no such role, or {connection.info.user!r} may not act as it: "
            f"run everlog store migrate --tenant-role {role}"
        )
    if "tenant_role" not in settings.allow_unsafe:
        for reason in passes(connection, role):
            raise UnsafeSettings(
                f"tenant_role={role} does not keep tenants apart: {reason}; or add allow_unsafe=tenant_role to the URL"
            )


def examine_roles(connection: Connection, settings: PostgresSettings) -> Iterator[Finding]:
    """Who reads as whom, and what would show one tenant the rows of another."""
    login = connection.execute(f"{_ROLE.replace('%s', 'current_user')}").fetchone() or (False, False)
    yield Finding(
        "role", "warning" if any(login) else "ok",
        f"{connection.info.user}{', which passes every policy' if any(login) else ''}",
        "let everlog log in as a member of the role that everlog store migrate --engine-role makes"
        if any(login) else "",
    )  # fmt: skip
    role = settings.tenant_role
    if role is None:
        yield Finding(
            "tenant role", "warning", "none: nothing but everlog's own SQL keeps tenants apart",
            "run everlog store migrate --tenant-role NAME, and add tenant_role=NAME to the URL",
        )  # fmt: skip
    else:
        reasons = [*passes(connection, role)]
        for reason in reasons:
            yield Finding("tenant role", "problem", f"{role}: {reason}", "mend it: tenants can see each other's rows")
        if not reasons:
            yield Finding("tenant role", "ok", f"{role} sees one tenant at a time, and nothing when it is told none")
    yield from _examine_tables(connection)


def _examine_tables(connection: Connection) -> Iterator[Finding]:
    for (table,) in connection.execute(_OPEN_TABLES, (list(ENGINE),)):
        yield Finding(
            "row-level security", "problem", f"off on {table}", f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        )
    for view, copied in connection.execute(_VIEWS, (list(ENGINE),)):
        closes = not copied and connection.info.server_version >= _INVOKER
        advice = f"ALTER VIEW {view} SET (security_invoker = true)" if closes else "grant it to nobody"
        yield Finding("view", "warning", f"{view} shows every tenant's rows to whoever may read it", advice)


def _make(connection: Connection, role: str) -> None:
    found = connection.execute(_ROLE, (role,)).fetchone()
    if found is not None and any(found):
        raise Misconfigured(f"the role {role!r} passes every policy: take SUPERUSER and BYPASSRLS from it")
    if found is None:
        with _as_owner(f'CREATE ROLE "{role}" NOLOGIN'):
            _run(connection, "CREATE ROLE {} NOLOGIN", role)


@contextmanager
def _as_owner(todo: str) -> Iterator[None]:
    """What only an owner or an administrator may do; where we may not, the error says what is to be done."""
    try:
        yield
    except InsufficientPrivilege as error:
        raise Misconfigured(f"{said(error)}: let an administrator run: {todo}") from error


def _may_act_as(connection: Connection, member: str | None, role: str) -> bool:
    """`member=None`: whoever is connected."""
    kind = "SET" if connection.info.server_version >= _SET_OPTION else "MEMBER"
    who, values = ("", ()) if member is None else ("%s, ", (member,))
    found = connection.execute(f"SELECT pg_has_role({who}%s, '{kind}')", (*values, role)).fetchone()
    return found == (True,)


def _schema(connection: Connection) -> str:
    [(schema,)] = connection.execute(_SCHEMA).fetchall()
    return str(schema)


def _run(connection: Connection, statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
