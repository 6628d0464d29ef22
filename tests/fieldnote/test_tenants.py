"""The rules of tenants."""

from datetime import UTC, datetime

import pytest

from everlog.fieldnote.tenants import (
    ChangeSettings,
    CloseTenant,
    CreateTenant,
    ReactivateTenant,
    RenameTenant,
    Settings,
    SuspendTenant,
    TenantClosed,
    TenantCommand,
    TenantCreated,
    TenantReactivated,
    TenantRenamed,
    TenantSettingsChanged,
    TenantSuspended,
    tenants,
)
from everlog.testing import given

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
SETTINGS = Settings("pro", 6, "Europe/Berlin", "de")
CREATE = CreateTenant("acme", "Acme", "DE", "EUR", "web", SETTINGS)
CREATED = TenantCreated("acme", "Acme", "DE", "EUR", "web", SETTINGS)
SUSPENDED = TenantSuspended("unpaid", NOW)
CLOSED = TenantClosed("on request", NOW)
EVERYTHING_ELSE: list[TenantCommand] = [RenameTenant("A"), ChangeSettings(Settings()), SuspendTenant("again", NOW)]


def test_a_tenant_is_created_with_its_settings() -> None:
    given(tenants).when(CREATE).then(CREATED)


def test_a_slug_belongs_to_who_took_it_first() -> None:
    given(tenants, CREATED).when(CREATE).then_rejected("slug_taken")


def test_a_slug_stays_taken_after_its_tenant_closed() -> None:
    given(tenants, CREATED, CLOSED).when(CREATE).then_rejected("slug_taken")


def test_nothing_can_be_done_to_a_tenant_that_is_not_there() -> None:
    for command in EVERYTHING_ELSE:
        given(tenants).when(command).then_rejected("tenant_absent")


def test_a_tenant_is_renamed() -> None:
    given(tenants, CREATED).when(RenameTenant("Acme Robotics")).then(TenantRenamed("Acme", "Acme Robotics"))


def test_the_same_name_again_changes_nothing() -> None:
    given(tenants, CREATED).when(RenameTenant("Acme")).then_nothing()


def test_a_change_of_settings_says_what_changed() -> None:
    bigger = Settings("pro", 20, "Europe/Berlin", "en")
    given(tenants, CREATED).when(ChangeSettings(bigger)).then(
        TenantSettingsChanged(("seats", "locale"), SETTINGS, bigger)
    )


def test_the_same_settings_again_change_nothing() -> None:
    given(tenants, CREATED).when(ChangeSettings(SETTINGS)).then_nothing()


def test_a_tenant_needs_a_seat() -> None:
    given(tenants, CREATED).when(ChangeSettings(Settings("pro", 0))).then_rejected("seats_missing")
    given(tenants).when(CreateTenant("a", "A", "DE", "EUR", "web", Settings("pro", 0))).then_rejected("seats_missing")


def test_a_suspension_needs_a_reason() -> None:
    given(tenants, CREATED).when(SuspendTenant("unpaid", NOW)).then(SUSPENDED)
    given(tenants, CREATED).when(SuspendTenant("", NOW)).then_rejected("reason_missing")


@pytest.mark.parametrize("command", EVERYTHING_ELSE, ids=lambda c: type(c).__name__)
def test_a_suspended_tenant_can_only_be_reactivated_or_closed(command: TenantCommand) -> None:
    given(tenants, CREATED, SUSPENDED).when(command).then_rejected("tenant_suspended")


def test_a_suspended_tenant_can_be_reactivated() -> None:
    back = TenantReactivated("paid", NOW)
    given(tenants, CREATED, SUSPENDED).when(ReactivateTenant("paid", NOW)).then(back)
    given(tenants, CREATED, SUSPENDED, back).when(RenameTenant("A")).then(TenantRenamed("Acme", "A"))


def test_who_names_a_suspension_reactivates_from_no_other() -> None:
    paid = ReactivateTenant("paid", NOW, suspended_for="unpaid")
    back, again = TenantReactivated("paid", NOW), TenantSuspended("fraud", NOW)
    given(tenants, CREATED, SUSPENDED).when(paid).then(back)
    given(tenants, CREATED, SUSPENDED, back, again).when(paid).then_rejected("suspended_otherwise")
    given(tenants, CREATED, SUSPENDED, back, again).when(ReactivateTenant("cleared", NOW)).then(
        TenantReactivated("cleared", NOW)
    )


def test_a_suspended_tenant_can_be_closed() -> None:
    given(tenants, CREATED, SUSPENDED).when(CloseTenant("on request", NOW)).then(CLOSED)


def test_an_active_tenant_cannot_be_reactivated() -> None:
    given(tenants, CREATED).when(ReactivateTenant("paid", NOW)).then_rejected("tenant_active")


@pytest.mark.parametrize(
    "command", [*EVERYTHING_ELSE, ReactivateTenant("paid", NOW), CloseTenant("x", NOW)], ids=lambda c: type(c).__name__
)
def test_closed_is_final(command: TenantCommand) -> None:
    given(tenants, CREATED, CLOSED).when(command).then_rejected("tenant_closed")
