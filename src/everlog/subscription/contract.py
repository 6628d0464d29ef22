"""What following needs of a database: one row a subscription, moved together with the effect it covers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["projection", "processor"]
Status = Literal["running", "paused", "failed", "stopped"]


class Claim(NamedTuple):
    """The right to move one subscription, until its lease ends; `epoch` fences every commit.

    `anew`: it was sent back, and nothing was committed since, so what an earlier build left is still there.
    """

    name: str
    epoch: int
    position: int
    version: int
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a subscription is. `owner` is empty when no living lease holds it; `error` says why it failed."""

    name: str
    kind: Kind
    version: int
    position: int
    status: Status
    epoch: int
    owner: str
    error: str
    failed_position: int
    moved_at: int


class Effects(Protocol):
    """An open transaction in which effect, checkpoint and fence commit together."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement of the user's on the store's own database; gives its rows."""
        ...

    @property
    def connection(self) -> Any:
        """The driver's connection, for an ORM; never commit on it."""
        ...


class Checkpoints(Protocol):
    """Leases, checkpoints and states of all subscriptions of one log."""

    def register(self, name: str, kind: Kind, version: int, start: int) -> Progress:
        """Make its row if there is none (at position `start`); one of another version begins anew at `start`."""
        ...

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        """Take the lease when it is free, ended or ours, under a new epoch; `None` while somebody else's lives.

        Also `None` while the subscription is paused, failed or stopped. The version may be another than ours by now.
        """
        ...

    def renew(self, claim: Claim, lease_seconds: float) -> bool:
        """Whether the claim still holds; then its lease begins anew."""
        ...

    def leave(self, claim: Claim) -> None:
        """End the lease early, so that another may take over at once."""
        ...

    def transaction(self, claim: Claim, position: int) -> AbstractContextManager[Effects]:
        """Commits what the block did and the checkpoint at `position`; raises `Fenced` and keeps nothing otherwise."""
        ...

    def set_status(
        self, name: str, status: Status, *, error: str = "", position: int = 0, epoch: int | None = None
    ) -> bool:
        """Pause, resume, fail or stop; with `epoch` only if that owner still has it. False if it did nothing."""
        ...

    def reset(self, name: str, position: int = 0) -> None:
        """Send it back to `position` under a new epoch, which fences whoever moves it now."""
        ...

    def progress(self) -> list[Progress]:
        """All subscriptions by name."""
        ...
