"""What the tests do to a database that keeps subscriptions, in as few words as a sentence needs."""

from typing import Protocol

from everlog.processing.contract import Desk
from everlog.projection.contract import FoldStates
from everlog.subscription.contract import Checkpoints, Claim, Kind, Progress

NAME = "mail"
LEASE = 10.0
SECOND = 1_000_000


class Following(Protocol):
    """What one database keeps beside a log."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def fold_states(self) -> FoldStates: ...

    @property
    def desk(self) -> Desk: ...

    def close(self) -> None: ...


class SettableLease:
    """The clock of leases, as a machine tells it: which run of the machine, and microseconds since it began."""

    def __init__(self) -> None:
        self.boot, self.now = "first", 5 * SECOND

    def __call__(self) -> tuple[str, int]:
        return self.boot, self.now

    def reboot(self) -> None:
        """The machine starts again, so its clock does too."""
        self.boot, self.now = f"after {self.boot}", SECOND


def registered(
    following: Following, name: str = NAME, kind: Kind = "processor", version: int = 1, start: int = 0
) -> Progress:
    return following.checkpoints.register(name, kind, version, start)


def claimed(following: Following, name: str = NAME, owner: str = "ann") -> Claim:
    """Registered where that is needed, and owned."""
    if name not in {known.name for known in following.checkpoints.progress()}:
        registered(following, name)
    claim = following.checkpoints.claim(name, owner, LEASE)
    assert claim is not None
    return claim


def progress(following: Following, name: str = NAME) -> Progress:
    return {known.name: known for known in following.checkpoints.progress()}[name]
