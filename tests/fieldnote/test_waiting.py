"""Fieldnote's processes run by a worker, on both stores, with real deciders and letters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path

import pytest

from everlog import CommandRejected, LaneFilter, LaneOperator, Log, Session
from everlog.fieldnote.billing import (
    AttemptPayment,
    NoteDeclined,
    NotePaid,
    PaymentSucceeded,
    StartTrial,
    TrialExpired,
    invoices,
    subscriptions,
    trials,
)
from everlog.fieldnote.mailing import OPERATIONS, AskMail, MailDelivered, MailSkipped, mailings
from everlog.fieldnote.post import Outbox
from everlog.fieldnote.provisioning import NoteDone, StepAsked, StepUndone, TenantReady, steps
from everlog.fieldnote.tenants import CreateTenant, ReactivateTenant, Settings, SuspendTenant, tenants
from everlog.fieldnote.users import Role, UserCreated, UserDeactivated
from everlog.fieldnote.waiting import waiting
from tests.fieldnote.test_processes import ACME
from tests.postgres.server import empty_database
from tests.process.parts import DAY, MINUTE, NOON, Clock, quiet

both = pytest.mark.parametrize("store", ["sqlite", "postgres"])


@contextmanager
def fieldnote(store: str, folder: Path, clock: Clock) -> Iterator[Log]:
    platform = waiting(Outbox(folder / "outbox"))
    if store == "sqlite":
        with platform.open(f"sqlite:///{folder}/waiting.db", worker=True, lease_seconds=0.4, clock=clock) as log:
            yield log
    else:
        with empty_database() as url, platform.open(url, worker=True, lease_seconds=0.4, clock=clock) as log:
            yield log


def create(log: Log) -> Session:
    acme = log.tenant(ACME)
    acme.execute(tenants, ACME, CreateTenant(ACME, "Acme", "US", "USD", "ads", Settings()))
    return acme


def user(id: str, role: Role) -> UserCreated:
    return UserCreated(id, f"{id}@x.example", id.title(), role, None, "signup")


def addresses(folder: Path) -> list[str]:
    """Whom letters went to."""
    letters = (message_from_bytes(file.read_bytes()) for file in (folder / "outbox").glob("*.eml"))
    return [str(letter["To"]) for letter in letters]


def decline(log: Log, clock: Clock, days: int) -> None:
    """Invoice i-1 is charged, and declined whenever it is charged in so many days."""
    acme = log.tenant(ACME)
    acme.execute(invoices, "i-1", AttemptPayment(ACME, "i-1"))
    for day in range(days):
        clock.now = NOON + timedelta(days=day, minutes=1)
        quiet(log, clock)
        if acme.state(invoices, "i-1").status == "charging":
            acme.execute(invoices, "i-1", NoteDeclined("soft"))
            quiet(log, clock)


def pay(log: Log, clock: Clock) -> None:
    acme = log.tenant(ACME)
    acme.execute(invoices, "i-1", AttemptPayment(ACME, "i-1"))
    acme.execute(invoices, "i-1", NotePaid())
    quiet(log, clock)


@both
def test_a_tenant_is_provisioned_and_its_owner_is_welcomed_once(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = create(log)
        acme.append("user-u-1", UserCreated("u-1", "u@x.example", "Una", "owner", None, "signup"))
        quiet(log, clock)
        for name in ("owner", "resources", "workspace"):
            acme.execute(steps, f"{ACME}.{name}", NoteDone())
            quiet(log, clock)
        assert [e.data.step for e in acme.events(StepAsked)] == ["resources", "owner", "workspace"]
        assert len(list(acme.events(TenantReady))) == 1
        clock.now += 10 * MINUTE
        quiet(log, clock)
        clock.now += DAY
        quiet(log, clock)
        assert [e.data for e in acme.events(MailDelivered)] == [MailDelivered("u-1", "welcome")]
        [mail] = (tmp_path / "outbox").iterdir()
        assert "Una" in mail.read_text()


@both
def test_an_unpaid_tenant_is_suspended_and_one_that_pays_is_let_in_again(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = create(log)
        acme.append("user-u-1", user("u-1", "owner"))
        acme.execute(trials, ACME, StartTrial(ACME, NOON + 2 * DAY))
        decline(log, clock, days=16)
        state = acme.state(invoices, "i-1")
        assert (state.attempts, state.status) == (6, "open")
        assert acme.state(tenants, ACME).status == "suspended"
        assert len(list(acme.events(TrialExpired))) == 1
        pay(log, clock)
        assert acme.state(tenants, ACME).status == "active"
        clock.now = NOON + 30 * DAY
        quiet(log, clock)
        assert acme.state(tenants, ACME).status == "active"
        assert acme.state(subscriptions, ACME) is False


@both
def test_a_payment_does_not_lift_what_an_operator_suspended_for(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = create(log)
        decline(log, clock, days=16)
        acme.execute(tenants, ACME, ReactivateTenant("has until Friday", clock.now))
        acme.execute(tenants, ACME, SuspendTenant("fraud", clock.now))
        pay(log, clock)
        state = acme.state(tenants, ACME)
        assert (state.status, state.suspended_for) == ("suspended", "fraud")
        rejected = [e.data for e in acme.stream("dunning-i-1") if isinstance(e.data, CommandRejected)]
        assert [one.reason for one in rejected] == ["suspended_otherwise"]


@both
def test_who_pays_after_the_cancellation_stays_canceled_and_suspended(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = create(log)
        decline(log, clock, days=23)
        assert acme.state(subscriptions, ACME) is True
        pay(log, clock)
        assert len(list(acme.events(PaymentSucceeded))) == 1
        assert acme.state(subscriptions, ACME) is True
        assert acme.state(tenants, ACME).status == "suspended"
        assert list(LaneOperator(log.store, None).find(LaneFilter("dunning"))) == []


@both
def test_operations_are_told_of_a_tenant_that_could_not_be_made_ready(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = create(log)
        quiet(log, clock)
        clock.now += 15 * MINUTE
        quiet(log, clock)
        assert {e.data.step for e in acme.events(StepUndone)} == {"resources", "owner"}
        assert [e.data for e in acme.events(MailDelivered)] == [MailDelivered(OPERATIONS, "provisioning failed")]
    [letter] = (tmp_path / "outbox").iterdir()
    text = letter.read_text()
    assert "To: Operations <operations@fieldnote.example>" in text
    assert "Subject: Tenant acme could not be made ready" in text
    assert "everlog process show provisioning acme --tenant acme" in text


@both
def test_who_is_deactivated_gets_no_mail_and_it_is_noted(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = log.tenant(ACME)
        acme.append("user-ann", user("ann", "member"), UserDeactivated("ann", "left"))
        acme.execute(mailings, "ann.news", AskMail("ann", "news"))
        quiet(log, clock)
        assert [e.data for e in acme.events(MailSkipped)] == [MailSkipped("ann", "news", "user_deactivated")]
        assert list(acme.events(MailDelivered)) == []
    assert addresses(tmp_path) == []


@both
def test_a_tenants_mail_goes_to_an_owner_who_is_still_here(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = log.tenant(ACME)
        acme.append("user-ann", user("ann", "owner"), UserDeactivated("ann", "left"))
        acme.append("user-bob", user("bob", "member"))
        acme.append("user-cem", user("cem", "owner"))
        acme.execute(mailings, "acme.news", AskMail(ACME, "news"))
        quiet(log, clock)
    assert addresses(tmp_path) == ["Cem <cem@x.example>"]
