"""Times as people type them: ISO 8601, a day, `now`, `today`, `yesterday`, `-7d`; and points of a stream's history."""

import re
from datetime import UTC, datetime, timedelta

from everlog.core.at import At, AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.clock import micros
from everlog.core.errors import InvalidInput

FORMS = "2026-11-24T18:09:50Z, 2026-11-24 (a day in UTC), now, today, yesterday, or -30s, -15m, -12h, -7d, -2w from now"
POINT_FORMS = "position:12 (or 12), version:3, recorded:TIME or occurred:TIME"

_AGO = re.compile(r"-([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGITS = re.compile(r"[0-9]{1,19}")
_LAST = timedelta(days=1, microseconds=-1)


def since(text: str, now: datetime) -> datetime:
    """The moment from which on; of a day its first. Raises `InvalidInput`."""
    return _moment(text, now, timedelta(0))


def until(text: str, now: datetime) -> datetime:
    """The moment up to and with which; of a day its last."""
    return _moment(text, now, _LAST)


def point(text: str, now: datetime) -> At:
    """`position:12`, `version:3`, `recorded:…`, `occurred:…`; a bare number is a position."""
    measure, mark, value = text.partition(":")
    if not mark:
        measure, value = "position", text
    match measure:
        case "position":
            return AtPosition(whole(value, "a position"))
        case "version":
            return AtVersion(whole(value, "a version"))
        case "recorded":
            return RecordedAt(until(value, now))
        case "occurred":
            return OccurredAt(until(value, now))
    raise InvalidInput(f"{text!r} is no point in the past: write {POINT_FORMS}")


def seconds(text: str) -> float:
    """How long: `30s`, `15m`, `12h`, `7d`, `2w`."""
    found = _AGO.fullmatch(f"-{text}")
    if found is None or not int(found[1]):
        raise InvalidInput(f"{text!r} is no length of time: write 30s, 15m, 12h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds()


def whole(text: str, what: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise InvalidInput(f"{text!r} is not {what}: write a whole number, 0 or more")
    return int(text)


def _moment(text: str, now: datetime, into_day: timedelta) -> datetime:
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "now":
        return now
    if text in ("today", "yesterday"):
        return (today if text == "today" else today - timedelta(days=1)) + into_day
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + into_day
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{text!r} is not a time: write {FORMS}") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{text} has no time zone: add Z for UTC, or an offset such as +02:00")
    micros(moment)
    return moment
