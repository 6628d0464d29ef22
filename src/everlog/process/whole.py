"""What is checked of processes and schedules when a platform is put together, before any I/O."""

from collections.abc import Sequence
from typing import Any

from everlog.core.errors import Misconfigured
from everlog.process.manager import ProcessManager
from everlog.process.reaction import Deciders
from everlog.process.schedule import Schedule


def check_processes(
    processes: Sequence[ProcessManager[Any, Any]], schedules: Sequence[Schedule], deciders: Deciders
) -> None:
    """Raises `Misconfigured` for a decider that is commanded and is no part, and for two schedules of one name."""
    for process in processes:
        for one in process.rules.deciders.values():
            if deciders.get(one.name) is not one:
                raise Misconfigured(
                    f"process manager {process.name!r} commands {one.name!r}: give it to Platform(…) too"
                )
    seen: set[str] = set()
    for schedule in schedules:
        if schedule.name in seen:
            raise Misconfigured(
                f"two schedules are named {schedule.name!r}: rename one, they would share their moments"
            )
        seen.add(schedule.name)
