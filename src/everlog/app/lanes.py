"""What a person does about failing events: look, try again, or skip one with a reason that is written into the log."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from everlog.app.stores import Backend
from everlog.core.envelope import Append, NewEvent, StoredEvent
from everlog.core.errors import InvalidInput, NotFound
from everlog.core.ids import derived_id
from everlog.processing.contract import Lane, LaneFilter
from everlog.store.query import Filter

SKIPPED = "everlog.event_skipped"


@dataclass(frozen=True, slots=True)
class LaneOperator:
    """The lanes of one log, for a person named `actor`."""

    backend: Backend
    actor: str | None

    def find(self, where: LaneFilter) -> Iterator[Lane]:
        return self.backend.desk.lanes.find(where)

    def events(self, processor: str, key: str, limit: int = 100) -> list[StoredEvent]:
        """The first events of a lane, in order; raises `NotFound` when there is none."""
        positions = self.backend.desk.lanes.positions(processor, key, limit)
        if not positions:
            raise NotFound(f"processor {processor!r} has no lane {key!r}: everlog dlq list shows them")
        return [self._event(processor, position) for position in positions]

    def retry(self, where: LaneFilter, *, canary: bool = False) -> int:
        """Ask the worker to try lanes again, with fresh attempts; with `canary` one first, the rest if that works."""
        return self.backend.desk.lanes.retry(where, canary=canary)

    def skip(self, processor: str, key: str, reason: str) -> int:
        """Never handle the first event of a parked lane; the events behind it are tried. Gives its position.

        The skip, its reason and its actor are an event of the tenant before anything else happens.
        """
        if not reason.strip():
            raise InvalidInput("a skip needs a reason: it is kept in the audit trail")
        lane = next((one for one in self.find(LaneFilter(processor, key)) if one.key == key), None)
        if lane is None:
            raise NotFound(f"processor {processor!r} has no lane {key!r}: everlog dlq list shows them")
        if lane.status == "retrying":
            raise InvalidInput(f"lane {key!r} is being tried now: wait until it is parked again")
        event = self._event(processor, lane.first)
        self.backend.append(Append(event.tenant, (self._record(processor, key, event, reason),)))
        self.backend.desk.lanes.skip(processor, key, event.position)
        return event.position

    def _record(self, processor: str, key: str, event: StoredEvent, reason: str) -> NewEvent:
        told = {"processor": processor, "key": key, "position": str(event.position), "reason": reason}
        return NewEvent(
            derived_id(event.tenant, SKIPPED, processor, event.position, reason),
            f"everlog-skips-{processor}",
            SKIPPED,
            1,
            msgspec.json.encode(told),
            actor=self.actor,
            correlation_id=event.correlation_id,
            causation_id=event.id,
        )

    def _event(self, processor: str, position: int) -> StoredEvent:
        """As a broker gave it; else it is in the log."""
        received = self.backend.desk.received.get(processor, position)
        found = received or next(self.backend.read(Filter(None), after=position - 1, upto=position), None)
        if found is None:
            raise NotFound(
                f"the event at {position} lies in a lane, and neither this store nor its log holds it: "
                "look on the store where the lane was opened"
            )
        return found
