"""Dunning: what follows when an invoice cannot be charged, until it is paid or the subscription ends.

A soft decline is tried again on days 1, 3, 5, 7 and 14, with a mail each; after a hard one only another payment method
helps, so we ask for it. On day 14 the tenant is suspended, on day 21 the subscription is canceled. Days count from the
first decline. A payment until then ends it, and lifts the suspension if it is still the one made here.

A payment after day 21 is recorded and changes nothing: whether a canceled tenant comes back is for an operator to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from everlog import (
    Action,
    Cancel,
    CommandRejected,
    Do,
    Finish,
    ProcessManager,
    Recorded,
    Timer,
    TimerFired,
    event,
)
from everlog.fieldnote.billing import (
    AttemptPayment,
    CancelSubscription,
    Decline,
    PaymentFailed,
    PaymentSucceeded,
    invoices,
    subscriptions,
)
from everlog.fieldnote.mailing import AskMail, MailCommand, mailing_of, mailings
from everlog.fieldnote.tenants import ReactivateTenant, SuspendTenant, tenants

RETRY_DAYS, SUSPEND_DAY, CANCEL_DAY = (1, 3, 5, 7, 14), 14, 21


@event("dunning.begun", tags=["tenant:{slug}"])
class DunningBegun:
    slug: str
    invoice: str
    decline: Decline


@event("dunning.hardened", tags=["tenant:{slug}"])
class DunningHardened:
    """A retry was declined for good: no more of them."""

    slug: str


@event("dunning.suspended", tags=["tenant:{slug}"])
class DunningSuspended:
    slug: str


@event("dunning.suspension_refused", tags=["tenant:{slug}"])
class DunningSuspensionRefused:
    """It was suspended or closed already, so lifting that is not ours."""

    slug: str


DunningEvent = DunningBegun | DunningHardened | DunningSuspended | DunningSuspensionRefused


@dataclass(frozen=True)
class Dunning:
    slug: str = ""
    invoice: str = ""
    hard: bool = False
    suspended: bool = False


def evolve(dunning: Dunning, event: DunningEvent) -> Dunning:
    match event:
        case DunningBegun(slug, invoice, decline):
            return Dunning(slug, invoice, hard=decline == "hard")
        case DunningHardened():
            return replace(dunning, hard=True)
        case DunningSuspended():
            return replace(dunning, suspended=True)
        case DunningSuspensionRefused():
            return replace(dunning, suspended=False)


dunning = ProcessManager("dunning", initial=Dunning(), evolve=evolve, does=[invoices, subscriptions, tenants, mailings])

Answers = Iterator[Action | DunningEvent]


@dunning.on(PaymentFailed, key=lambda e: e.data.invoice)
def declined(state: Dunning, e: Recorded[PaymentFailed]) -> Answers:
    if not state.slug:
        yield from _begin(e)
    elif e.data.decline == "hard" and not state.hard:
        yield DunningHardened(state.slug)
        yield from (Cancel(f"retry {day}") for day in RETRY_DAYS)
        yield _mail(state.slug, state.invoice, "new payment method")


@dunning.on(PaymentSucceeded, key=lambda e: e.data.invoice)
def paid(state: Dunning, e: Recorded[PaymentSucceeded]) -> Answers:
    if not state.slug:
        return  # at the first attempt, as nearly always
    if state.suspended:
        lift = ReactivateTenant("invoice paid", e.recorded_at, suspended_for=_unpaid(state))
        yield Do(tenants, state.slug, lift)
    yield Finish()


@dunning.on_timer("suspend")
def suspend(state: Dunning, e: Recorded[TimerFired]) -> Answers:
    yield DunningSuspended(state.slug)
    yield Do(tenants, state.slug, SuspendTenant(_unpaid(state), e.data.due_at))


@dunning.on_rejected(SuspendTenant)
def not_suspended(state: Dunning, e: Recorded[CommandRejected]) -> Answers:
    yield DunningSuspensionRefused(state.slug)


@dunning.on_timer("cancel")
def cancel(state: Dunning, e: Recorded[TimerFired]) -> Answers:
    yield Do(subscriptions, state.slug, CancelSubscription(state.slug, "involuntary", _unpaid(state)))
    yield Finish()


def _begin(e: Recorded[PaymentFailed]) -> Answers:
    slug, invoice, decline = e.data.slug, e.data.invoice, e.data.decline
    yield DunningBegun(slug, invoice, decline)
    if decline == "soft":
        yield from (Timer(f"retry {day}", after=timedelta(days=day)) for day in RETRY_DAYS)
        yield _mail(slug, invoice, "payment failed")
    else:
        yield _mail(slug, invoice, "new payment method")
    yield Timer("suspend", after=timedelta(days=SUSPEND_DAY))
    yield Timer("cancel", after=timedelta(days=CANCEL_DAY))


def _retry_on(day: int) -> None:
    @dunning.on_timer(f"retry {day}")
    def retry(state: Dunning, e: Recorded[TimerFired]) -> Answers:
        yield Do(invoices, state.invoice, AttemptPayment(state.slug, state.invoice))
        yield _mail(state.slug, f"{state.invoice}.day{day}", "payment failed")


def _unpaid(state: Dunning) -> str:
    """A reason that nobody else suspends for: by it we know our suspension again."""
    return f"invoice {state.invoice} unpaid"


def _mail(slug: str, about: str, template: str) -> Do[MailCommand]:
    return Do(mailings, mailing_of(slug, f"{template}.{about}"), AskMail(slug, template))


for each in RETRY_DAYS:
    _retry_on(each)
