"""What a person must hear of while it runs: the logger `everlog`, whose warnings Python shows unless told not to.

Names, positions and places in code; never an event's data, and so not an exception's words either: a lane keeps those.
"""

import logging
import traceback
from pathlib import Path

_logger = logging.getLogger("everlog")


def place_of(error: BaseException) -> str:
    """`KeyError at library.py:107`: what was raised, and where in the code nearest to it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}{f' at {Path(frames[-1].filename).name}:{frames[-1].lineno}' if frames else ''}"


def handler_failed(processor: str, position: int, what: str) -> None:
    """An attempt was used up."""
    _logger.warning("%s: %s, on the event at position %d", processor, what, position)


def lane_parked(processor: str, key: str) -> None:
    """A key waits for a person."""
    _logger.error("%s: key %s is parked; see: everlog dlq show %s %s", processor, key, processor, key)


def handler_waits(processor: str, position: int, what: str) -> None:
    """The world is down, and no attempt is used."""
    _logger.warning("%s: %s, on the event at position %d; tried again without counting", processor, what, position)


def subscription_failed(name: str, reason_at: int, status: str) -> None:
    """It stopped before one event."""
    whole = name.partition("/")[0].rstrip("+-")
    _logger.error("%s: %s at position %d; see: everlog projection status %s", name, status, reason_at, whole)


def projection_left(name: str, version: int, serving: int) -> None:
    """The code is older than what serves, as in the middle of a deploy, or after going back to older code."""
    _logger.warning(
        "%s: version %d serves, which is newer than this code's %d, and is left alone; to go back: "
        "everlog projection rollback %s",
        name, serving, version, name,
    )  # fmt: skip


def schedule_waits(schedule: str, what: str) -> None:
    """The application could not make its event, or it is too large."""
    _logger.error("schedule %s: %s, in what makes its event; tried again every minute", schedule, what)


def relay_waits(name: str, why: str) -> None:
    """Appends go on; what they appended is sent once the broker takes it."""
    _logger.warning("%s: %s; it waits and tries again", name, why)


def relay_sends_again(name: str, after: int, upto: int) -> None:
    """The broker lost something, was set back, or is another one."""
    _logger.warning("%s: the broker lacks what was sent: sending events %d to %d again", name, after + 1, upto)


def relay_refills(name: str, position: int) -> None:
    """A person asked for it."""
    _logger.info("%s: sending everything from position %d on again", name, position)


def relay_warns(name: str, warnings: tuple[str, ...]) -> None:
    """Settings of the broker that may lose what it acknowledged."""
    for warning in warnings:
        _logger.warning("%s: %s", name, warning)
