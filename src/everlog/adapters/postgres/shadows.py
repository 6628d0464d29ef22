"""`Shadows` on PostgreSQL: each is a schema that is looked into before those where names usually lead."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from everlog.adapters.postgres.checkpoints import LeaseClock, PostgresCheckpoints, PostgresEffects
from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.tables import postgres_tables
from everlog.adapters.postgres.translate import said, translated
from everlog.core.clock import Clock
from everlog.core.crash import CrashPoint
from everlog.core.errors import Misconfigured
from everlog.projection.tables import quoted, writes_elsewhere
from everlog.subscription.contract import Claim, Effects

_MARK = "everlog_shadow_"
_NAMES = f"""
    SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace
    WHERE starts_with(nspname, '{_MARK}') AND obj_description(oid, 'pg_namespace') IS NOT NULL ORDER BY 1"""
# Also counts what this connection changed, or rolled back, shortly before: so it is asked twice.
_ELSEWHERE = """
    SELECT schemaname || '.' || relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables
    WHERE schemaname <> ? AND n_tup_ins + n_tup_upd + n_tup_del > 0"""
_GRANTS = """
    SELECT acl.privilege_type, pg_get_userbyid(acl.grantee), acl.grantee = 0
    FROM pg_class c, aclexplode(c.relacl) acl WHERE c.oid = to_regclass(?) AND acl.grantee <> c.relowner"""


class _ShadowCheckpoints(PostgresCheckpoints):
    """As any, but a transaction that wrote outside of the shadow fails: a second run must change nothing in use.

    A subclass, because all the rest is the same to the letter.
    """

    def __init__(
        self, connections: Connections, clock: Clock, lease_clock: LeaseClock | None, crash: CrashPoint, schema: str
    ) -> None:
        super().__init__(connections, clock, lease_clock, crash)
        self._schema = schema

    @contextmanager
    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> Iterator[PostgresEffects]:
        with super().transaction(claim, position, upto=upto) as effects:
            before = effects.execute(_ELSEWHERE, (self._schema,))
            yield effects
            if elsewhere := {*effects.execute(_ELSEWHERE, (self._schema,))}.difference(before):
                raise writes_elsewhere(claim.name, min(elsewhere)[0])


class PostgresShadow:
    """One schema, and connections that look into it first."""

    def __init__(
        self,
        connections: Connections,
        schema: str,
        clock: Clock,
        lease_clock: LeaseClock | None,
        crash: CrashPoint,
    ) -> None:
        self.connections, self.schema = connections, schema
        self.checkpoints = _ShadowCheckpoints(connections, clock, lease_clock, crash, schema)
        self.tables = postgres_tables(connections, schema)

    def drop(self) -> None:
        _run(self.connections, f"DROP SCHEMA IF EXISTS {quoted(self.schema)} CASCADE")
        self.close()

    def close(self) -> None:
        self.connections.close()


class PostgresShadows:
    def __init__(self, log: Connections, clock: Clock, lease_clock: LeaseClock | None, crash: CrashPoint) -> None:
        self._log, self._clock, self._lease_clock, self._crash = log, clock, lease_clock, crash

    def open(self, name: str, *, fresh: bool = False) -> PostgresShadow:
        schema = _schema(name)
        place = quoted(schema)
        with _permitted(self._log):
            _run(self._log, *self._made(name, place, fresh=fresh))
        [(path,)] = self._log.rows("SELECT current_setting('search_path')")
        connections = self._log.beside(f"SET LOCAL search_path = {place}, {path}")
        return PostgresShadow(connections, schema, self._clock, self._lease_clock, self._crash)

    @staticmethod
    def _made(name: str, place: str, *, fresh: bool) -> Sequence[str]:
        return [
            *([f"DROP SCHEMA IF EXISTS {place} CASCADE"] if fresh else []),
            f"CREATE SCHEMA IF NOT EXISTS {place}",
            f"COMMENT ON SCHEMA {place} IS {sql.Literal(name).as_string()}",
            f"CREATE TABLE IF NOT EXISTS {place}.everlog_subscription (LIKE everlog_subscription INCLUDING ALL)",
        ]

    def names(self) -> list[str]:
        return [name for (name,) in self._log.rows(_NAMES)]

    def swap(self, effects: Effects, name: str, tables: Sequence[str], kept: str) -> None:
        place, aside = quoted(_schema(name)), quoted(f"{_schema(name)}_aside")
        effects.execute(f"CREATE SCHEMA {aside}")
        for table in tables:
            table = quoted(table.lower())
            # A version may have tables that another one has not: those stay where they are.
            if effects.execute("SELECT 1 WHERE to_regclass(?) IS NULL", (f"{place}.{table}",)):
                continue
            found = effects.execute(
                "SELECT nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid "
                "WHERE c.oid = to_regclass(?)",
                (table,),
            )
            if not found:
                [(schema,)] = effects.execute("SELECT current_schema()")
                effects.execute(f"ALTER TABLE {place}.{table} SET SCHEMA {quoted(schema)}")
                continue
            [(schema,)] = found
            grants = effects.execute(_GRANTS, (table,))
            live = quoted(schema)
            effects.execute(f"ALTER TABLE {live}.{table} SET SCHEMA {aside}")
            effects.execute(f"ALTER TABLE {place}.{table} SET SCHEMA {live}")
            effects.execute(f"ALTER TABLE {aside}.{table} SET SCHEMA {place}")
            for right, role, everybody in grants:  # who might read the table may read the one in its place
                effects.execute(f"GRANT {right} ON {live}.{table} TO {'PUBLIC' if everybody else quoted(role)}")
        effects.execute(f"DROP SCHEMA {aside}")
        effects.execute(f"DELETE FROM {place}.everlog_subscription")
        copied = f"INSERT INTO {place}.everlog_subscription SELECT * FROM everlog_subscription WHERE subscription = ?"
        effects.execute(copied, (kept,))


@contextmanager
def _permitted(log: Connections) -> Iterator[None]:
    try:
        yield
    except Misconfigured as error:
        if not isinstance(error.__cause__, InsufficientPrivilege):
            raise
        [(database, role)] = log.rows("SELECT current_database(), current_user")
        todo = f"GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(role)}"
        raise Misconfigured(f"{said(error.__cause__)}: let an administrator run: {todo}") from error


def _schema(name: str) -> str:
    return _MARK + hashlib.blake2b(name.encode(), digest_size=10).hexdigest()


def _run(connections: Connections, *statements: str) -> None:
    """In one transaction."""
    with translated(), connections.transaction() as connection:
        for statement in statements:
            connection.execute(statement.encode())
