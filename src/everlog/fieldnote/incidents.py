"""What the people who run Fieldnote write down when a lane is parked, and when it is free again."""

from everlog import event


@event("incident.opened")
class IncidentOpened:
    """`position` is the event that could not be handled; those behind it in its lane wait for it."""

    processor: str
    lane: str
    position: int
    attempts: int
    error: str


@event("incident.closed")
class IncidentClosed:
    processor: str
    lane: str
    remedy: str
