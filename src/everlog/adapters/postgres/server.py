"""What the server must be for a log to keep its promises: what is refused at start, and what `everlog doctor` tells."""

from collections.abc import Iterator

from psycopg import Connection

from everlog.adapters.postgres.connections import ENDS_TRANSACTIONS, HOLDER_MS, is_pooled
from everlog.adapters.postgres.migrate import FORMAT
from everlog.adapters.postgres.settings import DURABLE, PostgresSettings
from everlog.core.errors import IncompatibleStore, UnsafeSettings
from everlog.store.contract import Finding

OLDEST_SERVER = 140000
OTHER_CONNECTIONS = 3
"""What one process opens beside those of the settings: one that appends, one that tells others, one that listens."""

_HELD = f"{HOLDER_MS} milliseconds"
_GUARDS = {
    ("everlog_log", "everlog_append_only"), ("everlog_log", "everlog_forward_only"),
    ("everlog_event", "everlog_append_only"), ("everlog_payload", "everlog_append_only"),
    ("everlog_payload", "everlog_one_door"), ("everlog_release", "everlog_append_only"),
}  # fmt: skip
# Enabled, and not only on a replica.
_FOUND_GUARDS = """SELECT tgrelid::regclass::text, tgname FROM pg_trigger
    WHERE starts_with(tgname, 'everlog_') AND tgenabled IN ('O', 'A')
    AND current_setting('session_replication_role') <> 'replica'"""
_ROOM = """SELECT least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user))"""
# Who has changed the head row keeps this lock on its table until COMMIT; whoever waits for the row has it too.
_HOLDERS = f"""
    SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, '?'), coalesce(a.state, 'state hidden'),
        extract(epoch FROM clock_timestamp() - a.xact_start)::bigint
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'everlog_log'::regclass AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND l.granted
        AND a.wait_event_type IS DISTINCT FROM 'Lock' AND a.xact_start < clock_timestamp() - interval '{_HELD}'
    ORDER BY a.xact_start"""
_PREPARED = """
    SELECT p.gid, extract(epoch FROM clock_timestamp() - p.prepared)::bigint
    FROM pg_prepared_xacts p JOIN pg_locks own ON own.transactionid = p.transaction AND own.pid IS NULL
    JOIN pg_locks l ON l.virtualtransaction = own.virtualtransaction AND l.pid IS NULL
    WHERE l.relation = 'everlog_log'::regclass AND l.mode IN ('RowShareLock', 'RowExclusiveLock')"""


def refuse_unsafe(connection: Connection, settings: PostgresSettings) -> None:
    """Raises `UnsafeSettings` for a server or session that may lose what it acknowledged."""
    if connection.info.server_version < OLDEST_SERVER:
        raise IncompatibleStore("everlog needs PostgreSQL 14 or newer")
    for name, loss in DURABLE.items():
        if _shown(connection, name) == "off" and name not in settings.allow_unsafe:
            raise UnsafeSettings(
                f"{name}=off: {loss}. Turn it on, or add allow_unsafe={name} to the URL to accept that"
            )


def examine_server(connection: Connection, settings: PostgresSettings) -> Iterator[Finding]:
    """The server's version and settings, and whoever holds the head of the log up at this moment."""
    yield Finding("PostgreSQL", "ok", f"{_shown(connection, 'server_version')}, format {FORMAT}")
    seen = {name: _shown(connection, name) for name in DURABLE}
    off = [name for name, value in seen.items() if value == "off"]
    yield Finding(
        "durability", "problem" if off else "ok", ", ".join(f"{name}={value}" for name, value in seen.items()),
        f"{DURABLE[off[0]]}: turn {' and '.join(off)} on" if off else "",
    )  # fmt: skip
    yield _encoding(connection)
    yield from _guards(connection)
    pooled = is_pooled(connection)
    yield Finding(
        "connection", "ok", "through a pooler: statements are not prepared, nobody listens" if pooled else "direct"
    )
    yield _room(connection, settings, pooled)
    yield _timeouts(connection)
    yield from _holders(connection)


def _encoding(connection: Connection) -> Finding:
    encoding = _shown(connection, "server_encoding")
    known = encoding == "UTF8"
    advice = "" if known else "names of tenants, streams and tags may be refused: make a database with ENCODING 'UTF8'"
    return Finding("encoding", "ok" if known else "problem", encoding, advice)


def _guards(connection: Connection) -> Iterator[Finding]:
    for table, trigger in sorted(_GUARDS - set(connection.execute(_FOUND_GUARDS))):
        advice = f"ALTER TABLE {table} ENABLE TRIGGER {trigger}, and find out who disabled it"
        yield Finding("append-only", "problem", f"the trigger {trigger} of {table} is off or gone", advice)


def _room(connection: Connection, settings: PostgresSettings, pooled: bool) -> Finding:
    [(room,)] = connection.execute(_ROOM).fetchall()
    needed = 2 * settings.connections + OTHER_CONNECTIONS
    seen = f"up to {needed} a process, of {room} that this role may have here"
    if needed > room and not pooled:
        return Finding("connections", "problem", seen, "raise max_connections, or lower connections= in the URL")
    return Finding("connections", "ok", seen)


def _timeouts(connection: Connection) -> Finding:
    seconds = HOLDER_MS // 1000
    seen = f"who holds the head is cut off when idle or in one statement for {seconds} s"
    if connection.info.server_version >= ENDS_TRANSACTIONS:
        return Finding("timeouts", "ok", f"{seen}, and when busy for so long in a joined transaction")
    advice = "what a joined transaction does after its flush is bounded from PostgreSQL 17 on: keep it short"
    return Finding("timeouts", "warning", f"{seen}; one that is joined and busy is not", advice)


def _holders(connection: Connection) -> Iterator[Finding]:
    for pid, who, state, seconds in connection.execute(_HOLDERS):
        seen = f"{who} (pid {pid}, {state}) has held the head for {seconds} s, and every append waits"
        yield Finding(
            "head", "problem", seen, f"commit right after flush; to end it: SELECT pg_terminate_backend({pid})"
        )
    for gid, seconds in connection.execute(_PREPARED):
        seen = f"the prepared transaction {gid!r} has held the head for {seconds} s, and every append waits"
        yield Finding("head", "problem", seen, f"COMMIT PREPARED '{gid}' or ROLLBACK PREPARED '{gid}'")


def _shown(connection: Connection, name: str) -> str:
    [(value,)] = connection.execute("SELECT current_setting(%s)", (name,)).fetchall()
    return str(value)
