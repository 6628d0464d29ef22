"""everlog: one append-only log under a SaaS product, and everything a team builds on it."""

from everlog.app.async_session import AsyncAdmin, AsyncSession
from everlog.app.lanes import LaneOperator
from everlog.app.log import AsyncLog, Log
from everlog.app.platform import Platform
from everlog.app.scope import Write
from everlog.app.session import Admin, Session
from everlog.app.worker import Lag
from everlog.command.execute import Result
from everlog.core.at import AtPosition, AtVersion, OccurredAt, RecordedAt
from everlog.core.envelope import Appended, Head, StreamHead
from everlog.core.errors import (
    AppendConditionFailed,
    EverlogError,
    Fenced,
    IdempotencyConflict,
    IncompatibleStore,
    InvalidInput,
    LogClosed,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    PayloadReleased,
    Rejected,
    StoreUnavailable,
    SubscriptionFailed,
    UnknownEventType,
    UnreadableEvent,
    UnsafeSettings,
    WaitTimeout,
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
from everlog.feed.inbox import CommandInbox
from everlog.history.audit import AuditEntry, csv_lines, json_lines
from everlog.history.travel import Difference, FieldChange
from everlog.process.actions import Action, Cancel, Compensate, Do, Expect, Finish, Met, Timer
from everlog.process.events import CommandRejected, ExpectationMissed, TimerFired
from everlog.process.manager import ProcessManager
from everlog.process.schedule import Schedule, ScheduleOccurred
from everlog.processing.contract import Lane, LaneFilter
from everlog.processing.processor import Isolation, Processor, Retry, Transient, processor
from everlog.projection.fold import Fold
from everlog.projection.sql import SqlProjection
from everlog.relay.cloudevents import CloudEvent
from everlog.relay.contract import BrokerUnavailable
from everlog.relay.routing import ALL, Relay
from everlog.subscription.backoff import Backoff
from everlog.subscription.contract import Effects as Transaction
from everlog.subscription.start import AfterPosition, FromBeginning, FromNow, FromTime

__version__ = "0.1.0"

__all__ = [
    "ALL",
    "Action",
    "Admin",
    "AfterPosition",
    "Aggregate",
    "Anything",
    "AppendConditionFailed",
    "Appended",
    "AsyncAdmin",
    "AsyncLog",
    "AsyncSession",
    "AtPosition",
    "AtVersion",
    "AuditEntry",
    "Backoff",
    "BrokerUnavailable",
    "Cancel",
    "CloudEvent",
    "CommandInbox",
    "CommandRejected",
    "Compensate",
    "Criteria",
    "Decider",
    "Difference",
    "Do",
    "EverlogError",
    "Exactly",
    "Expect",
    "ExpectationMissed",
    "Fenced",
    "FieldChange",
    "Finish",
    "Fold",
    "FromBeginning",
    "FromNow",
    "FromTime",
    "Head",
    "IdempotencyConflict",
    "IncompatibleStore",
    "InvalidInput",
    "Isolation",
    "Lag",
    "Lane",
    "LaneFilter",
    "LaneOperator",
    "Log",
    "LogClosed",
    "Met",
    "Misconfigured",
    "Money",
    "NoStream",
    "NotFound",
    "OccurredAt",
    "OutcomeUnknown",
    "PayloadReleased",
    "Platform",
    "ProcessManager",
    "Processor",
    "Recorded",
    "RecordedAt",
    "Rejected",
    "Relay",
    "Result",
    "Retry",
    "Schedule",
    "ScheduleOccurred",
    "Session",
    "SqlProjection",
    "StoreUnavailable",
    "StreamExists",
    "StreamHead",
    "SubscriptionFailed",
    "Timer",
    "TimerFired",
    "Transaction",
    "Transient",
    "UnknownEventType",
    "UnreadableEvent",
    "UnsafeSettings",
    "Upcaster",
    "WaitTimeout",
    "Write",
    "WrongExpectedVersion",
    "applies",
    "csv_lines",
    "decides",
    "event",
    "json_lines",
    "processor",
    "upcast",
    "upcast_drop",
    "upcast_split",
]
