"""What came of an inbox's command: known once, it stays so, whether or not the command made events."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from everlog.core.envelope import Appended
from everlog.core.errors import IdempotencyConflict, Rejected
from everlog.domain.decider import Decider
from everlog.domain.event import event
from everlog.domain.recorded import Recorded
from everlog.feed.inbox import CommandInbox, Order


@event("inbox.command_rejected")
class InboxRejected:
    """The business said no to what a message asked for; whenever that message comes again, this is the answer."""

    inbox: str
    id: str
    reason: str
    details: Mapping[str, str]


@event("inbox.command_changed_nothing")
class InboxChangedNothing:
    """What a message asked for led to no event. Recorded, or a repeat could find that it leads to something by then."""

    inbox: str
    id: str


OUTCOMES = (InboxRejected, InboxChangedNothing)


class Executed(Protocol):
    @property
    def events(self) -> Sequence[object]: ...

    @property
    def replayed(self) -> bool: ...


class Session(Protocol):
    """What an inbox needs of its tenant's session."""

    def execute(self, decider: Decider[Any, Any, Any], id: str, command: Any, *, request_id: str) -> Executed: ...

    def append(self, stream: str, *events: object, request_id: str | None = None) -> Appended: ...

    def answer(self, request_id: str) -> Recorded[Any] | None: ...


def execute_once(session: Session, inbox: CommandInbox[Any], order: Order) -> None:
    """Carry an order out. Where that makes no event its outcome is one, under the same request id.

    Raises `Rejected`, also when the order comes again, and what `execute` raises.
    """
    stream = f"everlog-inbox-{inbox.name}"
    try:
        outcome = _outcome(session, inbox, order)
        if outcome is None:
            return
        session.append(stream, outcome, request_id=order.request_id)
    except IdempotencyConflict:
        # It ended before, or at another worker meanwhile; else the same id asked for something else.
        known = session.answer(order.request_id)
        if known is None or known.stream not in (stream, inbox.to.stream(order.id)):
            raise
        if known.stream != stream or known.stored.data is None:  # carried out; or how it ended was let go of
            return
        outcome = known.data
        if outcome.id != order.id:
            raise
    if isinstance(outcome, InboxRejected):
        raise Rejected(outcome.reason, **outcome.details)


def _outcome(session: Session, inbox: CommandInbox[Any], order: Order) -> InboxRejected | InboxChangedNothing | None:
    """None when there are events."""
    try:
        result = session.execute(inbox.to, order.id, order.command, request_id=order.request_id)
    except Rejected as no:
        return InboxRejected(inbox.name, order.id, no.reason, no.texts())
    return None if result.events or result.replayed else InboxChangedNothing(inbox.name, order.id)
