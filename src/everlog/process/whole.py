"""What is checked of processes and schedules when a platform is put together, before any I/O."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from everlog.core.errors import Misconfigured
from everlog.domain.types import EventTypes
from everlog.process.manager import ProcessManager
from everlog.process.reaction import Deciders
from everlog.process.schedule import Schedule


def check_processes(
    processes: Sequence[ProcessManager[Any, Any]], schedules: Sequence[Schedule], deciders: Deciders
) -> None:
    """Raises `Misconfigured` for a decider that is commanded and is no part, for two of its commands of one name, and
    for two schedules of one name."""
    for process in processes:
        for one in process.rules.deciders.values():
            if deciders.get(one.name) is not one:
                raise Misconfigured(
                    f"process manager {process.name!r} commands {one.name!r}: give it to Platform(…) too"
                )
            names = [cls.__name__ for cls in one.command_types()]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise Misconfigured(
                    f"process manager {process.name!r} commands {one.name!r}, which has two commands named {twice!r}: "
                    "rename one, by that name it lies in the log"
                )
    seen: set[str] = set()
    for schedule in schedules:
        if schedule.name in seen:
            raise Misconfigured(
                f"two schedules are named {schedule.name!r}: rename one, they would share their moments"
            )
        seen.add(schedule.name)


def check_occurrences(schedules: Sequence[Schedule], types: EventTypes) -> None:
    """Raises `Misconfigured` for a schedule whose event cannot be appended."""
    for schedule in schedules:
        try:
            types.encode(schedule.occurrence(next(schedule.moments(datetime.now(UTC)))))
        except Exception as error:  # the application's function raises what it likes
            raise Misconfigured(
                f"schedule {schedule.name!r}: what its event= makes of a moment cannot be appended: {error}"
            ) from error
