"""The tables of a `SqlProjection` compared with what it makes of the log in a shadow, and mended."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from everlog.app.comparing import Everything, Outcome, Which, Work
from everlog.app.following import subscription_of
from everlog.app.rerun import Rerun
from everlog.app.trace_table import Row, RowTrace
from everlog.core.clock import system_clock
from everlog.core.errors import InvalidInput, Misconfigured
from everlog.projection.contract import Shadow, TableRow, Tables, TableShape
from everlog.projection.pin import Pin, Reached
from everlog.projection.run import SqlHandler
from everlog.projection.sample import Draw
from everlog.projection.sql import SqlProjection
from everlog.projection.verify import Compared, RowDifference, compare_rows, key_of
from everlog.subscription.contract import Claim
from everlog.subscription.partition import partition_name

PAGE = 1000
TRACED = 100
"""Of the rows that differ, so many at a time are traced to their events."""
_VERIFYING = "~verify-"  # in no name of a projection
_MADE = re.compile(rf"{_VERIFYING}(\d+)-\w+")  # when, in seconds
_ALIVE = "everlog-verification"
_ALIVE_SECONDS = 120.0


class FoundRow(NamedTuple):
    """A row that differs from what the events up to `position` make."""

    table: str
    row: TableRow
    compared: Compared
    position: int


class TableComparison:
    """One run over the tables of a projection; all of it is run once more, however few rows are asked for."""

    def __init__(self, projection: SqlProjection, work: Work, tables: Tables) -> None:
        """`tables` are those to be compared, in the log or in the shadow that they are built in."""
        if work.tenant is not None:
            raise InvalidInput(
                f"{projection.name!r} writes tables of its own, and which rows are a tenant's only it knows: "
                "verify it without a tenant"
            )
        self._projection, self._work = projection, work
        self._live = tables
        known = work.checkpoints.progress()
        self._parts = max([one.parts for one in known if one.subscription == work.of], default=1)
        self._shapes = {table: self._shape(table) for table in projection.tables}
        self._drop_abandoned()
        self._shadow = self._new_shadow()
        try:
            self._alive = _stay_alive(self._shadow)
            self._rerun = self._run_again(projection, self._shadow)
        except BaseException:
            self._shadow.drop()
            raise

    def find(self, which: Which, outcome: Outcome) -> Iterator[FoundRow]:
        if not isinstance(which, Everything | Draw):
            raise InvalidInput(f"{self._projection.name!r} is no fold and has no keys to name: verify all of it")
        for table, shape in self._shapes.items():
            yield from self._compare(table, shape, outcome)
        outcome.complete = True

    def tell(self, found: Sequence[FoundRow], *, repaired: bool) -> Iterator[RowDifference]:
        trace = self._trace(found[:TRACED])
        for table, row, (fault, fields), position in found:
            key, events = key_of(self._shapes[table], row), trace.behind.get((table, row.key))
            if fault == "edited" and (table, row.key) in trace.stale:
                fault = "stale"
            count, positions = (None, None) if events is None else (events.events, tuple(events.positions))
            yield RowDifference(table, fault, key, fields, position, count, positions, repaired)

    def mend(self, found: Sequence[FoundRow]) -> None:
        """At the checkpoints it has by now, which its workers move no further meanwhile."""
        with ExitStack() as owned:
            claims = [self._owned(owned, part) for part in range(self._parts)]
            for part, claim in enumerate(claims):
                self._rerun.advance(Reached(part, self._parts, claim.position, -1, 0, 0, 0))
            self._work.keep(claims)  # the transaction fences the first of them only
            with self._work.checkpoints.transaction(claims[0], claims[0].position) as effects:
                for table, shape in self._shapes.items():
                    keys = [one.row.key for one in found if one.table == table]
                    rows = self._shadow.tables.rows(self._in_shadow(shape, self._shadow), keys)
                    self._live.replace(effects, shape, keys, rows)

    def close(self) -> None:
        self._shadow.drop()

    # ---- Comparing.

    def _compare(self, table: str, shape: TableShape, outcome: Outcome) -> Iterator[FoundRow]:
        after: Sequence[object] | None = None
        while True:
            pin, stored = self._live.pinned(self._work.of, shape, after, PAGE)
            pin.check(self._work.of, self._projection.version)
            self._rerun.to(pin)
            self._progressed(pin.last)
            end = stored[-1].key if len(stored) == PAGE else None
            yield from self._differing(table, shape, stored, (after, end), pin, outcome)
            if end is None:
                return
            after = end

    def _differing(
        self,
        table: str,
        shape: TableShape,
        stored: Sequence[TableRow],
        within: tuple[Sequence[object] | None, Sequence[object] | None],
        pin: Pin,
        outcome: Outcome,
    ) -> list[FoundRow]:
        there = {row.key: row for row in stored}
        pairs = [(there.pop(expected.key, None), expected) for expected in self._expected(shape, *within)]
        every: list[tuple[TableRow | None, TableRow | None]] = [*pairs, *((row, None) for row in there.values())]
        outcome.rows += len(every)
        outcome.position = pin.last
        compared = [(one or other, compare_rows(shape, one, other)) for one, other in every]
        return [FoundRow(table, row, how, pin.last) for row, how in compared if row is not None and how is not None]

    def _expected(
        self, shape: TableShape, after: Sequence[object] | None, upto: Sequence[object] | None
    ) -> Iterator[TableRow]:
        there = self._in_shadow(shape, self._shadow)
        while page := self._shadow.tables.page(there, after, upto, PAGE):
            yield from page
            after = page[-1].key

    # ---- Running it once more.

    def _run_again(self, projection: SqlProjection, shadow: Shadow) -> Rerun:
        work = self._work
        return Rerun(
            subscription_of(projection, work.types),
            lambda keys: SqlHandler(projection, work.types, shadow.checkpoints, keys),
            work.backend,
            shadow.checkpoints,
            parts=self._parts,
            on_progress=self._progressed,
        )

    def _trace(self, found: Sequence[FoundRow]) -> RowTrace:
        """The events behind these rows, told by another run in another shadow."""
        upto: dict[Row, int] = {(one.table, one.row.key): one.position for one in found}
        stored = {(one.table, one.row.key): one.row for one in found}
        shadow = self._new_shadow()
        try:
            shapes = {table: self._shapes[table] for table, _ in upto}
            trace = RowTrace(
                stored, upto, lambda table: self._in_shadow(shapes[table], shadow), self._work.most_positions
            )
            rerun = self._run_again(trace.watched(self._projection), shadow)
            for part in range(self._parts):
                rerun.advance(Reached(part, self._parts, max(upto.values()), -1, 0, 0, 0))
        finally:
            shadow.drop()
        return trace

    def _new_shadow(self) -> Shadow:
        name = f"{_VERIFYING}{system_clock() // 1_000_000}-{os.urandom(4).hex()}"  # of this run alone
        return self._work.backend.shadows.open(name, fresh=True)

    # ---- Where the tables are.

    def _shape(self, table: str) -> TableShape:
        shape = self._live.shape(table)
        if shape is None:
            raise Misconfigured(
                f"the table {table} of {self._projection.name!r} is not there: build it with "
                f"`everlog projection rebuild {self._projection.name}`"
            )
        return shape

    def _in_shadow(self, shape: TableShape, shadow: Shadow) -> TableShape:
        made = shadow.tables.shape(shape.name)
        if made is None:
            raise Misconfigured(
                f"the setup of {self._projection.name!r} makes no table {shape.name} where it is run: "
                "let it name the table without a schema"
            )
        if made.columns != shape.columns:
            raise Misconfigured(
                f"{shape.name} has the columns {', '.join(shape.columns)}, and the setup of "
                f"{self._projection.name!r} makes {', '.join(made.columns)}: raise its version, or build it anew"
            )
        return shape.at(made)

    def _progressed(self, position: int) -> None:
        renewed = self._shadow.checkpoints.renew(self._alive, _ALIVE_SECONDS)
        self._alive = renewed or self._alive
        self._work.on_progress(position)

    def _owned(self, owned: ExitStack, part: int) -> Claim:
        name = partition_name(self._work.of, part, self._parts)
        [build] = {one.build for one in self._work.checkpoints.progress() if one.name == name}
        return owned.enter_context(self._work.owning(name, build))

    def _drop_abandoned(self) -> None:
        """What a verification that was killed left: nobody renews the lease in it. A new one may have none yet."""
        shadows, young = self._work.backend.shadows, system_clock() // 1_000_000 - _ALIVE_SECONDS
        for name in shadows.names():
            if (found := _MADE.fullmatch(name)) and int(found[1]) < young:
                shadow = shadows.open(name)
                if shadow.checkpoints.claim(_ALIVE, "whoever clears up", _ALIVE_SECONDS) is not None:
                    shadow.drop()
                else:
                    shadow.close()


def _stay_alive(shadow: Shadow) -> Claim:
    shadow.checkpoints.register(_ALIVE, "projection", 1, 0)
    claim = shadow.checkpoints.claim(_ALIVE, "its verification", _ALIVE_SECONDS)
    assert claim is not None
    return claim
