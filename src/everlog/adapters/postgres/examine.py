"""What `everlog doctor` looks at in a PostgreSQL log, and what is refused at start."""

from collections.abc import Iterator

from psycopg import Connection

from everlog.adapters.postgres.connections import Connections, is_pooled
from everlog.adapters.postgres.migrate import FORMAT
from everlog.adapters.postgres.settings import PostgresSettings
from everlog.core.clock import Clock
from everlog.core.errors import IncompatibleStore, UnsafeSettings
from everlog.store import findings
from everlog.store.contract import Finding, LeafRow

OLDEST_SERVER = 140000


def refuse_unsafe(connection: Connection, settings: PostgresSettings) -> None:
    """Raises `UnsafeSettings` for a server or session that may lose what it acknowledged."""
    if connection.info.server_version < OLDEST_SERVER:
        raise IncompatibleStore("everlog needs PostgreSQL 14 or newer")
    for name in ("fsync", "synchronous_commit"):
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        if row == ("off",) and name not in settings.allow_unsafe:
            raise UnsafeSettings(
                f"{name}=off loses acknowledged events when the server crashes: turn it on, or add "
                f"allow_unsafe={name} to the URL to accept that"
            )


def examine(
    connections: Connections, leaves: Iterator[LeafRow] | None, clock: Clock, log_id: bytes
) -> Iterator[Finding]:
    """Cheap findings; with `leaves` also every row and every hash."""
    yield from connections.asked(_server)
    yield from _head(connections, clock)
    if leaves is not None:
        yield _payloads(connections)
        yield from findings.leaves(leaves, log_id)


def _server(connection: Connection) -> list[Finding]:
    version, fsync, commit, role, bypass = connection.execute(
        """SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
            current_user, (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)"""
    ).fetchone() or ("", "", "", "", False)
    durable = fsync == "on" and commit != "off"
    return [
        Finding("PostgreSQL", "ok", f"{version}, format {FORMAT}"),
        Finding("durability", "ok" if durable else "problem", f"fsync={fsync}, synchronous_commit={commit}",
                "" if durable else "acknowledged events can be lost: turn both on"),
        Finding("connection", "ok", "through a pooler: statements are not prepared, nobody listens"
                if is_pooled(connection) else "direct"),
        Finding("role", "warning" if bypass else "ok", f"{role}{', which passes every policy' if bypass else ''}",
                "let everlog log in as a role that is neither superuser nor BYPASSRLS" if bypass else ""),
    ]  # fmt: skip


def _head(connections: Connections, clock: Clock) -> Iterator[Finding]:
    position, recorded_at, stored, last = connections.rows(
        "SELECT position, recorded_at, (SELECT count(*) FROM everlog_event), (SELECT max(position) FROM everlog_event)"
        " FROM everlog_log"
    )[0]
    yield findings.positions(position, stored, last or 0)
    yield findings.clock(recorded_at, clock())


def _payloads(connections: Connections) -> Finding:
    first, lost = connections.rows(
        "SELECT min(position), count(*) FROM everlog_event e WHERE NOT EXISTS"
        " (SELECT 1 FROM everlog_payload p WHERE p.position = e.position) AND NOT EXISTS"
        " (SELECT 1 FROM everlog_release r WHERE r.position = e.position)"
    )[0]
    return findings.payloads(first, lost)
