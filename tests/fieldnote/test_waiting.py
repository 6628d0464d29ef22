"""Fieldnote's processes run by a worker, on both stores, with real deciders and letters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from everlog import Log
from everlog.fieldnote.billing import (
    AttemptPayment,
    NoteDeclined,
    NotePaid,
    StartTrial,
    TrialExpired,
    invoices,
    trials,
)
from everlog.fieldnote.mailing import MailDelivered
from everlog.fieldnote.post import Outbox
from everlog.fieldnote.provisioning import NoteDone, StepAsked, TenantReady, steps
from everlog.fieldnote.tenants import CreateTenant, Settings, tenants
from everlog.fieldnote.users import UserCreated
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


@both
def test_a_tenant_is_provisioned_and_its_owner_is_welcomed_once(store: str, tmp_path: Path) -> None:
    clock = Clock()
    with fieldnote(store, tmp_path, clock) as log:
        acme = log.tenant(ACME)
        acme.execute(tenants, ACME, CreateTenant(ACME, "Acme", "US", "USD", "ads", Settings()))
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
        acme = log.tenant(ACME)
        acme.execute(tenants, ACME, CreateTenant(ACME, "Acme", "US", "USD", "ads", Settings()))
        acme.append("user-u-1", UserCreated("u-1", "u@x.example", "Una", "owner", None, "signup"))
        acme.execute(trials, ACME, StartTrial(ACME, NOON + 2 * DAY))
        acme.execute(invoices, "i-1", AttemptPayment(ACME, "i-1"))
        for day in range(16):
            clock.now = NOON + timedelta(days=day, minutes=1)
            quiet(log, clock)
            if acme.state(invoices, "i-1").status == "charging":
                acme.execute(invoices, "i-1", NoteDeclined("soft"))
                quiet(log, clock)
        state = acme.state(invoices, "i-1")
        assert (state.attempts, state.status) == (6, "open")
        assert acme.state(tenants, ACME).status == "suspended"
        assert len(list(acme.events(TrialExpired))) == 1
        acme.execute(invoices, "i-1", AttemptPayment(ACME, "i-1"))
        acme.execute(invoices, "i-1", NotePaid())
        clock.now = NOON + 30 * DAY
        quiet(log, clock)
        assert acme.state(tenants, ACME).status == "active"
