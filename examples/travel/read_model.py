"""A read model of when each thing first happened, so that one row of it answers for every day."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from everlog import Fold, Money, Recorded, event
from examples.travel import PAID, SUBMITTED, Answer

STAFF = ("ADMINISTRATION", "BUDGET OWNER", "DIRECTOR", "EMPLOYEE", "MISSING", "PRE_APPROVER", "SUPERVISOR")
ACTIVITIES = (
    *(
        f"{paper} {what} by {who}"
        for paper in ("Declaration", "Permit")
        for what in ("SUBMITTED", "SAVED", "APPROVED", "FINAL_APPROVED", "REJECTED")
        for who in STAFF
    ),
    "Start trip",
    "End trip",
    "Request Payment",
    "Send Reminder",
    PAID,
)


@dataclass(frozen=True)
class Amount:
    """What an event said the amount is; `paid` if it was a payment."""

    at: datetime
    cents: int
    paid: bool


@dataclass(frozen=True)
class FirstTimes:
    """Of one declaration. `amounts` are in the order of the log, and without those that change nothing on any day."""

    events: int = 0
    exists: datetime | None = None
    submitted: datetime | None = None
    paid: datetime | None = None
    amounts: tuple[Amount, ...] = ()

    def cents(self, at: datetime | None) -> int:
        """What the first payment that names an amount says; until there is one, the last amount of any event."""
        known = [one for one in self.amounts if at is None or one.at <= at]
        settled = next((one for one in known if one.paid), known[-1] if known else None)
        return settled.cents if settled else 0


first_times = Fold("first-times", initial=FirstTimes())


def _follow(activity: str) -> type:
    """Declare the activity as an event, with what the read model needs of it, and fold it."""

    @event(activity)
    class Step:
        amount: Money | None = None

    @first_times.on(Step, key=lambda e: e.stream)
    def happen(known: FirstTimes, e: Recorded[Step]) -> FirstTimes:
        at = e.occurred_at
        return replace(
            known,
            events=known.events + 1,
            exists=_earlier(known.exists, at),
            submitted=_earlier(known.submitted, at) if activity == SUBMITTED else known.submitted,
            paid=_earlier(known.paid, at) if activity == PAID else known.paid,
            amounts=_with(known.amounts, e.data.amount, at, activity == PAID),
        )

    return Step


def _earlier(known: datetime | None, at: datetime) -> datetime:
    """The log is in the order of the file, which is not that of the days."""
    return at if known is None else min(known, at)


def _with(amounts: tuple[Amount, ...], amount: Money | None, at: datetime, paid: bool) -> tuple[Amount, ...]:
    if amount is None:
        return amounts
    last = amounts[-1] if amounts else None
    if last is not None and (last.cents, last.paid) == (amount.minor, paid) and last.at <= at:
        return amounts  # whenever this one counts, so does the last one
    return (*amounts, Amount(at, amount.minor, paid))


STEPS = [_follow(activity) for activity in ACTIVITIES]


def read_model(declarations: Iterable[FirstTimes], at: datetime | None = None) -> Answer:
    """What was true at `at` (`None`: at the end), from the rows alone."""
    events = streams = exist = submitted = paid = still_open = paid_total = 0
    for one in declarations:
        events, streams = events + one.events, streams + 1
        was_submitted, was_paid = _by(one.submitted, at), _by(one.paid, at)
        exist += _by(one.exists, at)
        submitted += was_submitted
        paid += was_paid
        still_open += was_submitted and not was_paid
        paid_total += one.cents(at) if was_paid else 0
    return {
        "exist": exist,
        "submitted": submitted,
        "paid": paid,
        "open": still_open,
        "paid_total": paid_total,
        "events": events,
        "streams": streams,
    }


def _by(first: datetime | None, at: datetime | None) -> bool:
    return first is not None and (at is None or first <= at)
