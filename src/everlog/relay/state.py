"""What a relay remembers of the broker, committed with its checkpoint, and compared with what the broker holds."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from everlog.subscription.contract import Effects

WHOLE = 2**31 - 1
"""As a part: all parts of the event at that position."""


class Mark(NamedTuple):
    """How far the copy reaches: up to and including this part of the event at this position."""

    position: int
    part: int = WHOLE


class Copy(NamedTuple):
    """The broker's copy: it begins behind position `first`, and its last message is at `sequence` (0: none).

    `created` tells which life of the broker's stream that was; `digest` is the last message's, by which a changed one
    is noticed.
    """

    stream: str
    created: int
    sequence: int
    messages: int
    mark: Mark
    digest: bytes
    first: int


class Relayed(NamedTuple):
    """A relay's row. It began behind position `begun`, whatever was sent again from a later one on since.

    `refill`: a person wants everything from there on sent again; `trouble` since when, if any.
    """

    copy: Copy
    begun: int
    refill: int | None = None
    trouble: str = ""
    since: int = 0
    warnings: tuple[str, ...] = ()


class Relays(Protocol):
    """The table, for reading; it is written in the transaction of a checkpoint, by `note`."""

    def all(self) -> dict[str, Relayed]:
        """What every relay of the log remembers, by its name."""
        ...


Rows = Callable[[str, Sequence[object]], Sequence[Any]]

_COLUMNS = (
    "relay", "stream", "created", "sequence", "messages", "position", "part", "digest", "first", "begun", "refill",
    "trouble", "since", "warnings",
)  # fmt: skip
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM everlog_relay ORDER BY relay"
_NOTE = f"""
    INSERT INTO everlog_relay ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
    ON CONFLICT (relay) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}"""


def every(rows: Rows) -> dict[str, Relayed]:
    """The statement is the same on every database; `rows` runs it."""
    return {row[0]: _relayed(*row[1:]) for row in rows(_ALL, ())}


def note(effects: Effects, relay: str, relayed: Relayed) -> None:
    """Write a relay's row as it is to be from now on."""
    copy, mark = relayed.copy, relayed.copy.mark
    effects.execute(
        _NOTE,
        (
            relay, copy.stream, copy.created, copy.sequence, copy.messages, *mark, copy.digest, copy.first,
            relayed.begun, relayed.refill, relayed.trouble, relayed.since, "\n".join(relayed.warnings),
        ),
    )  # fmt: skip


def _relayed(
    stream: str,
    created: int,
    sequence: int,
    messages: int,
    position: int,
    part: int,
    digest: bytes,
    first: int,
    begun: int,
    refill: int | None,
    trouble: str,
    since: int,
    warnings: str,
) -> Relayed:
    copy = Copy(stream, created, sequence, messages, Mark(position, part), bytes(digest), first)
    return Relayed(copy, begun, refill, trouble, since, tuple(warnings.splitlines()))
