"""Tenants, the customers of Fieldnote; written as an `Aggregate`: one method for each command and each event.

A tenant's slug is its id and names its share of the log. That alone keeps slugs unique and unchanging: a stream has one
first event, however many try to write it.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Literal

from everlog import Aggregate, Rejected, applies, decides, event

Plan = Literal["starter", "pro", "enterprise"]
TenantStatus = Literal["absent", "active", "suspended", "closed"]


@dataclass(frozen=True)
class Settings:
    """What a tenant may change."""

    plan: Plan = "starter"
    seats: int = 5
    tz: str = "UTC"
    locale: str = "en"


@event("tenant.created", tags=["tenant:{slug}"])
class TenantCreated:
    slug: str
    name: str
    country: str
    currency: str
    channel: str
    settings: Settings


@event("tenant.renamed")
class TenantRenamed:
    before: str
    after: str


@event("tenant.settings_changed")
class TenantSettingsChanged:
    changed: tuple[str, ...]
    before: Settings
    after: Settings


@dataclass(frozen=True)
class Resources:
    """Where a tenant's data lives."""

    region: str
    shard: int


@event("tenant.resources_allocated")
class TenantResourcesAllocated:
    resources: Resources


@event("tenant.suspended")
class TenantSuspended:
    reason: str
    effective_at: datetime


@event("tenant.reactivated")
class TenantReactivated:
    reason: str
    effective_at: datetime


@event("tenant.closed")
class TenantClosed:
    reason: str
    effective_at: datetime


TenantEvent = (
    TenantCreated
    | TenantRenamed
    | TenantSettingsChanged
    | TenantResourcesAllocated
    | TenantSuspended
    | TenantReactivated
    | TenantClosed
)


@dataclass(frozen=True)
class CreateTenant:
    slug: str
    name: str
    country: str
    currency: str
    channel: str
    settings: Settings


@dataclass(frozen=True)
class RenameTenant:
    name: str


@dataclass(frozen=True)
class ChangeSettings:
    settings: Settings


@dataclass(frozen=True)
class AllocateResources:
    resources: Resources


@dataclass(frozen=True)
class SuspendTenant:
    reason: str
    now: datetime


@dataclass(frozen=True)
class ReactivateTenant:
    """With `suspended_for`, only a tenant that is suspended for that very reason."""

    reason: str
    now: datetime
    suspended_for: str | None = None


@dataclass(frozen=True)
class CloseTenant:
    reason: str
    now: datetime


TenantCommand = (
    CreateTenant | RenameTenant | ChangeSettings | AllocateResources | SuspendTenant | ReactivateTenant | CloseTenant
)


class Tenant(Aggregate[TenantCommand, TenantEvent]):
    """Closed is final; a suspended tenant can only be reactivated or closed."""

    slug: str = ""
    name: str = ""
    status: TenantStatus = "absent"
    suspended_for: str = ""
    settings: Settings = Settings()
    resources: Resources | None = None

    @decides(CreateTenant)
    def create(self, command: CreateTenant) -> list[TenantCreated]:
        if self.status != "absent":
            raise Rejected("slug_taken", slug=command.slug)
        _must_hold_seats(command.settings)
        return [
            TenantCreated(
                slug=command.slug,
                name=command.name,
                country=command.country,
                currency=command.currency,
                channel=command.channel,
                settings=command.settings,
            )
        ]

    @decides(RenameTenant)
    def rename(self, command: RenameTenant) -> list[TenantRenamed]:
        self._must_be("active")
        return [TenantRenamed(self.name, command.name)] if command.name != self.name else []

    @decides(ChangeSettings)
    def change_settings(self, command: ChangeSettings) -> list[TenantSettingsChanged]:
        self._must_be("active")
        _must_hold_seats(command.settings)
        before, after = self.settings, command.settings
        changed = tuple(f.name for f in fields(Settings) if getattr(before, f.name) != getattr(after, f.name))
        return [TenantSettingsChanged(changed, before, after)] if changed else []

    @decides(AllocateResources)
    def allocate_resources(self, command: AllocateResources) -> list[TenantResourcesAllocated]:
        """Once; and who is gone by now needs none."""
        wanted = self.status in ("active", "suspended") and self.resources is None
        return [TenantResourcesAllocated(command.resources)] if wanted else []

    @decides(SuspendTenant)
    def suspend(self, command: SuspendTenant) -> list[TenantSuspended]:
        self._must_be("active")
        if not command.reason:
            raise Rejected("reason_missing")
        return [TenantSuspended(command.reason, command.now)]

    @decides(ReactivateTenant)
    def reactivate(self, command: ReactivateTenant) -> list[TenantReactivated]:
        self._must_be("suspended")
        if command.suspended_for not in (None, self.suspended_for):
            raise Rejected("suspended_otherwise", slug=self.slug, suspended_for=self.suspended_for)
        return [TenantReactivated(command.reason, command.now)]

    @decides(CloseTenant)
    def close(self, command: CloseTenant) -> list[TenantClosed]:
        self._must_be("active", "suspended")
        return [TenantClosed(command.reason, command.now)]

    @applies(TenantCreated)
    def created(self, event: TenantCreated) -> "Tenant":
        return replace(self, slug=event.slug, name=event.name, status="active", settings=event.settings)

    @applies(TenantRenamed)
    def renamed(self, event: TenantRenamed) -> "Tenant":
        return replace(self, name=event.after)

    @applies(TenantSettingsChanged)
    def settings_changed(self, event: TenantSettingsChanged) -> "Tenant":
        return replace(self, settings=event.after)

    @applies(TenantResourcesAllocated)
    def resources_allocated(self, event: TenantResourcesAllocated) -> "Tenant":
        return replace(self, resources=event.resources)

    @applies(TenantSuspended)
    def suspended(self, event: TenantSuspended) -> "Tenant":
        return replace(self, status="suspended", suspended_for=event.reason)

    @applies(TenantReactivated)
    def reactivated(self, event: TenantReactivated) -> "Tenant":
        return replace(self, status="active", suspended_for="")

    @applies(TenantClosed)
    def closed(self, event: TenantClosed) -> "Tenant":
        return replace(self, status="closed")

    def _must_be(self, *allowed: TenantStatus) -> None:
        if self.status not in allowed:
            raise Rejected(f"tenant_{self.status}", slug=self.slug)


def _must_hold_seats(settings: Settings) -> None:
    if settings.seats < 1:
        raise Rejected("seats_missing", seats=settings.seats)


tenants = Tenant.decider("tenant")
