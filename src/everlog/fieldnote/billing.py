"""What Fieldnote bills: trials, invoices that are paid or not, and the subscription that ends when they are not.

Only as much as its processes need; the money itself is with the payment service, which notes how an attempt went.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from everlog import Decider, Rejected, event

Decline = Literal["soft", "hard"]


@event("trial.started", tags=["tenant:{slug}"])
class TrialStarted:
    slug: str
    ends_at: datetime


@event("trial.extended", tags=["tenant:{slug}"])
class TrialExtended:
    slug: str
    ends_at: datetime


@event("trial.converted", tags=["tenant:{slug}"])
class TrialConverted:
    slug: str


@event("trial.expired", tags=["tenant:{slug}"])
class TrialExpired:
    slug: str


@event("payment_method.added", tags=["tenant:{slug}"])
class PaymentMethodAdded:
    """Appended to a stream of its own: no rule rests on it."""

    slug: str


TrialEvent = TrialStarted | TrialExtended | TrialConverted | TrialExpired


@dataclass(frozen=True)
class StartTrial:
    slug: str
    ends_at: datetime


@dataclass(frozen=True)
class ExtendTrial:
    ends_at: datetime


@dataclass(frozen=True)
class ConvertTrial:
    pass


@dataclass(frozen=True)
class ExpireTrial:
    pass


def decide_trial(
    command: StartTrial | ExtendTrial | ConvertTrial | ExpireTrial, trial: TrialEvent | None
) -> list[TrialEvent]:
    match command, trial:
        case StartTrial(slug, ends_at), None:
            return [TrialStarted(slug, ends_at)]
        case ExtendTrial(ends_at), TrialStarted(slug) | TrialExtended(slug):
            return [TrialExtended(slug, ends_at)]
        case ConvertTrial(), TrialStarted(slug) | TrialExtended(slug):
            return [TrialConverted(slug)]
        case ExpireTrial(), TrialStarted(slug) | TrialExtended(slug):
            return [TrialExpired(slug)]
    raise Rejected("no_trial_under_way")


def evolve_trial(trial: TrialEvent | None, event: TrialEvent) -> TrialEvent | None:
    return event


trials = Decider("trial", initial=None, decide=decide_trial, evolve=evolve_trial, snapshot_every=None)


@event("payment.attempted", tags=["tenant:{slug}"])
class PaymentAttempted:
    slug: str
    invoice: str
    attempt: int


@event("payment.failed", tags=["tenant:{slug}"])
class PaymentFailed:
    slug: str
    invoice: str
    attempt: int
    decline: Decline


@event("payment.succeeded", tags=["tenant:{slug}"])
class PaymentSucceeded:
    slug: str
    invoice: str


PaymentEvent = PaymentAttempted | PaymentFailed | PaymentSucceeded


@dataclass(frozen=True)
class AttemptPayment:
    slug: str
    invoice: str


@dataclass(frozen=True)
class NotePaid:
    pass


@dataclass(frozen=True)
class NoteDeclined:
    decline: Decline


@dataclass(frozen=True)
class Invoice:
    slug: str = ""
    number: str = ""
    attempts: int = 0
    status: Literal["open", "charging", "paid"] = "open"


def decide_invoice(command: AttemptPayment | NotePaid | NoteDeclined, invoice: Invoice) -> list[PaymentEvent]:
    match command, invoice.status:
        case AttemptPayment(slug, number), "open":
            return [PaymentAttempted(slug, number, invoice.attempts + 1)]
        case AttemptPayment(), _:
            return []
        case NotePaid(), "charging":
            return [PaymentSucceeded(invoice.slug, invoice.number)]
        case NoteDeclined(decline), "charging":
            return [PaymentFailed(invoice.slug, invoice.number, invoice.attempts, decline)]
    raise Rejected("no_payment_under_way", invoice=invoice.number)


def evolve_invoice(invoice: Invoice, event: PaymentEvent) -> Invoice:
    match event:
        case PaymentAttempted(slug, number, attempt):
            return Invoice(slug, number, attempt, "charging")
        case PaymentFailed():
            return Invoice(invoice.slug, invoice.number, invoice.attempts, "open")
        case PaymentSucceeded():
            return Invoice(invoice.slug, invoice.number, invoice.attempts, "paid")


invoices = Decider("invoice", initial=Invoice(), decide=decide_invoice, evolve=evolve_invoice)


@event("subscription.canceled", tags=["tenant:{slug}"])
class SubscriptionCanceled:
    slug: str
    kind: Literal["voluntary", "involuntary"]
    reason: str


@dataclass(frozen=True)
class CancelSubscription:
    slug: str
    kind: Literal["voluntary", "involuntary"]
    reason: str


def decide_subscription(command: CancelSubscription, canceled: bool) -> list[SubscriptionCanceled]:
    return [] if canceled else [SubscriptionCanceled(command.slug, command.kind, command.reason)]


def evolve_subscription(canceled: bool, event: SubscriptionCanceled) -> bool:
    return True


subscriptions = Decider("subscription", initial=False, decide=decide_subscription, evolve=evolve_subscription)
