"""Travel expense declarations of a university: a real log imported, then asked what was true on a day."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everlog import Recorded

SUBMITTED = "Declaration SUBMITTED by EMPLOYEE"
PAID = "Payment Handled"

Answer = dict[str, int]


@dataclass
class Declaration:
    """What one stream came to. `settled` once a payment has said the amount."""

    exists: bool = False
    submitted: bool = False
    paid: bool = False
    settled: bool = False
    cents: int = 0


def time_travel(events: Iterable[Recorded[Any]], at: datetime | None = None) -> Answer:
    """What was true at `at` (`None`: at the end), and how large the whole log is.

    One pass, and memory for each declaration, not for each event.
    """
    declarations: dict[str, Declaration] = {}
    count = 0
    for event in events:
        count += 1
        declaration = declarations.setdefault(event.stream, Declaration())
        if at is None or event.occurred_at <= at:
            happen(declaration, event)
    known = declarations.values()
    return {
        "exist": sum(one.exists for one in known),
        "submitted": sum(one.submitted for one in known),
        "paid": sum(one.paid for one in known),
        "open": sum(one.submitted and not one.paid for one in known),
        "paid_total": sum(one.cents for one in known if one.paid),
        "events": count,
        "streams": len(declarations),
    }


def happen(declaration: Declaration, event: Recorded[Any]) -> None:
    """A declaration is paid once, however often its payment is recorded, and for the amount on the first payment that
    names one; until then for the last amount it had."""
    declaration.exists = True
    declaration.submitted |= event.type == SUBMITTED
    declaration.paid |= event.type == PAID
    amount = event.json().get("amount")
    if amount is not None and not declaration.settled:
        declaration.cents = amount["minor"]
        declaration.settled = event.type == PAID
