"""What happened how often in this process, by name; `everlog doctor` and the metrics endpoint show it."""

import threading
from collections.abc import Mapping
from types import MappingProxyType

DESCRIPTIONS: Mapping[str, str] = MappingProxyType({
    "long_transactions": "write transactions that held the head longer than 10 ms",
    "execute_retries": "commands decided again because another writer came first",
    "snapshots_saved": "snapshots written",
    "snapshots_failed": "snapshots that could not be written; the events they fold are safe",
    "snapshots_unreadable": "snapshots that could not be decoded or belong to another history, and were replayed",
    "snapshots_compared": "loads from a snapshot that were compared with a full replay",
    "snapshots_wrong": "snapshots that differed from the full replay, and were replayed",
})  # fmt: skip


class Counters:
    """Thread-safe. A name must be described in `DESCRIPTIONS`."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._values = dict.fromkeys(DESCRIPTIONS, 0)

    def count(self, name: str, by: int = 1) -> None:
        with self._mutex:
            self._values[name] += by

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def all(self) -> dict[str, int]:
        with self._mutex:
            return dict(self._values)
