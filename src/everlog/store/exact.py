"""A log row by row, as it lies: what moves it to another store with positions, bytes and leaves unchanged.

A log is *closed* while it takes no appends, because it went elsewhere or is not whole yet; it says why in words.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from everlog.core.errors import LogClosed, StoreUnavailable
from everlog.store.contract import LeafRow

Kept = Literal[
    "origin", "subscription", "fold", "timer", "lane", "parked", "mark", "inbox", "received", "feed", "relay"
]  # fmt: skip
"""What lies beside the events: where the log came from, and what those who follow it keep."""


class Columns(NamedTuple):
    """Of one kind of row: the columns of its key, then the others."""

    key: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.key + self.others


KEPT: Mapping[Kept, Columns] = {
    "origin": Columns(("incarnation",), ("parent", "cut", "root", "opened_at")),
    "fold": Columns(("projection", "version", "tenant", "key"), ("state", "position")),
    "subscription": Columns(
        ("name",),
        (
            "subscription",
            "part",
            "parts",
            "until",
            "build",
            "kind",
            "version",
            "position",
            "status",
            "epoch",
            "error",
            "failed_position",
            "moved_at",
            "anew",
        ),
    ),
    "timer": Columns(("tenant", "stream", "name"), ("expected", "due_at", "set_by", "correlation_id")),
    "lane": Columns(("processor", "key"), ("hash", "status", "attempts", "next_at", "error", "since", "waits_for")),
    "parked": Columns(("processor", "key", "position")),
    "mark": Columns(("processor", "position"), ("number",)),
    "inbox": Columns(("consumer", "incarnation", "position", "part")),
    "received": Columns(("processor", "position"), ("incarnation", "event")),
    "feed": Columns(
        ("partition",),
        ("source", "incarnation", "stream", "created", "sequence", "read", "position", "floor", "shared"),
    ),
    "relay": Columns(
        ("relay",),
        (
            "stream",
            "created",
            "sequence",
            "messages",
            "position",
            "part",
            "digest",
            "first",
            "begun",
            "refill",
            "trouble",
            "since",
            "warnings",
        ),
    ),
}
"""All of it but who owns a subscription. A lease does not travel, and ends."""

Row = tuple[Any, ...]


def over_the_same_key(kind: Kept) -> str:
    """The end of an INSERT: a worker that waits for the log to open may have made a row of that key."""
    columns = KEPT[kind]
    changes = ", ".join([f"{name} = excluded.{name}" for name in columns.others])
    return f"ON CONFLICT ({', '.join(columns.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"


class Origin(NamedTuple):
    """That an incarnation began with the first `cut` events of its parent, the tree over whose leaves has this root.

    The first incarnation began with nothing, and has none.
    """

    incarnation: int
    parent: int
    cut: int
    root: bytes
    opened_at: int
    """Microseconds."""


class TagRow(NamedTuple):
    """One tag of the event at a position."""

    tenant: str
    tag: str
    position: int


class ReleaseRow(NamedTuple):
    """A payload that left, and what is recorded of that."""

    position: int
    act: str
    reason: str
    released_at: int


class Gate(NamedTuple):
    """Why the log is closed (empty: it is open), and the text of the inline projections in force."""

    closed: str
    inline: str


class Exact(Protocol):
    """The rows of one log. Nothing is decided here; the tables still refuse what no log may hold.

    Whoever writes has shut the log, or made it another one, before. Is it shut by somebody else meanwhile, every
    further write raises `StoreUnavailable`: of two that write, the later one goes on.
    """

    def gate(self) -> Gate: ...

    def shut(self, reason: str) -> None:
        """Take no appends, releases and claims from now on; what is under way is finished or fenced first."""
        ...

    def become(self, log_id: bytes, reason: str) -> None:
        """Make this log, which must be empty, the same one as another; it is shut."""
        ...

    def open(self, incarnation: int, inline: str) -> None:
        """Take appends again, as this incarnation."""
        ...

    def tags(self, after: int, upto: int) -> Iterator[Sequence[TagRow]]:
        """Of the events with `after` < position <= `upto`, ordered by tenant, tag and position, a page at a time."""
        ...

    def releases(self) -> Iterator[Sequence[ReleaseRow]]:
        """In the order of positions, a page at a time."""
        ...

    def write(self, rows: Sequence[LeafRow]) -> None:
        """Add rows that follow the head, and move it, in one transaction."""
        ...

    def tag(self, rows: Sequence[TagRow]) -> None:
        """Add tags; those that are there are passed over."""
        ...

    def release(self, rows: Sequence[ReleaseRow]) -> None:
        """Let payloads go as recorded; those that went before are passed over."""
        ...

    def kept(self, kind: Kept) -> Iterator[Sequence[Row]]:
        """Rows with the columns of `KEPT`, a page at a time."""
        ...

    def forget(self) -> None:
        """Delete all that lies beside the events."""
        ...

    def keep(self, kind: Kept, rows: Sequence[Row]) -> None:
        """Write them, over those of the same key."""
        ...


def refuse_taken(closed: str, ours: str) -> None:
    """Raises `StoreUnavailable` unless the log is closed as we closed it."""
    if closed != ours:
        raise StoreUnavailable(f"somebody else works on this log by now ({closed or 'it is open'}): let one of you end")


def refuse_closed(closed: str, opened: bytes = b"", found: bytes = b"") -> None:
    """Raises `LogClosed`; and `StoreUnavailable` where another log was put in the place of the one that was opened."""
    if closed:
        raise LogClosed(f"the log takes no appends: {closed}")
    if opened != found:
        raise StoreUnavailable("another log was put here since this one was opened: open it again")
