"""Was what clients saw possible, if every call took effect at one moment between its start and its end?

For most systems that is a search. A log makes it a sweep, because it is the claimed order itself: each thing a client
saw narrows the time in which one event may have entered the log (an acknowledgement: by then; reading version 4: event
4 by then, event 5 not before). A history is possible exactly when one can walk along the log with time never going
back. Nothing here imports everlog; times are `time.monotonic_ns()`, which all processes of a machine share.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple


class Tried(NamedTuple):
    """One attempt to append one event, and how it ended; a retry is another attempt with the same id.

    `expected` is the version the stream had to be at (`None`: any). `version` and `position` are where it was
    acknowledged to lie; of a conflict, `version` is the one the stream was said to be at. Of an `unknown` outcome the
    event may be stored once or not at all.
    """

    id: str
    stream: str
    expected: int | None
    outcome: Literal["ok", "conflict", "unknown"]
    invoked: int
    returned: int
    version: int | None = None
    position: int | None = None


class Read(NamedTuple):
    """A client asked for a stream's version (0: no event)."""

    stream: str
    version: int
    invoked: int
    returned: int


class Logged(NamedTuple):
    """One event of the final log, which is given in the order of the log."""

    position: int
    stream: str
    version: int
    id: str


class Violation(NamedTuple):
    kind: str
    detail: str


Operation = Tried | Read


class _Bound(NamedTuple):
    at: float
    by: Operation | None


class _Window:
    """When an event may have entered the log: `after` the one, `before` the other."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.after, self.before = _Bound(-math.inf, None), _Bound(math.inf, None)

    def not_before(self, at: int, by: Operation) -> None:
        if at > self.after.at:
            self.after = _Bound(at, by)

    def not_later(self, at: int, by: Operation) -> None:
        if at < self.before.at:
            self.before = _Bound(at, by)


def check(history: Iterable[Operation], log: Sequence[Logged]) -> list[Violation]:
    """Everything that cannot have happened; empty when the log explains all of the history. Linear but for sorting."""
    history = list(history)
    attempts: dict[str, list[Tried]] = defaultdict(list)
    for operation in history:
        if isinstance(operation, Tried):
            attempts[operation.id].append(operation)
    return [*_log_itself(log), *_promises(attempts, log), *_moments(history, attempts, log)]


def _log_itself(log: Sequence[Logged]) -> Iterable[Violation]:
    seen: set[str] = set()
    versions: dict[str, int] = defaultdict(int)
    for place, event in enumerate(log, 1):
        if event.position != place:
            yield Violation("positions not 1..n", f"place {place} of the log holds {event}")
        if event.id in seen:
            yield Violation("duplicate id", str(event))
        if event.version != versions[event.stream] + 1:
            yield Violation("versions not contiguous", f"{event} follows version {versions[event.stream]}")
        seen.add(event.id)
        versions[event.stream] = event.version


def _promises(attempts: Mapping[str, Sequence[Tried]], log: Sequence[Logged]) -> Iterable[Violation]:
    """What each event's own attempts say about it."""
    stored = {event.id: event for event in log}
    for id in stored.keys() - attempts.keys():
        yield Violation("event nobody appended", str(stored[id]))
    for id, tries in attempts.items():
        event = stored.get(id)
        acknowledged = [tried for tried in tries if tried.outcome == "ok"]
        if event is None:
            yield from (Violation("acknowledged append lost", str(tried)) for tried in acknowledged)
            continue
        for tried in acknowledged:
            if (tried.stream, tried.version, tried.position) != (event.stream, event.version, event.position):
                yield Violation("acknowledged at another place", f"{tried} is stored as {event}")
        accepted = [tried for tried in tries if tried.outcome != "conflict"]
        if not accepted:
            yield Violation("refused append stored", f"{event}, after {tries[0]}")
        elif not any(tried.expected in (None, event.version - 1) for tried in accepted):
            yield Violation("condition broken", f"{event} needed version {accepted[0].expected}")
        for tried in tries:
            if tried.outcome == "conflict" and tried.version is not None and tried.version >= event.version:
                yield Violation("retry refused", f"{tried} saw a version that counts the event itself, {event}")


def _moments(
    history: Iterable[Operation], attempts: Mapping[str, Sequence[Tried]], log: Sequence[Logged]
) -> Iterable[Violation]:
    """Narrow each event's window by all that was seen, then walk along the log."""
    windows: dict[tuple[str, int], _Window] = {(event.stream, event.version): _Window() for event in log}
    for event in log:
        _narrow_by_appends(windows[event.stream, event.version], attempts.get(event.id, ()))
    order = list(_walk(windows, log))
    yield from order
    for operation in history:
        if isinstance(operation, Read) or operation.outcome == "conflict":
            yield from _narrow_by_view(windows, operation)
    if not order:  # in a log out of order any view looks wrong, and would be blamed for it
        yield from _walk(windows, log)


def _narrow_by_appends(window: _Window, tries: Sequence[Tried]) -> None:
    accepted = [tried for tried in tries if tried.outcome != "conflict"]
    if accepted:
        first = min(accepted, key=lambda tried: tried.invoked)
        window.not_before(first.invoked, first)
    for tried in accepted:
        if tried.outcome == "ok":
            window.not_later(tried.returned, tried)


def _narrow_by_view(windows: Mapping[tuple[str, int], _Window], seen: Operation) -> Iterable[Violation]:
    """Who saw version 4 saw event 4 before the call ended, and no event 5 before it began."""
    version = seen.version
    if version is None:
        return
    if isinstance(seen, Tried) and seen.expected in (None, version):
        yield Violation("false conflict", f"{seen}: the condition held")
    if version > 0 and (seen.stream, version) not in windows:
        yield Violation(_kind_of_view(seen, "future read"), f"{seen}: the log has no such event")
        return
    if version > 0:
        windows[seen.stream, version].not_later(seen.returned, seen)
    if (seen.stream, version + 1) in windows:
        windows[seen.stream, version + 1].not_before(seen.invoked, seen)


def _walk(windows: Mapping[tuple[str, int], _Window], log: Sequence[Logged]) -> Iterable[Violation]:
    latest = _Bound(-math.inf, None)
    reported: set[Operation | None] = set()
    for event in log:
        window = windows[event.stream, event.version]
        latest = max(latest, window.after, key=lambda bound: bound.at)
        if window.before.at < latest.at and latest.by not in reported:
            reported.add(latest.by)  # one impossible call would otherwise be told once for every later event
            yield Violation(_kind(latest.by, window.before.by), f"{event} by {window.before.by}, but {latest.by}")


def _kind(after: Operation | None, before: Operation | None) -> str:
    if isinstance(after, Read) or (isinstance(after, Tried) and after.outcome == "conflict"):
        return _kind_of_view(after, "stale read")
    if isinstance(before, Read) or (isinstance(before, Tried) and before.outcome == "conflict"):
        return _kind_of_view(before, "future read")
    return "real-time order violated"


def _kind_of_view(seen: Operation, read: str) -> str:
    return read if isinstance(seen, Read) else "false conflict"
