"""Reading what projections made: states of folds by tenant and key, now or at a position, and waiting for them."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from everlog.app.following import Follows
from everlog.app.stores import Backend
from everlog.app.waiting import Waiting
from everlog.core.envelope import FoldKey
from everlog.core.errors import Misconfigured, NotReady, SubscriptionFailed
from everlog.domain.types import EventTypes
from everlog.projection.fold import Fold
from everlog.projection.run import Blamed, fold_events, keyed_events
from everlog.store.query import Filter
from everlog.subscription.partition import BUILDING, KEPT, as_one

S = TypeVar("S")


class ReadModels:
    """What follows one open log: states of its folds, and how far each projection and processor is."""

    def __init__(self, parts: Sequence[Follows], types: EventTypes, backend: Backend, waiting: Waiting) -> None:
        self._parts = {id(one) for one in parts}
        self._types, self._backend, self.waiting = types, backend, waiting

    def get(self, fold: Fold[S], tenant: str, key: str) -> S:
        """The state of one key as the projection has it now; `initial` when no event touched it."""
        self._fold(fold)
        wanted, build = FoldKey(tenant, key), build_of(fold, self._backend)
        found = self._backend.fold_states.load(fold.name, build, [wanted]).get(wanted)
        if found is not None:
            return fold.codec().decode(found.state)
        self._check_kept(fold, build)
        return fold.initial

    def all(self, fold: Fold[S], tenant: str | None) -> Iterator[tuple[FoldKey, S]]:
        """Every key's state, by tenant and key, streamed."""
        self._fold(fold)
        decode, build = fold.codec().decode, build_of(fold, self._backend)
        for found in self._backend.fold_states.all(fold.name, build, tenant):
            yield FoldKey(found.tenant, found.key), decode(found.state)
        self._check_kept(fold, build)

    def live(self, fold: Fold[S], tenant: str, key: str, upto: int | None) -> S:
        """The state of one key folded from the log on demand, up to a position (`None`: now)."""
        self._fold(fold)
        wanted = FoldKey(tenant, key)
        states = {wanted: fold.initial}
        where = Filter(tenant, types=self._types.matching(fold.events))
        try:
            for stored in self._backend.read(where, upto=upto):
                events = [(one, event) for one, event in keyed_events(fold, self._types, [stored]) if one == wanted]
                fold_events(fold, events, states)
        except Blamed as blame:
            raise SubscriptionFailed(fold.name, blame.stored.position, str(blame)) from blame
        return states[wanted]

    def wait(self, parts: Sequence[Follows], position: int, timeout: float) -> None:
        for part in parts:
            self._known(part)
        self.waiting.wait(parts, position, timeout)

    def late(self, parts: Sequence[Follows], position: int) -> list[Follows]:
        for part in parts:
            self._known(part)
        return self.waiting.late(parts, position)

    def _check_kept(self, fold: Fold[Any], build: int) -> None:
        """What is not there was not thrown away while it was read: raises `NotReady`, for there is another by now."""
        names = (fold.name, fold.name + KEPT, fold.name + BUILDING)
        known = [one for one in self._backend.checkpoints.progress() if one.subscription in names]
        if known and not fold.inline and build not in {one.build for one in known}:
            raise NotReady(f"{fold.name!r} was built anew while it was read: read it again")

    def _fold(self, fold: Fold[Any]) -> None:
        if not isinstance(fold, Fold):
            raise Misconfigured(f"{fold.name!r} is a {type(fold).__name__} and keeps no states to read: name a Fold")
        self._known(fold)

    def _known(self, part: Follows) -> None:
        if id(part) not in self._parts:
            raise Misconfigured(f"{part.name!r} is not part of this platform: give it to Platform(…)")


def build_of(fold: Fold[Any], backend: Backend) -> int:
    """Under which number the states lie that this version of a fold has made: those that serve, or are kept since.

    Raises `NotReady` while it is being built beside another version.
    """
    if fold.inline:
        return fold.version
    found = backend.checkpoints.build((fold.name, fold.name + KEPT), fold.version)
    if found is not None:
        return found
    serving = as_one(backend.checkpoints.progress()).get(fold.name)
    if serving is not None:
        raise NotReady(
            f"version {fold.version} of {fold.name!r} does not serve yet, version {serving.version} does: a worker "
            f"with this code builds it beside that one, or everlog projection rebuild {fold.name} --shadow --swap"
        )
    return 1  # nobody has run it yet
