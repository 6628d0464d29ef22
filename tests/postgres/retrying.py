"""A store as a careful caller uses it: what failed is asked for again with the same ids until it is answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from everlog.core.envelope import Append, Appended
from everlog.core.errors import OutcomeUnknown, StoreUnavailable
from everlog.store.contract import Store

T = TypeVar("T")


class Retrying:
    """`seen` counts the answers that were no answers; `answered` rings after each that was. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: Counter[str] = Counter()
        self.answered = threading.Event()

    def append(self, request: Append) -> Appended:
        appended = self._asked(lambda: self.store.append(request))
        self.answered.set()
        return appended

    def version_at(self, tenant: str, stream: str) -> int:
        return self._asked(lambda: self.store.version_at(tenant, stream))

    def _asked(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                return ask()
            except (StoreUnavailable, OutcomeUnknown) as error:
                self.seen[type(error).__name__] += 1
