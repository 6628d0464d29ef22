"""The suite for timers of processes: a row each, in step with what the processes say, read by the time they are due.

TestSqlite = timing_conformance(lambda folder: SqliteStore(SqliteSettings(folder / "log.db")))
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest

from everlog.core.clock import moment
from everlog.core.envelope import StoredEvent
from everlog.core.ids import derived_id
from everlog.process.events import Alarm, ExpectationDue, Reacted, TimerFired
from everlog.process.timers import SetTimer, Timers, clear, every, note
from everlog.subscription.contract import Checkpoints

SECOND = 1_000_000
CAUSE = b"c" * 16


class Timing(Protocol):
    """What one database keeps of timers, and how it is written."""

    @property
    def checkpoints(self) -> Checkpoints: ...

    @property
    def timers(self) -> Timers: ...

    def close(self) -> None: ...


def timing_conformance(open: Callable[[Path], Timing]) -> type:
    """A test class for one adapter; give it a name that starts with `Test`."""

    class TimingConformance:
        @pytest.fixture
        def timing(self, tmp_path: Path) -> Iterator[Timing]:
            with closing(open(tmp_path)) as timing:
                yield timing

    for name, test in list(globals().items()):
        if name.startswith("test_"):
            setattr(TimingConformance, name, staticmethod(test))
    return TimingConformance


def _noted(timing: Timing, *events: Reacted | TimerFired | ExpectationDue, stream: str = "p-1") -> list[bytes]:
    """Note them as events of one process, each with an id of its own."""
    ids = [derived_id("acme", stream, repr(event)) for event in events]
    with _transaction(timing) as effects:
        for id, event in zip(ids, events, strict=True):
            stored = StoredEvent(1, "acme", stream, 1, id, "process.reacted", 1, 0, 0, None, CAUSE, None, b"", None)
            note(effects, stored, event)
    return ids


def _transaction(timing: Timing) -> Any:
    timing.checkpoints.register("timers", "projection", 1, 0)
    claim = timing.checkpoints.claim("timers", "ann", 10)
    assert claim is not None
    return timing.checkpoints.transaction(claim, 0)


def _set(*timers: tuple[str, int], expected: bool = False, cancelled: tuple[str, ...] = ()) -> Reacted:
    alarms = tuple(Alarm(name, moment(seconds * SECOND), expected) for name, seconds in timers)
    return Reacted(repr(timers), alarms=alarms, cancelled=cancelled)


def _names(timing: Timing) -> list[str]:
    return [one.name for one in every(timing.timers)]


def test_timers_are_read_by_due_time_and_come_back_as_they_were_set(timing: Timing) -> None:
    [late] = _noted(timing, _set(("late", 9), expected=True))
    [soon] = _noted(timing, _set(("soon", 3)), stream="p-2")
    assert list(every(timing.timers)) == [
        SetTimer(3 * SECOND, "acme", "p-2", "soon", False, soon, CAUSE),
        SetTimer(9 * SECOND, "acme", "p-1", "late", True, late, CAUSE),
    ]


def test_pages_of_timers_go_on_where_the_last_one_ended(timing: Timing) -> None:
    _noted(timing, _set(*((f"t{number}", 5 + number % 3) for number in range(10))))
    whole = timing.timers.page(None, 100)
    assert [one.due_at for one in whole] == sorted(one.due_at for one in whole)
    assert list(every(timing.timers, page=3)) == whole
    assert list(every(timing.timers, until=6 * SECOND, page=2)) == [o for o in whole if o.due_at <= 6 * SECOND]


def test_a_timer_of_the_same_name_takes_the_place_of_the_other(timing: Timing) -> None:
    _noted(timing, _set(("a", 3)))
    [second] = _noted(timing, _set(("a", 5), expected=True))
    assert list(every(timing.timers)) == [SetTimer(5 * SECOND, "acme", "p-1", "a", True, second, CAUSE)]


def test_a_cancelled_timer_is_gone_and_no_other(timing: Timing) -> None:
    _noted(timing, _set(("a", 3), ("b", 4)))
    _noted(timing, _set(("a", 3)), stream="p-2")
    _noted(timing, _set(cancelled=("a", "never set")))
    assert [(one.stream, one.name) for one in every(timing.timers)] == [("p-2", "a"), ("p-1", "b")]


def test_what_fired_is_gone_unless_it_was_set_anew(timing: Timing) -> None:
    first, second = _noted(timing, _set(("a", 3), ("b", 3)), _set(("b", 5)))
    due = moment(3 * SECOND)
    _noted(timing, *(TimerFired(name, due, str(UUID(bytes=first))) for name in ("a", "b")))
    assert [(one.name, one.set_by) for one in every(timing.timers)] == [("b", second)]
    _noted(timing, ExpectationDue("b", due + timedelta(seconds=2), str(UUID(bytes=second))))
    assert _names(timing) == []


def test_a_finished_process_has_no_timers(timing: Timing) -> None:
    _noted(timing, _set(("a", 3)), Reacted("end", alarms=_set(("b", 4)).alarms, finished=True))
    assert _names(timing) == []


def test_timers_can_be_cleared_to_be_made_anew(timing: Timing) -> None:
    _noted(timing, _set(("a", 3)))
    with _transaction(timing) as effects:
        clear(effects)
    assert _names(timing) == []
