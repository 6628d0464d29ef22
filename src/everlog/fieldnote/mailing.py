"""Mails that are asked for, delivered or given up: each template once for each person.

Asking is a command, so a process may ask; delivering is a processor's, which notes how it went.
"""

from dataclasses import dataclass

from everlog import Decider, Processor, Recorded, Rejected, Retry, Session, event, processor
from everlog.fieldnote.post import Post, Undeliverable, letter
from everlog.fieldnote.users import UserCreated, users

MOST_ATTEMPTS = 5

TEXTS = {
    "welcome": ("Welcome to Fieldnote", "your account is ready."),
    "payment failed": ("Your payment did not go through", "we will try again; you need not do anything."),
    "new payment method": ("We need another way to charge you", "your bank declined: please give us another card."),
}


@event("mailing.asked", tags=["user:{to}"])
class MailAsked:
    to: str
    template: str
    attempt: int


@event("mailing.delivered", tags=["user:{to}"])
class MailDelivered:
    to: str
    template: str


@event("mailing.failed", tags=["user:{to}"])
class MailFailed:
    to: str
    template: str
    attempt: int
    reason: str


MailEvent = MailAsked | MailDelivered | MailFailed


@dataclass(frozen=True)
class AskMail:
    """Again, with the next `attempt`, after one that failed."""

    to: str
    template: str
    attempt: int = 1


@dataclass(frozen=True)
class NoteDelivered:
    pass


@dataclass(frozen=True)
class NoteFailed:
    reason: str


MailCommand = AskMail | NoteDelivered | NoteFailed


def decide(command: MailCommand, mail: MailEvent | None) -> list[MailEvent]:
    match command, mail:
        case AskMail(to, template, 1), None:
            return [MailAsked(to, template, 1)]
        case AskMail(to, template, attempt), MailFailed(attempt=failed) if failed + 1 == attempt <= MOST_ATTEMPTS:
            return [MailAsked(to, template, attempt)]
        case AskMail(), _:
            return []  # asked for before, which is fine
        case NoteDelivered(), MailAsked(to, template):
            return [MailDelivered(to, template)]
        case NoteFailed(reason), MailAsked(to, template, attempt):
            return [MailFailed(to, template, attempt, reason)]
    raise Rejected("no_mail_under_way")


def evolve(mail: MailEvent | None, event: MailEvent) -> MailEvent | None:
    return event


mailings = Decider("mailing", initial=None, decide=decide, evolve=evolve, snapshot_every=None)


def mailing_of(to: str, template: str) -> str:
    """The id of one template to one person."""
    return f"{to}.{template.replace(' ', '_')}"


def delivery(post: Post, retry: Retry) -> Processor[MailAsked]:
    """An address that takes no mail is noted, for whoever asked to decide what follows; trouble of ours is retried."""

    @processor("mail-delivery", on=MailAsked, retry=retry)
    def deliver(e: Recorded[MailAsked], session: Session) -> None:
        name, address = _address(e.data.to, session)
        subject, text = TEXTS.get(e.data.template, (e.data.template.capitalize(), "see above."))
        noted: NoteDelivered | NoteFailed = NoteDelivered()
        try:
            post.send(letter(e.key, e.recorded_at, name, address, subject, f"Dear {name},\n\n{text}\n"))
        except Undeliverable as error:
            noted = NoteFailed(str(error))
        mailing = e.stream.partition("-")[2]
        session.acting(actor="post").execute(mailings, mailing, noted, request_id=f"delivery {e.key}")

    return deliver


def _address(to: str, session: Session) -> tuple[str, str]:
    """Of a user; or of the first one there was, when the tenant is meant."""
    if to == session.tenant:
        to = next((created.data.user_id for created in session.events(UserCreated)), to)
    user = session.state(users, to)
    return user.profile.display_name, user.email
