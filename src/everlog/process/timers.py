"""The timers that are set: a table made from the log, by which whoever looks after time finds what is due.

It holds nothing that the reactions do not say, and can be built anew from them at any time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from everlog.core.clock import micros
from everlog.core.envelope import StoredEvent
from everlog.process.events import ExpectationDue, Reacted, TimerFired
from everlog.subscription.contract import Effects


class SetTimer(NamedTuple):
    """A timer or, `expected`, an expectation of one process. `set_by` is the id of the reaction that set it, whose
    `correlation_id` goes on with it."""

    due_at: int
    tenant: str
    stream: str
    name: str
    expected: bool
    set_by: bytes
    correlation_id: bytes | None


class Timers(Protocol):
    """The table, for reading; it is written in the transaction of a subscription, by the functions below."""

    def page(self, after: SetTimer | None, limit: int) -> list[SetTimer]:
        """The next ones by due time, tenant, stream and name."""
        ...


Rows = Callable[[str, Sequence[object]], Sequence[Any]]

_COLUMNS = "due_at, tenant, stream, name, expected, set_by, correlation_id"
_ORDER = "due_at, tenant, stream, name"
_FIRST = f"SELECT {_COLUMNS} FROM everlog_timer ORDER BY {_ORDER} LIMIT ?"
_NEXT = f"SELECT {_COLUMNS} FROM everlog_timer WHERE ({_ORDER}) > (?, ?, ?, ?) ORDER BY {_ORDER} LIMIT ?"
_SET = """
    INSERT INTO everlog_timer (tenant, stream, name, expected, due_at, set_by, correlation_id)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant, stream, name) DO UPDATE SET
        expected = excluded.expected, due_at = excluded.due_at, set_by = excluded.set_by,
        correlation_id = excluded.correlation_id"""
_CANCEL = "DELETE FROM everlog_timer WHERE tenant = ? AND stream = ? AND name = ?"
_FIRED = f"{_CANCEL} AND set_by = ?"
_FINISHED = "DELETE FROM everlog_timer WHERE tenant = ? AND stream = ?"
_CLEAR = "DELETE FROM everlog_timer"


def page(rows: Rows, after: SetTimer | None, limit: int) -> list[SetTimer]:
    """The statement is the same on every database; `rows` runs it."""
    found = rows(_FIRST, [limit]) if after is None else rows(_NEXT, [*after[:4], limit])
    return [
        SetTimer(due_at, tenant, stream, name, bool(expected), bytes(set_by), correlation and bytes(correlation))
        for due_at, tenant, stream, name, expected, set_by, correlation in found
    ]


def every(timers: Timers, *, until: int | None = None, page: int = 500) -> Iterator[SetTimer]:
    """All that are due by `until`, by due time, streamed."""
    after: SetTimer | None = None
    while found := timers.page(after, page):
        for after in found:
            if until is not None and after.due_at > until:
                return
            yield after


def note(effects: Effects, stored: StoredEvent, what: Reacted | TimerFired | ExpectationDue) -> list[int]:
    """Keep the table in step with one event of a process; gives when what it sets is due."""
    of = (stored.tenant, stored.stream)
    match what:
        case Reacted():
            for name in what.cancelled:
                effects.execute(_CANCEL, (*of, name))
            if what.finished:
                effects.execute(_FINISHED, of)
                return []
            for alarm in what.alarms:
                values = (*of, alarm.name, int(alarm.expected), micros(alarm.due_at), stored.id, stored.correlation_id)
                effects.execute(_SET, values)
            return [micros(alarm.due_at) for alarm in what.alarms]
        case TimerFired() | ExpectationDue():
            effects.execute(_FIRED, (*of, what.name, UUID(what.set_by).bytes))
            return []


def remove(effects: Effects, fired: Sequence[SetTimer]) -> None:
    """Those whose event is known by its place alone."""
    for one in fired:
        effects.execute(_FIRED, (one.tenant, one.stream, one.name, one.set_by))


def clear(effects: Effects) -> None:
    effects.execute(_CLEAR)
