"""Reading what projections made: states of folds by tenant and key, now or at a position, and waiting for them."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from everlog.app.following import Projection
from everlog.app.stores import Backend
from everlog.app.waiting import Waiting
from everlog.core.envelope import FoldKey
from everlog.core.errors import Misconfigured, SubscriptionFailed
from everlog.domain.types import EventTypes
from everlog.processing.processor import Processor
from everlog.projection.fold import Fold
from everlog.projection.run import Blamed, fold_events, keyed_events
from everlog.store.query import Filter

S = TypeVar("S")


class ReadModels:
    """All projections of one open log."""

    def __init__(
        self, projections: Sequence[Projection], types: EventTypes, backend: Backend, waiting: Waiting
    ) -> None:
        self._projections = {id(one) for one in projections}
        self._types, self._backend, self.waiting = types, backend, waiting

    def get(self, fold: Fold[S], tenant: str, key: str) -> S:
        """The state of one key as the projection has it now; `initial` when no event touched it."""
        self._known(fold)
        wanted = FoldKey(tenant, key)
        found = self._backend.fold_states.load(fold.name, fold.version, [wanted]).get(wanted)
        return fold.initial if found is None else fold.codec().decode(found.state)

    def all(self, fold: Fold[S], tenant: str | None) -> Iterator[tuple[FoldKey, S]]:
        """Every key's state, by tenant and key, streamed."""
        self._known(fold)
        decode = fold.codec().decode
        for found in self._backend.fold_states.all(fold.name, fold.version, tenant):
            yield FoldKey(found.tenant, found.key), decode(found.state)

    def live(self, fold: Fold[S], tenant: str, key: str, upto: int | None) -> S:
        """The state of one key folded from the log on demand, up to a position (`None`: now)."""
        self._known(fold)
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

    def wait(self, projections: Sequence[Projection], position: int, timeout: float) -> None:
        for projection in projections:
            self._known(projection)
        self.waiting.wait(projections, position, timeout)

    def late(self, projections: Sequence[Projection], position: int) -> list[Projection]:
        for projection in projections:
            self._known(projection)
        return self.waiting.late(projections, position)

    def _known(self, projection: Projection) -> None:
        if isinstance(projection, Processor):
            raise Misconfigured(f"{projection.name!r} is a processor, which makes no read model: name a projection")
        if id(projection) not in self._projections:
            raise Misconfigured(f"projection {projection.name!r} is not part of this platform: give it to Platform(…)")
