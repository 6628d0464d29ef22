"""The welcome mail: when the address is verified or ten minutes are over, tried again for hours, never twice.

The state keeps what the functions ask of it and no more: one that comes twice, or early, changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from everlog import (
    Action,
    Cancel,
    Do,
    Expect,
    ExpectationMissed,
    Finish,
    Met,
    ProcessManager,
    Recorded,
    Timer,
    TimerFired,
    event,
)
from everlog.fieldnote.mailing import AskMail, MailDelivered, MailFailed, mailing_of, mailings
from everlog.fieldnote.users import UserCreated, UserDeactivated, UserEmailVerified

WAIT = timedelta(minutes=10)
AGAIN_AFTER = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
SENT_WITHIN = timedelta(seconds=60)


@event("welcome.begun", tags=["user:{user_id}"])
class WelcomeBegun:
    user_id: str


@event("welcome.asked", tags=["user:{user_id}"])
class WelcomeAsked:
    user_id: str


@event("welcome.late", tags=["user:{user_id}"])
class WelcomeLate:
    """An alert: the mail should have been sent a minute ago."""

    user_id: str


@event("welcome.given_up", tags=["user:{user_id}"])
class WelcomeGivenUp:
    user_id: str
    reason: str


@dataclass(frozen=True)
class Welcome:
    user_id: str = ""
    attempts: int = 0


WelcomeEvent = WelcomeBegun | WelcomeAsked | WelcomeLate | WelcomeGivenUp


def evolve(welcome: Welcome, event: WelcomeEvent) -> Welcome:
    match event:
        case WelcomeBegun(user_id):
            return replace(welcome, user_id=user_id)
        case WelcomeAsked():
            return replace(welcome, attempts=welcome.attempts + 1)
        case WelcomeLate() | WelcomeGivenUp():
            return welcome


welcome = ProcessManager("welcome", initial=Welcome(), evolve=evolve, does=[mailings])

Answers = Iterator[Action | WelcomeEvent]


@welcome.on(UserCreated, key=lambda e: e.data.user_id)
def created(state: Welcome, e: Recorded[UserCreated]) -> Answers:
    yield WelcomeBegun(e.data.user_id)
    yield Timer("send", after=WAIT)


@welcome.on(UserEmailVerified, key=lambda e: e.data.user_id)
def verified(state: Welcome, e: Recorded[UserEmailVerified]) -> Answers:
    """Also one that is verified before we know of the user; then he waits, and that does no harm."""
    if state.user_id and not state.attempts:
        yield Cancel("send")
        yield from _ask(state)
        yield Expect("sent", within=SENT_WITHIN)


@welcome.on_timer("send")
def due(state: Welcome, e: Recorded[TimerFired]) -> Answers:
    yield from _ask(state)
    yield Expect("sent", by=e.data.due_at + SENT_WITHIN)


@welcome.on(MailFailed, key=lambda e: e.data.to)
def failed(state: Welcome, e: Recorded[MailFailed]) -> Answers:
    if e.data.template != "welcome":
        return
    if e.data.attempt > len(AGAIN_AFTER):
        yield WelcomeGivenUp(state.user_id, e.data.reason)
        yield Finish()
    else:
        yield Timer("send", after=AGAIN_AFTER[e.data.attempt - 1])


@welcome.on(MailDelivered, key=lambda e: e.data.to)
def delivered(state: Welcome, e: Recorded[MailDelivered]) -> Answers:
    if e.data.template == "welcome":
        yield Met("sent")
        yield Finish()


@welcome.on_missed("sent")
def late(state: Welcome, e: Recorded[ExpectationMissed]) -> Answers:
    yield WelcomeLate(state.user_id)


@welcome.on(UserDeactivated, key=lambda e: e.data.user_id)
def deactivated(state: Welcome, e: Recorded[UserDeactivated]) -> Answers:
    yield Finish()


def _ask(state: Welcome) -> Answers:
    yield WelcomeAsked(state.user_id)
    mail = AskMail(state.user_id, "welcome", state.attempts + 1)
    yield Do(mailings, mailing_of(state.user_id, "welcome"), mail)
