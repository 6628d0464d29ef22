"""everlog: one append-only log under a SaaS product, and everything a team builds on it."""

from everlog.app.async_session import AsyncSession
from everlog.app.platform import AsyncLog, Log, Platform
from everlog.app.scope import Write
from everlog.app.session import Admin, Session
from everlog.command.execute import Result
from everlog.core.at import AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.envelope import Appended
from everlog.core.errors import (
    AppendConditionFailed,
    EverlogError,
    IdempotencyConflict,
    IncompatibleStore,
    InvalidInput,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    PayloadReleased,
    Rejected,
    StoreUnavailable,
    UnknownEventType,
    UnreadableEvent,
    UnsafeSettings,
    WrongExpectedVersion,
)
from everlog.core.expect import Anything, Exactly, NoStream, StreamExists
from everlog.core.money import Money
from everlog.domain.aggregate import Aggregate, applies, decides
from everlog.domain.criteria import Criteria
from everlog.domain.decider import Decider
from everlog.domain.event import event
from everlog.domain.recorded import Recorded
from everlog.domain.upcast import Upcaster, upcast, upcast_drop, upcast_split

__version__ = "0.1.0"

__all__ = [
    "Admin",
    "Aggregate",
    "Anything",
    "AppendConditionFailed",
    "Appended",
    "AsyncLog",
    "AsyncSession",
    "AtPosition",
    "AtVersion",
    "Criteria",
    "Decider",
    "EverlogError",
    "Exactly",
    "IdempotencyConflict",
    "IncompatibleStore",
    "InvalidInput",
    "Log",
    "Misconfigured",
    "Money",
    "NoStream",
    "NotFound",
    "OccurredAt",
    "OutcomeUnknown",
    "PayloadReleased",
    "Platform",
    "Recorded",
    "RecordedAt",
    "Rejected",
    "Result",
    "Session",
    "StoreUnavailable",
    "StreamExists",
    "UnknownEventType",
    "UnreadableEvent",
    "UnsafeSettings",
    "Upcaster",
    "Write",
    "WrongExpectedVersion",
    "applies",
    "decides",
    "event",
    "upcast",
    "upcast_drop",
    "upcast_split",
]
