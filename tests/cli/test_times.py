"""Times and points as people type them."""

from datetime import UTC, datetime

import pytest

from everlog.cli.times import point, since, until
from everlog.core.at import At, AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.errors import InvalidInput

NOW = datetime(2026, 11, 24, 18, 9, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("now", "2026-11-24T18:09:50+00:00", "2026-11-24T18:09:50+00:00"),
        ("today", "2026-11-24T00:00:00+00:00", "2026-11-24T23:59:59.999999+00:00"),
        ("yesterday", "2026-11-23T00:00:00+00:00", "2026-11-23T23:59:59.999999+00:00"),
        ("2026-02-28", "2026-02-28T00:00:00+00:00", "2026-02-28T23:59:59.999999+00:00"),
        ("-30s", "2026-11-24T18:09:20+00:00", "2026-11-24T18:09:20+00:00"),
        ("-15m", "2026-11-24T17:54:50+00:00", "2026-11-24T17:54:50+00:00"),
        ("-12h", "2026-11-24T06:09:50+00:00", "2026-11-24T06:09:50+00:00"),
        ("-7d", "2026-11-17T18:09:50+00:00", "2026-11-17T18:09:50+00:00"),
        ("-2w", "2026-11-10T18:09:50+00:00", "2026-11-10T18:09:50+00:00"),
        ("2026-11-24T18:09:50+02:00", "2026-11-24T18:09:50+02:00", "2026-11-24T18:09:50+02:00"),
        ("2026-11-24T18:09:50.000001Z", "2026-11-24T18:09:50.000001+00:00", "2026-11-24T18:09:50.000001+00:00"),
    ],
)
def test_a_time_is_a_moment_and_a_day_both_its_ends(text: str, first: str, last: str) -> None:
    assert (since(text, NOW).isoformat(), until(text, NOW).isoformat()) == (first, last)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "7d", "-7", "-7y", "--7d", "2026-13-01", "2026-11-24T18:09", "-999999999w", "0001-01-01T00:00+23:00"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        since(text, NOW)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("12", AtPosition(12)),
        ("position:12", AtPosition(12)),
        ("version:3", AtVersion(3)),
        ("recorded:now", RecordedAt(NOW)),
        ("occurred:2026-11-24T18:09:50Z", OccurredAt(NOW)),
        ("occurred:yesterday", OccurredAt(datetime(2026, 11, 23, 23, 59, 59, 999999, tzinfo=UTC))),
    ],
)
def test_a_point_names_its_measure(text: str, at: At) -> None:
    assert point(text, NOW) == at


@pytest.mark.parametrize("text", ["", "x", "-1", "version:", "version:-1", "at:3", "recorded:then", "1" * 20])
def test_what_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        point(text, NOW)
