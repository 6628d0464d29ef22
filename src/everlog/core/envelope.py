"""An event as it is appended and as it is stored: names, numbers and exact bytes, no domain class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from everlog.core.expect import Anything, Expect, NoneMatching


class NewEvent(NamedTuple):
    """One event to append. Ids are 16 bytes, times are microseconds.

    `occurred_at` is `None` where the caller claims no time: then it is the moment it was recorded.
    `client` is a JSON object with `ip` and `user_agent`, a segment of its own because it is personal data.
    """

    id: bytes
    stream: str
    type: str
    schema_version: int
    data: bytes
    tags: tuple[str, ...] = ()
    occurred_at: int | None = None
    actor: str | None = None
    correlation_id: bytes | None = None
    causation_id: bytes | None = None
    client: bytes | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """One request: all its events are stored with consecutive positions, or none is.

    `expect` names what must hold of a stream before its first event of this request; a stream not named may be at
    any version. Source of the conditions: design D4.
    """

    tenant: str
    events: tuple[NewEvent, ...]
    expect: Mapping[str, Expect] = field(default_factory=dict)
    boundary: NoneMatching | None = None

    def expected(self, stream: str) -> Expect:
        return self.expect.get(stream, Anything())


class Place(NamedTuple):
    """Where one event came to lie."""

    position: int
    version: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to an `Append`: one place an event, in the order given; `replayed` when it was stored before."""

    places: tuple[Place, ...]
    recorded_at: int
    replayed: bool = False

    @property
    def position(self) -> int:
        """The position of the last event."""
        return self.places[-1].position

    @property
    def version(self) -> int:
        """The version of the last event in its stream."""
        return self.places[-1].version


class StoredEvent(NamedTuple):
    """One event as read back. `data` is `None` once its bytes were released; the envelope stays for ever."""

    position: int
    tenant: str
    stream: str
    version: int
    id: bytes
    type: str
    schema_version: int
    occurred_at: int
    recorded_at: int
    actor: str | None
    correlation_id: bytes | None
    causation_id: bytes | None
    data: bytes | None
    client: bytes | None


class Head(NamedTuple):
    """The end of the log: the last position (0: empty), when it was recorded, and which history this is."""

    position: int
    recorded_at: int
    log_id: bytes
    incarnation: int


class StreamHead(NamedTuple):
    """A stream and its last event."""

    tenant: str
    stream: str
    version: int
    position: int


class StoredSnapshot(NamedTuple):
    """A folded state, disposable at any time. `occurred_at` is the greatest one among the events it folded."""

    tenant: str
    stream: str
    fingerprint: bytes
    version: int
    position: int
    occurred_at: int
    state: bytes


class FoldKey(NamedTuple):
    """Which state of a fold: keys are inside their tenant."""

    tenant: str
    key: str


class FoldState(NamedTuple):
    """One state of a fold; `position` is that of the last event that changed it."""

    tenant: str
    key: str
    state: bytes
    position: int
