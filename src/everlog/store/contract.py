"""The contract every store keeps. `everlog.testing.conformance` proves it; each adapter joins there in one line."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from everlog.core.envelope import Append, Appended, FoldKey, FoldState, Head, StoredEvent, StoredSnapshot, StreamHead
from everlog.core.errors import EverlogError
from everlog.store.query import Filter

Verdict = Appended | EverlogError


class LeafRow(NamedTuple):
    """What proves one event: see `docs/reference/leaf.md`."""

    event: StoredEvent
    claimed_at: int | None
    segment_hashes: bytes
    salts: tuple[bytes | None, bytes | None]
    leaf: bytes


class Finding(NamedTuple):
    """One thing `doctor` looked at. `ok` is what was hoped for, `advice` says what to do otherwise."""

    check: str
    level: Literal["ok", "warning", "problem"]
    seen: str
    advice: str = ""


class Snapshots(Protocol):
    """Folded states beside the log: a cache that may be deleted or damaged without changing any answer."""

    def save(self, snapshot: StoredSnapshot) -> None:
        """Keep it, in place of one of the same stream, fingerprint and version, which may be damaged."""
        ...

    def latest(
        self, tenant: str, stream: str, fingerprint: bytes, *, version: int, occurred_at: int | None = None
    ) -> StoredSnapshot | None:
        """The newest one at or below `version` that folded nothing which occurred after `occurred_at`."""
        ...

    def all(self, tenant: str | None, stream: str | None = None) -> Iterator[StoredSnapshot]: ...

    def delete(self, tenant: str | None, stream: str | None = None, *, older_than_version: int | None = None) -> int:
        """Delete them and say how many."""
        ...


class Joined(Protocol):
    """Appends buffered inside a transaction of the caller's; stored by `flush`, the last thing before its COMMIT."""

    def append(self, request: Append) -> None: ...

    def flush(self) -> Sequence[Appended]:
        """Take the head and store what was buffered; raises what `Store.append` raises, and then nothing may commit."""
        ...


@dataclass(frozen=True, slots=True)
class Release:
    """The one door for payload bytes: which positions lose them, by which act, and why. Recorded for ever."""

    positions: tuple[int, ...]
    act: Literal["archive", "erasure"]
    reason: str


class Inline(Protocol):
    """Keyed states that change in the append's own transaction; pure, so a failure costs one request."""

    @property
    def versions(self) -> Mapping[str, int]:
        """The projections and versions it computes."""
        ...

    def __call__(
        self, events: Sequence[StoredEvent], load: Callable[[str, FoldKey], bytes | None]
    ) -> Mapping[str, Sequence[FoldState]]:
        """The states these events of one request change, by projection; `load` reads one as the group has it."""
        ...


class Pages(Protocol):
    """Events in the order of their positions, as a follower reads them: the log itself, or a broker's copy of it."""

    def head(self) -> Head: ...

    def read(
        self, where: Filter, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Iterator[StoredEvent]: ...


class Store(Protocol):
    """One log. Thread-safe; every call blocks until it is answered; a forked child reopens by itself."""

    @property
    def snapshots(self) -> Snapshots: ...

    def append(self, request: Append) -> Appended:
        """Store the request's events atomically and durably, or raise and store nothing.

        Raises `InvalidInput`, `WrongExpectedVersion`, `AppendConditionFailed`, `IdempotencyConflict`,
        `StoreUnavailable` or `OutcomeUnknown`.
        """
        ...

    def append_each(self, requests: Sequence[Append]) -> list[Verdict]:
        """As `append` for every request on its own, sharing as few transactions as possible; a verdict each."""
        ...

    def read(
        self,
        where: Filter,
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> Iterator[StoredEvent]:
        """Events with `after` < position <= `upto` in position order, or against it; paged, so memory stays flat.

        `upto=None` means the head when the read began.
        """
        ...

    def read_stream(
        self, tenant: str, stream: str, *, after: int = 0, upto: int | None = None, backwards: bool = False
    ) -> Iterator[StoredEvent]:
        """Events of one stream with `after` < version <= `upto` in version order, or against it."""
        ...

    def find(self, tenant: str, ids: Iterable[bytes]) -> dict[bytes, StoredEvent]:
        """The tenant's events with these ids."""
        ...

    def streams(self, tenant: str | None, category: str | None = None) -> Iterator[StreamHead]:
        """Streams with their last event, by tenant and name."""
        ...

    def version_at(
        self, tenant: str, stream: str, *, position: int | None = None, recorded_at: int | None = None
    ) -> int:
        """The stream's version as of a position or a time it was recorded; O(log length), 0 when it had none."""
        ...

    def head(self) -> Head: ...

    def release(self, release: Release) -> int:
        """Let payload bytes go through the recorded door; says how many events lost them by this call."""
        ...

    def leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[LeafRow]: ...

    def join(self, connection: object) -> AbstractContextManager[Joined]:
        """Open a transaction on the caller's connection; commits when the block ends, rolls back when it raises."""
        ...

    def put_in_force(self, inline: Inline) -> None:
        """From now on every append folds these projections too; first what is stored already is folded.

        Processes that lack one of these versions may no longer append.
        """
        ...

    def on_append(self, hint: Callable[[], None]) -> None:
        """Call `hint` after each commit of this process's appends; losing one may cost time, never an event."""
        ...

    def examine(self, *, deep: bool = False) -> Iterator[Finding]:
        """What `everlog doctor` shows of this store; `deep` reads every row and recomputes every leaf."""
        ...

    def close(self, timeout: float = 10.0) -> None:
        """Drain what is queued for up to `timeout` seconds, then close; closing twice is fine."""
        ...
