"""The timers of processes, read from the log's own database."""

from everlog.adapters.postgres.connections import Connections
from everlog.process import timers
from everlog.process.timers import SetTimer


class PostgresTimers:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def page(self, after: SetTimer | None, limit: int) -> list[SetTimer]:
        return timers.page(self._connections.rows, after, limit)
