"""What is in a log, as far as it is ours to fix."""

from collections.abc import Iterator
from typing import Any

from everlog import Recorded
from everlog.fieldnote.app import platform

PROCESSORS = ("post", "provisioning")


def stored(url: str) -> list[object]:
    """Ids, times and bytes of every event, and the streams. Processors run side by side, so what they appended has no
    order, and its time is that of whichever demo was running."""
    with platform.open(url) as log:
        events: Iterator[Recorded[Any]] = log.admin().events()
        everything = [recorded.stored for recorded in events]
        of_processors = [
            event._replace(position=0, recorded_at=0, occurred_at=0)
            for event in everything
            if event.actor in PROCESSORS
        ]
        of_people = [event for event in everything if event.actor not in PROCESSORS]
        streams = [(head.tenant, head.stream, head.version) for head in log.admin().streams()]
        return [*of_people, *sorted(of_processors, key=lambda event: event.id), *streams]
