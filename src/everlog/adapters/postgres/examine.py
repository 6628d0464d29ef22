"""What `everlog doctor` looks at in a PostgreSQL log."""

from collections.abc import Iterator

from psycopg import Connection

from everlog.adapters.postgres.connections import Connections
from everlog.adapters.postgres.roles import examine_roles
from everlog.adapters.postgres.server import examine_server
from everlog.core.clock import Clock
from everlog.store import findings
from everlog.store.contract import Finding, LeafRow
from everlog.store.exact import Origin


def examine(
    connections: Connections, leaves: Iterator[LeafRow] | None, clock: Clock, log_id: bytes
) -> Iterator[Finding]:
    """Cheap findings; with `leaves` also every row and every hash."""
    yield from _server(connections)
    yield from _head(connections, clock)
    known = [Origin(*row) for row in connections.rows("SELECT * FROM everlog_origin ORDER BY incarnation")]
    yield from findings.origins(known)
    if leaves is not None:
        yield _payloads(connections)
        yield from findings.leaves(leaves, log_id, known)


def _server(connections: Connections) -> list[Finding]:
    def ask(connection: Connection) -> list[Finding]:
        settings = connections.settings
        return [*examine_server(connection, settings), *examine_roles(connection, settings)]

    return connections.asked(ask)


def _head(connections: Connections, clock: Clock) -> Iterator[Finding]:
    position, recorded_at, closed, stored, last = connections.rows(
        "SELECT position, recorded_at, closed, (SELECT count(*) FROM everlog_event),"
        " (SELECT max(position) FROM everlog_event) FROM everlog_log"
    )[0]
    yield findings.positions(position, stored, last or 0)
    yield findings.clock(recorded_at, clock())
    yield findings.appends(closed)


def _payloads(connections: Connections) -> Finding:
    first, lost = connections.rows(
        "SELECT min(position), count(*) FROM everlog_event e WHERE NOT EXISTS"
        " (SELECT 1 FROM everlog_payload p WHERE p.position = e.position) AND NOT EXISTS"
        " (SELECT 1 FROM everlog_release r WHERE r.position = e.position)"
    )[0]
    return findings.payloads(first, lost)
