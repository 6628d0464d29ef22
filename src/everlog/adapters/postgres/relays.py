"""What relays remember of the broker, read from the log's own database."""

from everlog.adapters.postgres.connections import Connections
from everlog.relay import state
from everlog.relay.state import Relayed


class PostgresRelays:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def all(self) -> dict[str, Relayed]:
        return state.every(self._connections.rows)
