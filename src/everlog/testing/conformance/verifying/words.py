"""What the tests do to a database that keeps projections, in as few words as a sentence needs."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol

from everlog.projection.contract import MendableStates, Shadows, Tables
from everlog.subscription.contract import Checkpoints, Claim, Effects

NAME = "revenue"
LEASE = 10.0


class Place(Protocol):
    """One database, as far as projections are concerned."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def fold_states(self) -> MendableStates: ...

    @property
    def tables(self) -> Tables: ...

    @property
    def shadows(self) -> Shadows: ...

    def close(self) -> None: ...


def owned(checkpoints: Checkpoints, name: str = NAME) -> Claim:
    """Registered where that is needed, and owned."""
    if name not in {known.subscription for known in checkpoints.progress()}:
        checkpoints.register(name, "projection", 1, 0)
    claim = checkpoints.claim(name, "ann", LEASE)
    assert claim is not None
    return claim


def run(checkpoints: Checkpoints, *statements: str, at: int = 0, values: Sequence[object] = ()) -> list[Any]:
    """These statements as a projection's own, which brings it to a position; gives the rows of the last one."""
    found: list[Any] = []
    with checkpoints.transaction(owned(checkpoints), at) as effects:
        for statement in statements:
            found = effects.execute(statement, values)
    return found


@contextmanager
def moving(checkpoints: Checkpoints, effect: Callable[[Effects, int], None]) -> Iterator[None]:
    """Meanwhile it goes on from position to position, each with its effect."""
    claim, enough = owned(checkpoints), threading.Event()

    def move() -> None:
        for position in count(1):
            with checkpoints.transaction(claim, position) as effects:
                effect(effects, position)
            if enough.is_set():
                return

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
