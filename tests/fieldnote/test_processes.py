"""Fieldnote's four processes, played: what they do, and that neither order nor repetition changes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlog import ProcessManager, Recorded
from everlog.fieldnote.billing import (
    AttemptPayment,
    CancelSubscription,
    ConvertTrial,
    Decline,
    ExpireTrial,
    PaymentFailed,
    PaymentMethodAdded,
    PaymentSucceeded,
    TrialConverted,
    TrialExpired,
    TrialExtended,
    TrialStarted,
)
from everlog.fieldnote.dunning import dunning
from everlog.fieldnote.mailing import (
    OPERATIONS,
    AskMail,
    MailAsked,
    MailDelivered,
    MailFailed,
    MailSkipped,
    NoteSkipped,
    mailings,
)
from everlog.fieldnote.provisioning import (
    AskStep,
    StepDone,
    StepFailed,
    StepName,
    TenantProvisioningFailed,
    TenantReady,
    UndoStep,
    provisioning,
)
from everlog.fieldnote.tenants import ReactivateTenant, Settings, SuspendTenant, TenantCreated
from everlog.fieldnote.trial_end import trial_end
from everlog.fieldnote.users import UserCreated, UserDeactivated, UserEmailVerified
from everlog.fieldnote.welcome import WelcomeGivenUp, WelcomeLate, welcome
from everlog.testing import Commanded, Replay, happened, replayed
from everlog.testing import given as given_events
from tests.fieldnote.orders import Stream, any_order

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ACME = "acme"


def at(event: Any, after: timedelta = timedelta(), stream: str = "world") -> Recorded[Any]:
    return happened(event, NOON + after, stream=stream, tenant=ACME)


def play(manager: ProcessManager[Any, Any], events: Sequence[Recorded[Any]], until: timedelta) -> Replay[Any]:
    return replayed(manager, events, until=NOON + until)


def commands(seen: Replay[Any]) -> list[Any]:
    return [one.command for one in seen.commands]


def in_order(seen: Replay[Any], key: Callable[[Commanded], str]) -> dict[str, list[Commanded]]:
    """By key the commands as they came; between two keys there is no order."""
    told: dict[str, list[Commanded]] = {}
    for one in seen.commands:
        told.setdefault(key(one), []).append(one)
    return told


def same_commands(
    manager: ProcessManager[Any, Any],
    draw: st.DataObject,
    until: timedelta,
    *streams: Stream,
    key: Callable[[Commanded], str] = lambda one: ACME,
) -> None:
    """In any order the same commands, each once, and of each `key` in the same order: by default there is one."""
    plain = [event for stream in streams for event in stream]
    expected = in_order(play(manager, plain, until), key)
    mixed = draw.draw(any_order(*streams))
    assert in_order(play(manager, mixed, until), key) == expected


# ---- The welcome mail.

created = at(UserCreated("u-1", "u@x.example", "U", "member", None, "signup"), stream="user-u-1")
verified = at(UserEmailVerified("u-1", "u@x.example"), 5 * MINUTE, stream="user-u-1")
gone = at(UserDeactivated("u-1", "left"), 6 * MINUTE, stream="user-u-1")
delivered = at(MailDelivered("u-1", "welcome"), 5 * MINUTE + timedelta(seconds=30), stream="mailing-u-1")


def failed(attempt: int, after: timedelta) -> Recorded[Any]:
    return at(MailFailed("u-1", "welcome", attempt, "no such mailbox"), after, stream="mailing-u-1")


def test_the_welcome_mail_waits_for_the_verified_address_or_ten_minutes() -> None:
    assert commands(play(welcome, [created], 10 * MINUTE - timedelta(seconds=1))) == []
    assert commands(play(welcome, [created], 10 * MINUTE)) == [AskMail("u-1", "welcome", 1)]
    assert commands(play(welcome, [created, verified], 5 * MINUTE)) == [AskMail("u-1", "welcome", 1)]
    assert commands(play(welcome, [created, verified], DAY)) == [AskMail("u-1", "welcome", 1)]


def test_who_is_deactivated_gets_none() -> None:
    assert commands(play(welcome, [created, gone], DAY)) == []


def test_a_mail_that_is_late_is_told_after_a_minute() -> None:
    seen = play(welcome, [created, verified], 6 * MINUTE)
    assert (seen.missed, seen.events[-1]) == (("sent",), WelcomeLate("u-1"))
    assert play(welcome, [created, verified, delivered], DAY).missed == ()
    assert play(welcome, [created], 11 * MINUTE - timedelta(seconds=1)).missed == ()
    assert play(welcome, [created], 11 * MINUTE).missed == ("sent",)


def test_it_is_tried_again_after_1_5_30_and_120_minutes_and_then_given_up() -> None:
    asked, events = timedelta(minutes=10), [created]
    for attempt, pause in enumerate((1, 5, 30, 120), 1):
        events.append(failed(attempt, asked))
        asked += pause * MINUTE
        assert len(commands(play(welcome, events, asked - timedelta(seconds=1)))) == attempt
        assert commands(play(welcome, events, asked))[-1] == AskMail("u-1", "welcome", attempt + 1)
    seen = play(welcome, [*events, failed(5, asked)], 9 * DAY)
    assert seen.events[-1] == WelcomeGivenUp("u-1", "no such mailbox")
    assert len(seen.commands) == 5


@given(st.data(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_welcome_in_any_order(draw: st.DataObject, is_verified: bool, other: bool) -> None:
    user = [created, *([verified] if is_verified else [])]
    more = [at(UserCreated("u-2", "v@x.example", "V", "member", None, "signup"), stream="user-u-2")] if other else []
    unrelated = [at(MailDelivered("u-1", "another"), MINUTE, stream="mailing-x")]
    same_commands(welcome, draw, 60 * MINUTE, user, more, unrelated, key=lambda one: one.id)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_welcome_with_failures_again_and_again(draw: st.DataObject) -> None:
    same_commands(welcome, draw, DAY, [created, failed(1, 10 * MINUTE), failed(2, 11 * MINUTE), failed(3, 16 * MINUTE)])


# ---- Provisioning.

born = at(TenantCreated(ACME, "Acme", "US", "USD", "ads", Settings()), stream="tenant-acme")


def step(name: StepName, failures: int, *, done: bool = True, after: int = 1) -> Stream:
    stream = f"step-acme.{name}"
    events = [
        at(StepFailed(ACME, name, attempt, "busy"), (after + attempt) * timedelta(seconds=10), stream)
        for attempt in range(1, failures + 1)
    ]
    return [*events, *([at(StepDone(ACME, name), (after + 5) * timedelta(seconds=10), stream)] if done else [])]


def asked_for(name: StepName, failures: int) -> Stream:
    """A step fails only once it was asked for, so after its tenant was created."""
    return [*([born] if failures else []), *step(name, failures)]


def test_the_workspace_is_asked_for_when_both_first_steps_are_done() -> None:
    for first, last in (("resources", "owner"), ("owner", "resources")):
        half = [born, *step(first, 0)]  # type: ignore[arg-type]
        assert len(play(provisioning, half, MINUTE).commands) == 2
        whole = [*half, *step(last, 0, after=2)]  # type: ignore[arg-type]
        assert commands(play(provisioning, whole, 2 * MINUTE))[-1] == AskStep(ACME, "workspace")


def test_a_ready_tenant_is_left_alone() -> None:
    seen = play(provisioning, [born, *step("owner", 2), *step("resources", 0), *step("workspace", 0, after=9)], DAY)
    assert seen.events[-1] == TenantReady(ACME)
    assert UndoStep() not in commands(seen)


def test_after_three_failures_all_is_taken_back_in_reverse() -> None:
    seen = play(provisioning, [born, *step("owner", 0), *step("resources", 3, done=False, after=9)], DAY)
    assert [(one.id, one.command) for one in seen.commands] == [
        ("acme.resources", AskStep(ACME, "resources", 1)),
        ("acme.owner", AskStep(ACME, "owner", 1)),
        ("acme.resources", AskStep(ACME, "resources", 2)),
        ("acme.resources", AskStep(ACME, "resources", 3)),
        ("fieldnote.operations.provisioning_failed", AskMail(OPERATIONS, "provisioning failed")),
        ("acme.owner", UndoStep()),
        ("acme.resources", UndoStep()),
    ]
    assert seen.events[-1] == TenantProvisioningFailed(ACME, "resources: busy")


def test_what_is_not_ready_after_a_quarter_of_an_hour_is_taken_back() -> None:
    events = [born, *step("owner", 0), *step("resources", 0)]
    assert len(play(provisioning, events, 15 * MINUTE - timedelta(seconds=1)).commands) == 3
    seen = play(provisioning, events, 15 * MINUTE)
    told, *undone = seen.commands[3:]
    assert told.command == AskMail(OPERATIONS, "provisioning failed")
    assert [one.id for one in undone] == ["acme.workspace", "acme.owner", "acme.resources"]
    assert {one.command for one in undone} == {UndoStep()}
    assert seen.events[-1] == TenantProvisioningFailed(ACME, "not ready in time")


@given(st.data(), st.integers(0, 2), st.integers(0, 2), st.booleans())
@settings(deadline=None, max_examples=200)
def test_provisioning_in_any_order(draw: st.DataObject, resources: int, owner: int, workspace: bool) -> None:
    """What is done may be told before what failed elsewhere, or before the tenant itself; what failed was asked for."""
    end = step("workspace", 0, after=20) if workspace else []
    first = [[born], asked_for("resources", resources), asked_for("owner", owner)]
    plain = [event for stream in [*first, end] for event in stream]
    expected = in_order(play(provisioning, plain, 10 * MINUTE), lambda one: one.id)
    mixed = [*draw.draw(any_order(*first)), *draw.draw(any_order(end))]
    seen = play(provisioning, mixed, 10 * MINUTE)
    assert in_order(seen, lambda one: one.id) == expected
    assert (TenantReady(ACME) in seen.events) == workspace


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_failed_provisioning_in_any_order(draw: st.DataObject) -> None:
    same_commands(
        provisioning, draw, DAY, [born, *step("resources", 3, done=False, after=9)], step("owner", 0, after=0)
    )


# ---- The end of a trial.

started = at(TrialStarted(ACME, NOON + 14 * DAY), stream="trial-acme")
extended = at(TrialExtended(ACME, NOON + 21 * DAY), DAY, stream="trial-acme")
card = at(PaymentMethodAdded(ACME), 2 * DAY, stream="payment-acme")
ends = [TrialConverted(ACME), TrialExpired(ACME)]


def test_reminders_come_7_3_and_1_days_before_the_end() -> None:
    for days in (7, 3, 1):
        until = (14 - days) * DAY
        before = len(play(trial_end, [started], until - timedelta(seconds=1)).commands)
        seen = commands(play(trial_end, [started], until))
        assert len(seen) == before + 1
        assert seen[-1] == AskMail(ACME, f"your trial ends on 2026-03-16 ({days} d)")


def test_at_the_end_it_is_charged_or_it_expires() -> None:
    assert commands(play(trial_end, [started], 14 * DAY))[-1] == ExpireTrial()
    assert commands(play(trial_end, [started, card], 14 * DAY))[-1] == ConvertTrial()
    assert len(play(trial_end, [started, card], 99 * DAY).commands) == 4


def test_an_extended_trial_is_reminded_of_its_new_end() -> None:
    seen = play(trial_end, [started, extended], 14 * DAY - timedelta(seconds=1))
    assert seen.commands == ()
    assert len(play(trial_end, [started, extended], 21 * DAY).commands) == 4


@pytest.mark.parametrize("end", ends)
def test_a_trial_that_is_over_before_its_day_is_not_reminded_of(end: TrialConverted | TrialExpired) -> None:
    over = at(end, 8 * DAY, "trial-acme")
    assert commands(play(trial_end, [started, over], 99 * DAY)) == [
        AskMail(ACME, "your trial ends on 2026-03-16 (7 d)")
    ]


def test_a_short_trial_has_only_the_reminders_that_are_still_true() -> None:
    short = at(TrialStarted(ACME, NOON + 2 * DAY), stream="trial-acme")
    assert len(play(trial_end, [short], 9 * DAY).commands) == 2


@given(st.data(), st.booleans(), st.booleans(), st.none() | st.sampled_from(ends))
@settings(deadline=None, max_examples=150)
def test_trials_in_any_order(draw: st.DataObject, is_extended: bool, has_card: bool, end: Any) -> None:
    over = [] if end is None else [at(end, 8 * DAY, "trial-acme")]
    trial = [started, *([extended] if is_extended else []), *over]
    same_commands(trial_end, draw, 30 * DAY, trial, [card] if has_card else [])


# ---- Dunning.

UNPAID = "invoice i-1 unpaid"


def unpaid(attempt: int, after: timedelta, decline: Decline = "soft", invoice: str = "i-1") -> Recorded[Any]:
    return at(PaymentFailed(ACME, invoice, attempt, decline), after, stream=f"invoice-{invoice}")


def succeeded(after: timedelta, invoice: str = "i-1") -> Recorded[Any]:
    return at(PaymentSucceeded(ACME, invoice), after, stream=f"invoice-{invoice}")


def invoice_of(one: Commanded) -> str:
    return next(invoice for invoice in ("i-1", "i-2") if invoice in repr(one))


def of(kind: type, seen: Replay[Any]) -> list[Any]:
    return [command for command in commands(seen) if isinstance(command, kind)]


def test_a_soft_decline_is_retried_on_five_days_with_mails_then_suspended_then_canceled() -> None:
    first = unpaid(1, timedelta())
    for number, day in enumerate((1, 3, 5, 7, 14), 1):
        assert len(of(AttemptPayment, play(dunning, [first], day * DAY - timedelta(seconds=1)))) == number - 1
        seen = play(dunning, [first], day * DAY)
        assert len(of(AttemptPayment, seen)) == number
        assert of(AskMail, seen) == [AskMail(ACME, "payment failed")] * (number + 1)
    assert of(SuspendTenant, play(dunning, [first], 14 * DAY - timedelta(seconds=1))) == []
    assert of(SuspendTenant, play(dunning, [first], 14 * DAY)) == [SuspendTenant(UNPAID, NOON + 14 * DAY)]
    assert of(CancelSubscription, play(dunning, [first], 21 * DAY - timedelta(seconds=1))) == []
    end = of(CancelSubscription, play(dunning, [first], 99 * DAY))
    assert end == [CancelSubscription(ACME, "involuntary", UNPAID)]


def test_a_hard_decline_is_not_retried_and_another_method_is_asked_for() -> None:
    seen = play(dunning, [unpaid(1, timedelta(), "hard")], 99 * DAY)
    assert of(AttemptPayment, seen) == []
    assert of(AskMail, seen) == [AskMail(ACME, "new payment method")]
    assert len(of(SuspendTenant, seen)) == len(of(CancelSubscription, seen)) == 1


def test_a_retry_that_is_declined_for_good_is_the_last() -> None:
    seen = play(dunning, [unpaid(1, timedelta()), unpaid(2, DAY + MINUTE, "hard")], 99 * DAY)
    assert len(of(AttemptPayment, seen)) == 1
    assert of(AskMail, seen)[-1] == AskMail(ACME, "new payment method")


def test_a_payment_ends_it_and_lifts_the_suspension() -> None:
    seen = play(dunning, [unpaid(1, timedelta()), succeeded(4 * DAY)], 99 * DAY)
    assert (len(of(AttemptPayment, seen)), of(SuspendTenant, seen), of(ReactivateTenant, seen)) == (2, [], [])
    seen = play(dunning, [unpaid(1, timedelta()), succeeded(16 * DAY)], 99 * DAY)
    assert of(ReactivateTenant, seen) == [ReactivateTenant("invoice paid", NOON + 16 * DAY, UNPAID)]
    assert of(CancelSubscription, seen) == []


def test_who_suspended_the_tenant_lifts_that_and_nobody_else() -> None:
    """Another invoice was quicker: its process will do it, or it is not to be done yet."""
    events = [unpaid(1, timedelta()), succeeded(16 * DAY)]
    refused = replayed(
        dunning, events, rejects=lambda command: "tenant_suspended" if isinstance(command, SuspendTenant) else None
    )
    assert of(ReactivateTenant, refused) == []


def test_a_payment_after_the_cancellation_changes_nothing() -> None:
    canceled = play(dunning, [unpaid(1, timedelta())], 99 * DAY)
    assert play(dunning, [unpaid(1, timedelta()), succeeded(21 * DAY + MINUTE)], 99 * DAY) == canceled
    assert (len(of(CancelSubscription, canceled)), of(ReactivateTenant, canceled)) == (1, [])


def test_an_invoice_paid_at_once_is_no_process() -> None:
    assert play(dunning, [succeeded(timedelta())], 99 * DAY).states == {}


declines = st.lists(st.sampled_from(["soft", "hard"]), min_size=1, max_size=5)


@given(st.data(), declines, st.none() | st.integers(0, 23))
@settings(deadline=None, max_examples=150)
def test_dunning_again_and_again(draw: st.DataObject, kinds: list[Decline], paid_on: int | None) -> None:
    """All of one invoice lies in one stream, so only other invoices come between, and everything twice."""
    days = (0, 1, 3, 5, 7)
    invoice = [unpaid(number, days[number - 1] * DAY + MINUTE, kind) for number, kind in enumerate(kinds, 1)]
    if paid_on is not None:
        before = [one for one in invoice if one.recorded_at < NOON + paid_on * DAY]
        invoice = [*before, succeeded(paid_on * DAY)]
    repeated = [event for event in invoice for _ in range(draw.draw(st.integers(1, 3)))]
    expected = play(dunning, invoice, 30 * DAY)
    assert play(dunning, repeated, 30 * DAY) == expected
    again = draw.draw(st.lists(st.sampled_from(invoice), max_size=4))
    assert play(dunning, [*invoice, *again], 30 * DAY) == expected


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_dunning_of_two_invoices_in_any_order(draw: st.DataObject) -> None:
    one, other = ([unpaid(1, timedelta(), invoice=i), unpaid(2, MINUTE, "hard", invoice=i)] for i in ("i-1", "i-2"))
    same_commands(dunning, draw, 30 * DAY, one, other, key=invoice_of)


# ---- What they ask for.


def test_a_mail_that_was_skipped_is_over() -> None:
    asked, skipped = MailAsked("u-1", "welcome", 1), MailSkipped("u-1", "welcome", "user_deactivated")
    given_events(mailings, asked).when(NoteSkipped("user_deactivated")).then(skipped)
    given_events(mailings, asked, skipped).when(AskMail("u-1", "welcome", 1)).then_nothing()
