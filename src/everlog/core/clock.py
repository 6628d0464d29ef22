"""Time as everlog keeps it: whole microseconds since 1970-01-01T00:00:00Z, shown as timezone-aware UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from everlog.core.errors import InvalidInput

Clock = Callable[[], int]
"""Gives the current time in microseconds; passed in, so that tests own time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def system_clock() -> int:
    """The machine's wall clock, in microseconds."""
    return time.time_ns() // 1000


def micros(moment: datetime) -> int:
    """Microseconds of an aware datetime; raises `InvalidInput` for a naive one, whose meaning nobody can know."""
    if moment.tzinfo is None:
        raise InvalidInput(f"{moment.isoformat()} has no time zone: give one, for example tzinfo=UTC")
    at = (moment - _EPOCH) // _MICROSECOND
    if not _FIRST <= at <= _LAST:  # in UTC it lies in the year 0 or 10000, and no reader could show it again
        raise InvalidInput(f"{moment.isoformat()} is outside the years 1 to 9999 of UTC")
    return at


def moment(at: int) -> datetime:
    """The aware UTC datetime of `at` microseconds."""
    return _EPOCH + timedelta(microseconds=at)


def rfc3339(at: int) -> str:
    """`2026-11-24T18:09:50.000001Z`, always six decimals so that text order is time order."""
    return moment(at).isoformat(timespec="microseconds")[:-6] + "Z"  # strftime would write the year 987 in three digits


def parse_time(text: str) -> int:
    """Microseconds of an ISO 8601 time; raises `InvalidInput` when it cannot be read or carries no zone."""
    try:
        return micros(datetime.fromisoformat(text))
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a time: write it as 2026-11-24T18:09:50Z") from error
