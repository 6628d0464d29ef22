"""The read models: who is who in a tenant, tenants at a glance, and sign-ins by day in a table for SQL."""

from dataclasses import dataclass, replace

from everlog import Fold, Recorded, SqlProjection, Transaction
from everlog.fieldnote.tenants import (
    Plan,
    Resources,
    TenantClosed,
    TenantCreated,
    TenantReactivated,
    TenantRenamed,
    TenantResourcesAllocated,
    TenantSettingsChanged,
    TenantStatus,
    TenantSuspended,
)
from everlog.fieldnote.users import (
    MailSent,
    Role,
    UserCreated,
    UserDeactivated,
    UserEmailChanged,
    UserInvited,
    UserLoggedIn,
    UserLoginFailed,
    UserProfileUpdated,
    UserReactivated,
    UserRoleChanged,
    UserStatus,
)


@dataclass(frozen=True)
class Entry:
    """One user, as others of the tenant see them."""

    name: str = ""
    email: str = ""
    role: Role = "viewer"
    status: UserStatus = "absent"
    welcomed: bool = False


directory = Fold("user-directory", initial=Entry())


@directory.on(UserInvited, key=lambda e: e.data.user_id)
def invited(entry: Entry, e: Recorded[UserInvited]) -> Entry:
    return replace(entry, email=e.data.email, role=e.data.role, status="invited")


@directory.on(UserCreated, key=lambda e: e.data.user_id)
def created(entry: Entry, e: Recorded[UserCreated]) -> Entry:
    return replace(entry, name=e.data.name, email=e.data.email, role=e.data.role, status="active")


@directory.on(UserProfileUpdated, key=lambda e: e.data.user_id)
def profile_updated(entry: Entry, e: Recorded[UserProfileUpdated]) -> Entry:
    return replace(entry, name=e.data.profile.display_name)


@directory.on(UserEmailChanged, key=lambda e: e.data.user_id)
def email_changed(entry: Entry, e: Recorded[UserEmailChanged]) -> Entry:
    return replace(entry, email=e.data.email)


@directory.on(UserRoleChanged, key=lambda e: e.data.user_id)
def role_changed(entry: Entry, e: Recorded[UserRoleChanged]) -> Entry:
    return replace(entry, role=e.data.after)


@directory.on(UserDeactivated, key=lambda e: e.data.user_id)
def deactivated(entry: Entry, e: Recorded[UserDeactivated]) -> Entry:
    return replace(entry, status="deactivated")


@directory.on(UserReactivated, key=lambda e: e.data.user_id)
def reactivated(entry: Entry, e: Recorded[UserReactivated]) -> Entry:
    return replace(entry, status="active")


@directory.on(MailSent, key=lambda e: e.data.user_id)
def mailed(entry: Entry, e: Recorded[MailSent]) -> Entry:
    return replace(entry, welcomed=entry.welcomed or e.data.mail == "welcome")


@dataclass(frozen=True)
class Overview:
    """One tenant at a glance."""

    name: str = ""
    plan: Plan = "starter"
    status: TenantStatus = "absent"
    invited: int = 0
    active: int = 0
    deactivated: int = 0
    welcomed: int = 0
    resources: Resources | None = None


overview = Fold("tenant-overview", initial=Overview())


@overview.on(TenantCreated, key=lambda e: e.tenant)
def tenant_created(tenant: Overview, e: Recorded[TenantCreated]) -> Overview:
    return replace(tenant, name=e.data.name, plan=e.data.settings.plan, status="active")


@overview.on(TenantRenamed, key=lambda e: e.tenant)
def tenant_renamed(tenant: Overview, e: Recorded[TenantRenamed]) -> Overview:
    return replace(tenant, name=e.data.after)


@overview.on(TenantSettingsChanged, key=lambda e: e.tenant)
def settings_changed(tenant: Overview, e: Recorded[TenantSettingsChanged]) -> Overview:
    return replace(tenant, plan=e.data.after.plan)


@overview.on(TenantSuspended, key=lambda e: e.tenant)
def tenant_suspended(tenant: Overview, e: Recorded[TenantSuspended]) -> Overview:
    return replace(tenant, status="suspended")


@overview.on(TenantReactivated, key=lambda e: e.tenant)
def tenant_reactivated(tenant: Overview, e: Recorded[TenantReactivated]) -> Overview:
    return replace(tenant, status="active")


@overview.on(TenantClosed, key=lambda e: e.tenant)
def tenant_closed(tenant: Overview, e: Recorded[TenantClosed]) -> Overview:
    return replace(tenant, status="closed")


@overview.on(TenantResourcesAllocated, key=lambda e: e.tenant)
def resources_allocated(tenant: Overview, e: Recorded[TenantResourcesAllocated]) -> Overview:
    return replace(tenant, resources=e.data.resources)


@overview.on(UserInvited, key=lambda e: e.tenant)
def one_invited(tenant: Overview, e: Recorded[UserInvited]) -> Overview:
    return replace(tenant, invited=tenant.invited + 1)


@overview.on(UserCreated, key=lambda e: e.tenant)
def one_created(tenant: Overview, e: Recorded[UserCreated]) -> Overview:
    came = 1 if e.data.method == "invitation" else 0
    return replace(tenant, invited=tenant.invited - came, active=tenant.active + 1)


@overview.on(UserDeactivated, key=lambda e: e.tenant)
def one_deactivated(tenant: Overview, e: Recorded[UserDeactivated]) -> Overview:
    return replace(tenant, active=tenant.active - 1, deactivated=tenant.deactivated + 1)


@overview.on(UserReactivated, key=lambda e: e.tenant)
def one_reactivated(tenant: Overview, e: Recorded[UserReactivated]) -> Overview:
    return replace(tenant, active=tenant.active + 1, deactivated=tenant.deactivated - 1)


@overview.on(MailSent, key=lambda e: e.tenant if e.data.mail == "welcome" else None)
def one_welcomed(tenant: Overview, e: Recorded[MailSent]) -> Overview:
    return replace(tenant, welcomed=tenant.welcomed + 1)


sign_ins = SqlProjection(
    "sign-ins",
    setup=[
        """CREATE TABLE IF NOT EXISTS fieldnote_sign_in
        (tenant TEXT, day TEXT, done INTEGER, failed INTEGER, PRIMARY KEY (tenant, day))"""
    ],
    tables=["fieldnote_sign_in"],
)
_COUNT = """INSERT INTO fieldnote_sign_in AS s VALUES (?, ?, ?, ?)
    ON CONFLICT (tenant, day) DO UPDATE SET done = s.done + excluded.done, failed = s.failed + excluded.failed"""


@sign_ins.on(UserLoggedIn)
def signed_in(e: Recorded[UserLoggedIn], tx: Transaction) -> None:
    tx.execute(_COUNT, (e.tenant, f"{e.data.at:%Y-%m-%d}", 1, 0))


@sign_ins.on(UserLoginFailed)
def sign_in_failed(e: Recorded[UserLoginFailed], tx: Transaction) -> None:
    tx.execute(_COUNT, (e.tenant, f"{e.data.at:%Y-%m-%d}", 0, 1))


READ_MODELS = (directory, overview, sign_ins)
