"""Mails that are asked for, delivered, skipped or given up: each template once for each person.

Asking is a command, so a process may ask; delivering is a processor's, which notes how it went.
"""

from dataclasses import dataclass

from everlog import Decider, Processor, Recorded, Rejected, Retry, Session, event, processor
from everlog.fieldnote.post import DOMAIN, Post, Undeliverable, letter
from everlog.fieldnote.users import Profile, User, UserCreated, users

MOST_ATTEMPTS = 5
OPERATIONS = "fieldnote.operations"  # our own people, under a name that no tenant or user is to have

TEXTS = {
    "welcome": ("Welcome to Fieldnote", "your account is ready."),
    "payment failed": ("Your payment did not go through", "we will try again; you need not do anything."),
    "new payment method": ("We need another way to charge you", "your bank declined: please give us another card."),
    "provisioning failed": (
        "Tenant {tenant} could not be made ready",
        "what was begun is taken back. This tells why:\n\neverlog process show provisioning {tenant} --tenant {tenant}",
    ),
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


@event("mailing.skipped", tags=["user:{to}"])
class MailSkipped:
    """Whom it was for is gone. It is not asked for again, even if he comes back."""

    to: str
    template: str
    reason: str


@event("mailing.failed", tags=["user:{to}"])
class MailFailed:
    to: str
    template: str
    attempt: int
    reason: str


MailEvent = MailAsked | MailDelivered | MailSkipped | MailFailed


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
class NoteSkipped:
    reason: str


@dataclass(frozen=True)
class NoteFailed:
    reason: str


MailCommand = AskMail | NoteDelivered | NoteSkipped | NoteFailed


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
        case NoteSkipped(reason), MailAsked(to, template):
            return [MailSkipped(to, template, reason)]
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
    """Who is not an active user gets none. An address that takes no mail is noted, for whoever asked to decide what
    follows; trouble of ours is retried."""

    @processor("mail-delivery", on=MailAsked, retry=retry)
    def deliver(e: Recorded[MailAsked], session: Session) -> None:
        noted = _deliver(e, _recipient(e.data.to, session), post)
        mailing = e.stream.partition("-")[2]
        session.acting(actor="post").execute(mailings, mailing, noted, request_id=f"delivery {e.key}")

    return deliver


def _deliver(e: Recorded[MailAsked], user: User, post: Post) -> NoteDelivered | NoteSkipped | NoteFailed:
    if user.status != "active":
        return NoteSkipped(f"user_{user.status}")
    name, template = user.profile.display_name, e.data.template
    texts = TEXTS.get(template, (template.capitalize(), "see above."))
    subject, text = (one.replace("{tenant}", e.tenant) for one in texts)
    try:
        post.send(letter(e.key, e.recorded_at, name, user.email, subject, f"Dear {name},\n\n{text}\n"))
    except Undeliverable as error:
        return NoteFailed(str(error))
    return NoteDelivered()


def _recipient(to: str, session: Session) -> User:
    """A user; the first owner who is still here, when the tenant is meant; or our own people."""
    if to == OPERATIONS:
        return User(to, "active", email=f"operations@{DOMAIN}", profile=Profile("Operations"))
    if to != session.tenant:
        return session.state(users, to)
    ids = [created.data.user_id for created in session.events(UserCreated)]
    everyone = (session.state(users, id) for id in ids)
    return next((user for user in everyone if (user.role, user.status) == ("owner", "active")), User())
