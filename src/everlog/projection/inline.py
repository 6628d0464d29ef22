"""Inline folds: keyed states changed in the append's own transaction, so a request sees its own effect."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from everlog.core.envelope import FoldKey, FoldState, StoredEvent
from everlog.core.errors import SubscriptionFailed
from everlog.domain.codec import Codec
from everlog.domain.types import EventTypes
from everlog.projection.fold import Fold
from everlog.projection.run import Blame, Blamed, fold_events, keyed_events


class InlineFolds:
    """All inline folds of a platform, as the store calls them. Pure: what they give is stored by the append."""

    def __init__(self, folds: Sequence[Fold[Any]], types: EventTypes) -> None:
        self._folds, self._types = folds, types
        self._codecs: dict[str, Codec[Any]] = {fold.name: fold.codec() for fold in folds}
        self.versions: Mapping[str, int] = MappingProxyType({fold.name: fold.version for fold in folds})

    def each(self) -> list["InlineFolds"]:
        """One by one: those in force already need nothing folded anew."""
        return [InlineFolds([fold], self._types) for fold in self._folds]

    def __call__(
        self, events: Sequence[StoredEvent], load: Callable[[str, FoldKey], bytes | None]
    ) -> dict[str, list[FoldState]]:
        """The states that these events change, by projection. Raises `SubscriptionFailed` naming the event.

        A state that cannot be read or written is named with the last event of the request.
        """
        changed: dict[str, list[FoldState]] = {}
        for fold in self._folds:
            try:
                changed[fold.name] = self._fold(fold, events, load)
            except Blamed as blame:
                raise SubscriptionFailed(fold.name, blame.stored.position, str(blame)) from blame
        return changed

    def _fold(
        self, fold: Fold[Any], events: Sequence[StoredEvent], load: Callable[[str, FoldKey], bytes | None]
    ) -> list[FoldState]:
        codec = self._codecs[fold.name]
        keyed = keyed_events(fold, self._types, events)
        states: dict[FoldKey, Any] = {}
        for key in dict.fromkeys(key for key, _ in keyed):
            found = load(fold.name, key)
            with Blame(events[-1]):
                states[key] = fold.initial if found is None else codec.decode(found)
        changed = fold_events(fold, keyed, states)
        with Blame(events[-1]):
            return [FoldState(*key, codec.encode(states[key]), position) for key, position in changed.items()]
