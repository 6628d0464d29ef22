"""What must hold after every step, whoever crashed or slept, said without a word of the code under test.

It sees three things: which handler was called for which event, what every transaction changed, and what a person asked
for. A projection and a processor are judged from the log alone (promises P11 to P15, design D9 and D10).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from everlog.core.envelope import FoldKey, StoredEvent
from everlog.subscription.contract import Claim
from tests.simulation.database import Committed, OpenLane, Tables
from tests.simulation.scheduler import Process
from tests.simulation.trouble import PLANNED

_NO_LANE = OpenLane("retrying", 0, 0, "", 0)


class Judge:
    """`fail` is told what is wrong. Everybody follows the events of type `wanted`, by their streams.

    `inboxes` are the processors whose effects lie in the database; `fold` lists the positions of each stream.
    """

    def __init__(
        self,
        processors: Iterable[str],
        fail: Callable[[str], None],
        seen: Counter[str],
        *,
        wanted: str,
        inboxes: Iterable[str],
        fold: str,
        attempts: int,
    ) -> None:
        self.processors, self.inboxes, self.fold, self.attempts = tuple(processors), set(inboxes), fold, attempts
        self.wanted = wanted
        self.seen = seen
        self.key_of: dict[int, str] = {}
        self.of_key: dict[str, list[int]] = {}
        self.positions: list[int] = []
        self.trails: list[dict[FoldKey, str]] = [{}]
        self.handled: dict[str, set[int]] = {name: set() for name in self.processors}
        self.skipped: dict[str, set[int]] = {name: set() for name in self.processors}
        self.deaths: Counter[tuple[str, int]] = Counter()
        self._begun: dict[tuple[str, str], tuple[int, int]] = {}
        self._asked: set[tuple[str, str]] = set()
        self._crossed: set[tuple[str, int]] = set()
        self._busy: set[tuple[Process, str, str]] = set()
        self._tables = Tables()
        self._fail = fail

    # ---- The log.

    def appended(self, event: StoredEvent) -> None:
        trail = self.trails[-1]
        if event.type == self.wanted:
            lane, key = f"{event.tenant}/{event.stream}", FoldKey(event.tenant, event.stream)
            self.key_of[event.position] = lane
            self.of_key.setdefault(lane, []).append(event.position)
            self.positions.append(event.position)
            trail = trail | {key: f"{trail.get(key, '')} {event.position}"}
        self.trails.append(trail)

    # ---- The handlers.

    def called(self, process: Process, name: str, claim: Claim, position: int) -> None:
        key = self.key_of[position]
        if (process, name, key) in self._busy:
            self._fail(f"{name} runs twice at once for {key} in {process}")
        self._busy.add((process, name, key))
        early = self._undone_before(name, position)
        if early:
            self._fail(f"{name} is given {position} of {key} before {early}")
        owns = self._tables.subscriptions[name].epoch == claim.epoch
        if owns and position in self.skipped[name] and (name, position) not in self._crossed:
            self._fail(f"{name} is given {position} of {key}, which was skipped")

    def returned(self, process: Process, name: str, position: int, *, well: bool) -> None:
        self._busy.discard((process, name, self.key_of[position]))
        if well and name not in self.inboxes:
            self.handled[name].add(position)

    def killed_by(self, name: str, position: int) -> None:
        """A handler ended its process."""
        self.deaths[name, position] += 1
        if self.deaths[name, position] > 2 * self.attempts + 2:
            self._fail(f"{name} ended {self.deaths[name, position]} processes on {position}: it should be parked")

    def _undone_before(self, name: str, position: int) -> list[int]:
        of_key = self.of_key[self.key_of[position]]
        before = of_key[: of_key.index(position)]
        return [one for one in before if one not in self.handled[name] and one not in self.skipped[name]]

    # ---- The database.

    def committed(self, committed: Committed) -> None:
        act, claim, before, after = committed
        self._tables = after
        self._subscriptions(act, before, after)
        if act == "skip":
            self._skipped(before, after)
        if act in ("skip", "retry"):
            self._given_a_chance(before, after)
        if act == "transaction":
            assert claim is not None
            self._owner(claim, before)
            if claim.name == self.fold:
                self._fold(after)
            else:
                self._taken(claim.name, before, after)
        if act in ("skip", "retry", "transaction"):
            for name in self.processors:
                self._covered(name, after)
                self._lanes(name, act, before, after)

    def _subscriptions(self, act: str, before: Tables, after: Tables) -> None:
        for name, was in before.subscriptions.items():
            now = after.subscriptions[name]
            if now.position < was.position and act not in ("reset", "register"):
                self._fail(f"the checkpoint of {name} went back from {was.position} to {now.position} by {act}")
            if now.status == "failed" and PLANNED not in now.error:
                self._fail(f"{name} failed on its own: {now.error}")

    def _owner(self, claim: Claim, before: Tables) -> None:
        was = before.subscriptions[claim.name]
        if was.epoch != claim.epoch or was.status != "running":
            self._fail(f"epoch {claim.epoch} of {claim.name} committed, although {was.epoch} had taken over")

    def _skipped(self, before: Tables, after: Tables) -> None:
        for (name, key), positions in before.parked.items():
            gone = set(positions) - set(after.parked.get((name, key), ()))
            if gone and gone != {positions[0]}:
                self._fail(f"{name}: skipping one event of {key} took {gone} away")
            self.skipped[name] |= gone
            if gone and self._begun.get((name, key)) == (before.subscriptions[name].epoch, positions[0]):
                # It was being tried when a person made it wait for a canary, and then took it away.
                self._crossed.add((name, positions[0]))
            self.seen["skipped"] += len(gone)

    def _given_a_chance(self, before: Tables, after: Tables) -> None:
        """A lane that a person has tried again has all its attempts, and may end as many processes."""
        for (name, key), lane in after.lanes.items():
            if before.lanes.get((name, key)) != lane:
                self._asked.add((name, key))
                for position in after.parked.get((name, key), ()):
                    del self.deaths[name, position]

    def _fold(self, after: Tables) -> None:
        now = after.subscriptions[self.fold]
        if now.anew:
            return
        states = after.folds.get((self.fold, now.build), {})
        found = {key: msgspec.json.decode(state.state, type=str) for key, state in states.items()}
        if found != self.trails[now.position]:
            self._fail(f"{self.fold} at {now.position} holds {found}, not {self.trails[now.position]}")

    def _taken(self, name: str, before: Tables, after: Tables) -> None:
        for (processor, key), rows in after.taken.items():
            was = before.taken.get((processor, key), ())
            if processor != name or rows == was:
                continue
            for position in rows[len(was) :]:
                if position in self.handled[name]:
                    self._fail(f"{name}: the effect of {position} of {key} is there twice")
                if early := self._undone_before(name, position):
                    self._fail(f"{name}: the effect of {position} of {key} comes before that of {early}")
                self.handled[name].add(position)

    def _covered(self, name: str, after: Tables) -> None:
        """Whatever lies before the checkpoint is handled, parked or skipped: nothing is lost."""
        at = after.subscriptions[name].position if name in after.subscriptions else 0
        upto = self.positions[: bisect_right(self.positions, at)]
        open_ones = {one for one in upto if one not in self.handled[name] and one not in self.skipped[name]}
        if open_ones:
            lost = open_ones - {one for (of, _), ones in after.parked.items() if of == name for one in ones}
            if lost:
                self._fail(f"{name} passed {sorted(lost)} without handling or parking them; it is at {at}")

    def _lanes(self, name: str, act: str, before: Tables, after: Tables) -> None:
        lanes = {key: lane for (of, key), lane in after.lanes.items() if of == name}
        at = after.subscriptions[name].position if lanes else 0
        for key, lane in lanes.items():
            parked = after.parked.get((name, key), ())
            behind = self.of_key[key][: bisect_right(self.of_key[key], at)]
            if not parked or list(parked) != behind[-len(parked) :]:
                self._fail(f"the lane {key} of {name} holds {parked}, and its events up to {at} are {behind}")
            if lane.status == "waiting":
                self._canary(name, key, lanes)
            if act == "transaction" and (was := before.lanes.get((name, key))) is not None:
                self._tried(name, key, was, lanes)
                if lane.attempts == was.attempts + 1 and lane.status == "retrying":
                    self._begun[name, key] = after.subscriptions[name].epoch, parked[0]
                    self._asked.discard((name, key))
            if lane.status == "parked" and before.lanes.get((name, key), _NO_LANE).status != "parked":
                self.seen["lanes parked"] += 1
        if any(of == name and key not in lanes for of, key in after.parked):
            self._fail(f"{name} has events without a lane: {after.parked}")

    def _tried(self, name: str, key: str, was: OpenLane, lanes: dict[str, OpenLane]) -> None:
        """What a person asked for stands until it was done."""
        lane, canary = lanes[key], lanes.get(was.waits_for or "")
        if was.status == "waiting" != lane.status and canary is not None and canary.status != "parked":
            self._fail(f"the lane {key} of {name} is {lane.status}, although {was.waits_for} is still tried")
        if was.status == "retrying" and lane.status == "parked" and (name, key) in self._asked:
            self._fail(f"the lane {key} of {name} is parked, although a person asked for another attempt")

    def _canary(self, name: str, key: str, lanes: dict[str, OpenLane]) -> None:
        passed = [key]
        lane = lanes[key]
        while lane.status == "waiting":
            if lane.waits_for not in lanes or lane.waits_for in passed:
                self._fail(f"the lane {key} of {name} waits for ever: {passed} for {lane.waits_for}")
                return
            passed.append(lane.waits_for)
            lane = lanes[lane.waits_for]
        if lane.status != "retrying":
            self._fail(f"the lane {key} of {name} waits for {passed[1:]}, which is {lane.status}")

    # ---- The end.

    def at_end(self, tables: Tables) -> None:
        for name in self.processors:
            undone = set(self.positions) - self.handled[name] - self.skipped[name]
            if undone:
                self._fail(f"{name} never handled {sorted(undone)}")
        if tables.lanes or tables.parked:
            self._fail(f"lanes are left: {sorted(tables.lanes)}, {tables.parked}")
