"""A fold's states compared with what the log makes of them, and mended."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice
from typing import Any, NamedTuple

from everlog.app.comparing import Everything, Outcome, Which, Work
from everlog.app.following import subscription_of
from everlog.app.rerun import SCRATCH_BUILD, Scratch
from everlog.core.envelope import FoldKey
from everlog.core.errors import StoreUnavailable
from everlog.projection.contract import AT_ONCE, Mended, PinnedStates
from everlog.projection.fold import Fold
from everlog.projection.pin import Reached
from everlog.projection.sample import Draw
from everlog.projection.verify import Compared, RowDifference, compare_states, narrowed, trace
from everlog.subscription.partition import key_hash, partition_name


class FoundState(NamedTuple):
    """A state that differs from what the events up to `position` make."""

    key: FoldKey
    compared: Compared
    position: int


class FoldComparison:
    """One run over a fold. The keys decide how much is folded once more; the log is read once, whatever they are."""

    def __init__(self, fold: Fold[Any], work: Work) -> None:
        self._fold, self._work, self._codec = fold, work, fold.codec()
        self._live = work.backend.fold_states
        subscription = subscription_of(fold, work.types)
        self._where, self._start = replace(subscription.where, tenant=work.tenant), subscription.start
        self._build = fold.version  # of an inline one; of another its checkpoint says
        pin = self._pinned([]).pin
        self._build, self._parts = pin.build, pin.parts
        self._scratch: Scratch | None = None

    def find(self, which: Which, outcome: Outcome) -> Iterator[FoundState]:
        match which:
            case Everything():
                self._fold_again(lambda key: True)
                yield from self._compare(self._stored_keys(), outcome, stored=True)
                # Whatever else there should be.
                yield from self._compare(self._expected_keys(), outcome, stored=False)
                outcome.complete = True
            case Draw():
                limit = which.limit(self._stored_keys())
                wanted = which.wanted(limit)
                scratch = self._fold_again(wanted)
                scratch.rerun.to(self._look([]).pin)
                drawn = which.of(chain(filter(wanted, self._stored_keys()), self._expected_keys()))
                yield from self._compare(drawn, outcome)
                outcome.complete = limit is None
            case _:
                keys = list(dict.fromkeys(which))
                self._fold_again(set(keys).__contains__)
                yield from self._compare(keys, outcome)

    def tell(self, found: Sequence[FoundState], *, repaired: bool) -> Iterator[RowDifference]:
        upto = {one.key: one.position for one in found}
        backend, first = self._work.backend, self._start.position(self._work.backend)
        log = backend.read(self._where, after=first, upto=max(upto.values()))
        behind = trace(self._fold, self._work.types, log, upto, self._work.most_positions)
        for key, (fault, fields), position in found:
            events = behind[key]
            yield RowDifference(
                self._fold.name,
                fault,
                key._asdict(),
                fields,
                position,
                events.events,
                tuple(events.positions),
                repaired,
            )

    def mend(self, found: Sequence[FoundState]) -> None:
        keys = sorted((one.key for one in found), key=self._part_of)
        for part, of_part in groupby(keys, self._part_of):
            if self._fold.inline:
                self._mend_inline(list(of_part))
            else:
                self._mend_part(part, list(of_part))

    def close(self) -> None:
        if self._scratch is not None:
            self._scratch.close()

    # ---- Comparing.

    def _compare(
        self, keys: Iterable[FoldKey], outcome: Outcome, *, stored: bool | None = None
    ) -> Iterator[FoundState]:
        """With `stored` only rows that are there, or only those that are not; else all of these keys."""
        following = iter(keys)
        while chunk := list(islice(following, AT_ONCE)):
            pin, states = self._look(chunk)
            scratch = self._scratch
            assert scratch is not None
            scratch.rerun.to(pin)
            expected = scratch.states.load(self._fold.name, SCRATCH_BUILD, chunk)
            outcome.position = pin.last
            some = [key for key in chunk if stored is None or (key in states) == stored]
            outcome.rows += sum(key in states or key in expected for key in some)
            compared = [(key, compare_states(self._codec, states.get(key), expected.get(key))) for key in some]
            yield from [FoundState(key, one, pin.position_of(_told(key))) for key, one in compared if one is not None]

    def _look(self, keys: Sequence[FoldKey]) -> PinnedStates:
        """What is stored, and how far the projection was in that moment."""
        found = self._pinned(keys)
        if found.pin.build != self._build:
            raise StoreUnavailable(f"{self._fold.name!r} was switched to another build meanwhile: verify it again")
        return found

    def _pinned(self, keys: Sequence[FoldKey]) -> PinnedStates:
        fold, of = self._fold, self._work.of
        found = self._live.pinned(fold.name, self._build, keys, subscription=of, inline=fold.inline)
        found.pin.check(of, fold.version)
        return found

    def _fold_again(self, wanted: Callable[[FoldKey], bool]) -> Scratch:
        work = self._work
        self._scratch = Scratch(
            narrowed(self._fold, wanted),
            work.types,
            work.backend,
            where=self._where,
            parts=self._parts,
            on_progress=work.on_progress,
        )
        return self._scratch

    def _stored_keys(self) -> Iterator[FoldKey]:
        return self._live.keys(self._fold.name, self._build, self._work.tenant)

    def _expected_keys(self) -> Iterator[FoldKey]:
        assert self._scratch is not None
        return self._scratch.states.keys(self._fold.name, SCRATCH_BUILD, self._work.tenant)

    # ---- Mending.

    def _mend_part(self, part: int, keys: Sequence[FoldKey]) -> None:
        """At the checkpoint it has by now, which a worker moves no further meanwhile."""
        name, checkpoints = self._fold.name, self._work.checkpoints
        with self._work.owning(partition_name(self._work.of, part, self._parts), self._build) as claim:
            mended = self._expected(keys, Reached(part, self._parts, claim.position, -1, 0, 0, self._build))
            with checkpoints.transaction(claim, claim.position) as effects:
                self._live.store(effects, name, self._build, mended.states)
                self._live.delete(effects, name, self._build, mended.gone)

    def _mend_inline(self, keys: Sequence[FoldKey]) -> None:
        """At the head, which no append moves meanwhile; so most of the way is gone before."""
        head = self._work.backend.head().position
        self._expected([], Reached(0, 1, head, -1, 0, 0, 0))
        self._live.mend_inline(
            self._fold.name,
            self._fold.version,
            lambda position: self._expected(keys, Reached(0, 1, position, -1, 0, 0, 0)),
        )

    def _expected(self, keys: Sequence[FoldKey], at: Reached) -> Mended:
        assert self._scratch is not None
        self._scratch.rerun.advance(at)
        states = self._scratch.states.load(self._fold.name, SCRATCH_BUILD, keys)
        return Mended(list(states.values()), [key for key in keys if key not in states])

    def _part_of(self, key: FoldKey) -> int:
        return key_hash(_told(key)) % self._parts


def _told(key: FoldKey) -> str:
    """As what decides the partition of a state is written."""
    return f"{key.tenant}/{key.key}"
