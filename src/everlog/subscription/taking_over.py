"""Taking a partition over from whoever runs it; who is fenced gets it back once it is left."""

from everlog.core.errors import NotFound, StoreUnavailable
from everlog.subscription.contract import Checkpoints, Claim

_TRIES = 20


def taken_over(checkpoints: Checkpoints, partition: str, owner: str, lease_seconds: float) -> Claim:
    """A claim on it, under a new epoch. One that has failed is taken too, and runs then.

    Raises `NotFound`, and `StoreUnavailable` when it is paused or stopped, or its worker is quicker every time.
    """
    for _ in range(_TRIES):
        known = {one.name: one for one in checkpoints.progress()}.get(partition)
        if known is None:
            raise NotFound(f"{partition!r} is not there any more: it was divided anew, or swapped; try again")
        if known.status in ("paused", "stopped"):
            raise StoreUnavailable(f"{partition!r} is {known.status}: let it run first")
        checkpoints.set_status(partition, "running", epoch=known.epoch)
        claim = checkpoints.claim(partition, owner, lease_seconds)
        if claim is not None:
            return claim
    raise StoreUnavailable(f"{partition!r} was taken over by a worker again and again, or the log is closed: try again")
