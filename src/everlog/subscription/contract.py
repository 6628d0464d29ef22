"""What following needs of a database: one row a subscription, moved together with the effect it covers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["projection", "processor", "relay"]
Status = Literal["running", "paused", "failed", "stopped"]


class Claim(NamedTuple):
    """The right to move one partition of a subscription, until its lease ends; `epoch` fences every commit.

    `anew`: it was sent back, and nothing was committed since, so what an earlier build left is still there. `build`
    tells what this build of a projection keeps from what others keep. `until` is where this partition ends, because
    the subscription is being divided anew; `None`: it goes on.
    """

    name: str
    epoch: int
    position: int
    version: int
    anew: bool = False
    build: int = 1
    until: int | None = None
    lease_seconds: float = 60.0


class Attendance(NamedTuple):
    """How many workers run a subscription, and how many of them come before this one, in the order of their names."""

    workers: int
    before: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one partition of a subscription is.

    `owner` is empty when no living lease holds it; `error` says why it failed.
    """

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
    subscription: str = ""
    part: int = 0
    parts: int = 1
    until: int | None = None
    build: int = 1


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
    """Leases, checkpoints and states of all subscriptions of one log, a row a partition.

    What takes a `name` without a claim means all partitions of that subscription.
    """

    def register(self, name: str, kind: Kind, version: int, start: int, *, parts: int = 1) -> Progress:
        """Make its rows, `parts` of them, if there are none (at position `start`); one of another version begins anew
        at `start`, divided as it is. Gives its first partition."""
        ...

    def claim(self, name: str, owner: str, lease_seconds: float) -> Claim | None:
        """Take the lease of one partition when it is free, ended or ours, under a new epoch.

        `None` while somebody else's lives; while it is paused, failed or stopped; while the partitions before the last
        division have not come to their end; and while the first partition has not begun anew what was sent back. The
        version may be another than ours by now.
        """
        ...

    def renew(self, claim: Claim, lease_seconds: float) -> Claim | None:
        """The claim as it is by now, its lease begun anew; `None` when it does not hold any more."""
        ...

    def divide(self, name: str, parts: int) -> None:
        """Into so many partitions, in place of those there are, which end at the head as it is now.

        The new ones begin there once all the old ones have ended, so the order of a key holds. Raises `NotFound`, and
        `InvalidInput` while an earlier division is not through, or when a broker feeds it: its places are no positions.
        """
        ...

    def retire(self, claim: Claim) -> None:
        """The partition has come to its end, `claim.until`: it is no more."""
        ...

    def attend(self, name: str, owner: str, lease_seconds: float) -> Attendance:
        """Say that this worker runs the subscription, for so long, and hear who else does. 0 seconds: it goes."""
        ...

    def leave(self, claim: Claim) -> None:
        """End the lease early, so that another may take over at once."""
        ...

    def transaction(self, claim: Claim, position: int, *, upto: int = 0) -> AbstractContextManager[Effects]:
        """Commits what the block did and the checkpoint at `position`; raises `Fenced` and keeps nothing otherwise.

        Also when `position`, or `upto`, up to which effects outside are to follow, lies behind the partition's end.
        """
        ...

    def set_status(
        self, name: str, status: Status, *, error: str = "", position: int = 0, epoch: int | None = None
    ) -> bool:
        """Pause, resume, fail or stop; with `epoch` one partition only, if that owner has it. False: it did nothing."""
        ...

    def reset(self, name: str, position: int = 0) -> None:
        """Send it back to `position` under a new epoch, which fences whoever moves it now."""
        ...

    def go_back(self, claim: Claim, position: int) -> None:
        """As `reset`, by the owner, whose claim ends with it; raises `Fenced` when somebody else owns it by now."""
        ...

    def exchange(
        self, name: str, other: str, kept: str = "", within: Callable[[Effects], None] = lambda effects: None
    ) -> bool:
        """`other` takes this name, and what had it is called `kept` (default: as `other` was), in one transaction with
        what `within` does; whoever moves either is fenced.

        False, and nothing happens, while `other` is not as far as `name` is. Raises `NotFound` where one of them is not
        there, and `InvalidInput` while one is being divided.
        """
        ...

    def forget(self, name: str, within: Callable[[Effects, int], None] = lambda effects, build: None) -> None:
        """It is no more, and what `within` deletes of its build goes in the same transaction."""
        ...

    def build(self, names: Sequence[str], version: int) -> int | None:
        """The build of the first of these subscriptions that is of this version."""
        ...

    def progress(self) -> list[Progress]:
        """All partitions of all subscriptions, by name."""
        ...
