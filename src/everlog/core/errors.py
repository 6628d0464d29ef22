"""Every error everlog raises: one root, each with a stable `code`, a `retryable` flag and typed fields.

A message says what happened, with which values, and what to do next. Nothing here knows about HTTP or a driver.
"""

from collections.abc import Mapping
from typing import ClassVar


class EverlogError(Exception):
    """The root of all errors raised by everlog."""

    code: ClassVar[str] = "everlog_error"
    retryable: ClassVar[bool] = False


class Misconfigured(EverlogError):
    """The platform, a type or a setting is wrong; found when it is built, before any I/O."""

    code = "misconfigured"


class InvalidInput(EverlogError):
    """A name, an event or a batch breaks a rule or a limit; nothing was stored."""

    code = "invalid_input"


class NotFound(EverlogError):
    """The stream, event or file asked for does not exist (or belongs to another tenant, which looks the same)."""

    code = "not_found"


class Rejected(EverlogError):
    """The business said no: raised by `decide` with a reason code and the values that led to it."""

    code = "rejected"

    def __init__(self, reason: str, **details: object) -> None:
        told = ", ".join(f"{name}={value!r}" for name, value in details.items())
        super().__init__(f"{reason} ({told})" if told else reason)
        self.reason = reason
        self.details: Mapping[str, object] = details

    def texts(self) -> dict[str, str]:
        """The details as they are recorded: text, of each no more than 1,000 characters."""
        return {name: str(value)[:1000] for name, value in self.details.items()}


class AppendConditionFailed(EverlogError):
    """What the append required did not hold when it was about to be stored; nothing was stored."""

    code = "append_condition_failed"


class WrongExpectedVersion(AppendConditionFailed):
    """The stream was not at the version the append expected."""

    code = "wrong_expected_version"

    def __init__(self, stream: str, expected: str, actual: int) -> None:
        super().__init__(f"{stream} is at version {actual}, not {expected}: reload it and decide again")
        self.stream, self.expected, self.actual = stream, expected, actual


class IdempotencyConflict(EverlogError):
    """An event id (or the request id it derives from) is known already, with other content or elsewhere."""

    code = "idempotency_conflict"


class UnreadableEvent(EverlogError):
    """A stored event cannot be given as the type that was asked for; the log is intact, the reader's code is not."""

    code = "unreadable_event"

    def __init__(self, position: int, type_name: str, schema_version: int, reason: str) -> None:
        super().__init__(f"event at position {position} ({type_name} v{schema_version}) cannot be read: {reason}")
        self.position, self.type_name, self.schema_version, self.reason = position, type_name, schema_version, reason


class UnknownEventType(UnreadableEvent):
    """Nothing in this platform declares the stored type, or only older versions of it."""

    code = "unknown_event_type"


class PayloadReleased(UnreadableEvent):
    """The payload bytes left the hot store through the recorded door (an archive release or an erasure)."""

    code = "payload_released"


class UnsafeSettings(EverlogError):
    """A setting would break a promise; refused at start, with the override named."""

    code = "unsafe_settings"


class IncompatibleStore(EverlogError):
    """The file is not an everlog store, or a newer everlog wrote it."""

    code = "incompatible_store"


class LogClosed(EverlogError):
    """The log takes no appends: it was moved, or is still being copied; the message says where to. Reads still work."""

    code = "log_closed"


class StoreUnavailable(EverlogError):
    """The store cannot serve now (locked, disk full, I/O error); nothing was stored by this call."""

    code = "store_unavailable"
    retryable = True


class OutcomeUnknown(EverlogError):
    """The append may or may not be stored: retry with the same ids, which is safe."""

    code = "outcome_unknown"
    retryable = True


class WaitTimeout(EverlogError):
    """What was waited for did not come in time; the append itself is stored."""

    code = "wait_timeout"
    retryable = True


class NotReady(EverlogError):
    """A read model of this version does not serve yet: it is being built beside the one that does."""

    code = "not_ready"
    retryable = True


class Fenced(EverlogError):
    """Somebody else owns the subscription by now: this owner's work was rolled back, and it must stop."""

    code = "fenced"
    retryable = True

    def __init__(self, name: str, epoch: int) -> None:
        super().__init__(f"subscription {name!r} has another owner than epoch {epoch}: nothing of this batch was kept")
        self.name, self.epoch = name, epoch


class SubscriptionFailed(EverlogError):
    """A subscription cannot pass one event; it stays before it until its code is mended."""

    code = "subscription_failed"

    def __init__(self, name: str, position: int, reason: str) -> None:
        super().__init__(f"{name!r} stopped at position {position}: {reason}; mend it, then start the worker again")
        self.name, self.position, self.reason = name, position, reason


class SubscriptionStopped(SubscriptionFailed):
    """A processor has parked all it may: it stopped rather than drop anything, and waits for a person."""

    code = "subscription_stopped"
