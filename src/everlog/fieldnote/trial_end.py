"""The end of a trial: reminders seven, three and one day before; then it is charged, or it expires.

Converted or expired before its day, it is not reminded of any more.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from everlog import Action, Do, Finish, ProcessManager, Recorded, Timer, TimerFired, event
from everlog.fieldnote.billing import (
    ConvertTrial,
    ExpireTrial,
    PaymentMethodAdded,
    TrialConverted,
    TrialExpired,
    TrialExtended,
    TrialStarted,
    trials,
)
from everlog.fieldnote.mailing import AskMail, mailing_of, mailings

REMIND_BEFORE = (7, 3, 1)


@event("trial_end.card_seen")
class CardSeen:
    pass


def evolve(card: bool, event: CardSeen) -> bool:
    return True


trial_end = ProcessManager("trial_end", initial=False, evolve=evolve, does=[trials, mailings])

Answers = Iterator[Action | CardSeen]


@trial_end.on(TrialStarted, key=lambda e: e.data.slug)
def started(card: bool, e: Recorded[TrialStarted]) -> Answers:
    yield from _timers(e.data.ends_at, e.recorded_at)


@trial_end.on(TrialExtended, key=lambda e: e.data.slug)
def extended(card: bool, e: Recorded[TrialExtended]) -> Answers:
    """Timers of the same names take the place of those that are set."""
    yield from _timers(e.data.ends_at, e.recorded_at)


@trial_end.on(PaymentMethodAdded, key=lambda e: e.data.slug)
def card_added(card: bool, e: Recorded[PaymentMethodAdded]) -> Answers:
    yield CardSeen()


@trial_end.on(TrialConverted, key=lambda e: e.data.slug)
def converted(card: bool, e: Recorded[TrialConverted]) -> Answers:
    yield Finish()


@trial_end.on(TrialExpired, key=lambda e: e.data.slug)
def expired(card: bool, e: Recorded[TrialExpired]) -> Answers:
    yield Finish()


@trial_end.on_timer("end")
def ended(card: bool, e: Recorded[TimerFired]) -> Answers:
    yield Do(trials, e.tenant, ConvertTrial() if card else ExpireTrial())
    yield Finish()


def _timers(ends_at: datetime, now: datetime) -> Answers:
    """A reminder whose day is past is not sent late: it would say what is no longer true."""
    for days in REMIND_BEFORE:
        if (at := ends_at - timedelta(days=days)) >= now:
            yield Timer(f"{days} days", at=at)
    yield Timer("end", at=ends_at)


def _remind(days: int) -> None:
    @trial_end.on_timer(f"{days} days")
    def remind(card: bool, e: Recorded[TimerFired]) -> Answers:
        template = f"your trial ends on {e.data.due_at + timedelta(days=days):%Y-%m-%d} ({days} d)"
        yield Do(mailings, mailing_of(e.tenant, f"trial.{days}.{e.data.due_at:%Y%m%d}"), AskMail(e.tenant, template))


for each in REMIND_BEFORE:
    _remind(each)
