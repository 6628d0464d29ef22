"""What a person does about relays: see how far they are and what holds them up, and have the broker filled again."""

from collections.abc import Sequence
from dataclasses import dataclass

from everlog.app.stores import Backend
from everlog.core.errors import InvalidInput, NotFound, StoreUnavailable
from everlog.relay.state import Relayed, note
from everlog.subscription.contract import Progress
from everlog.subscription.partition import as_one

_TRIES, _LEASE_SECONDS = 5, 10.0


@dataclass(frozen=True, slots=True)
class RelayLag:
    """How far a relay is behind the head, in events of the log, and what it knows of the broker, if anything yet."""

    progress: Progress
    events: int
    relayed: Relayed | None


def relay_lags(backend: Backend) -> list[RelayLag]:
    """Every relay that was ever run on the log, whoever runs it."""
    head, known = backend.head().position, backend.relays.all()
    return [
        RelayLag(one, max(0, head - one.position), known.get(name))
        for name, one in as_one(backend.checkpoints.progress()).items()
        if one.kind == "relay"
    ]


def relay_troubles(backend: Backend, names: Sequence[str]) -> str:
    """Why the broker does not take what these relays send, if it does not."""
    found = [(one.progress.name, one.relayed.trouble) for one in relay_lags(backend) if one.relayed is not None]
    return "; ".join(f"{name}: {trouble}" for name, trouble in found if trouble and name in names)


def refill(backend: Backend, name: str, position: int | None = None) -> int:
    """Have a relay remove what the broker holds from `position` on, or all of it, and send that again; says from where.

    The worker that runs the relay does it, or the next one that will. Raises `NotFound` and `InvalidInput`.
    """
    lag = next((one for one in relay_lags(backend) if one.progress.name == name), None)
    if lag is None or lag.relayed is None:
        raise NotFound(f"no relay {name!r} has sent anything from this log: `everlog relay list` shows them")
    copy = lag.relayed.copy
    wanted = min(lag.relayed.begun, copy.first) + 1 if position is None else position
    last = lag.progress.position
    if not 1 <= wanted <= last + 1:
        raise InvalidInput(f"relay {name!r} has come to position {last}: it can be refilled from 1 to {last + 1}")
    for _ in range(_TRIES):  # a worker may be quicker
        backend.checkpoints.reset(name, wanted - 1)
        claim = backend.checkpoints.claim(name, f"refill of {name}", _LEASE_SECONDS)
        if claim is not None:
            with backend.checkpoints.transaction(claim, claim.position) as effects:
                note(effects, name, backend.relays.all()[name]._replace(refill=wanted))
            backend.checkpoints.leave(claim)
            return wanted
    raise StoreUnavailable(f"{name!r} was taken over by a worker: try again")
