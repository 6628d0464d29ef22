"""What happens after a fact, beside the read models: two bundles of processors, each of which goes its own way.

A user is created: a welcome mail, an audit entry, permissions. A tenant is created: resources, a note to sales, an
audit entry. One that fails holds up neither the others nor, beyond one user or tenant, itself.
"""

from typing import Any
from zlib import crc32

from everlog import Processor, Recorded, Retry, Session, Transaction, processor
from everlog.fieldnote.post import Post, letter
from everlog.fieldnote.tenants import AllocateResources, Resources, TenantCreated, tenants
from everlog.fieldnote.users import (
    MailSent,
    UserCreated,
    UserDeactivated,
    UserEmailChanged,
    UserReactivated,
    UserRoleChanged,
    users,
)

SALES = "sales@fieldnote.example"
SHARDS = 4
REGIONS = {"US": "us-east", "DE": "eu-central"}


def welcome_mail(post: Post, retry: Retry) -> Processor[UserCreated | UserEmailChanged]:
    """Greets a new user, and everyone at a new address. The mail's id is the event's key: a repeat is the same mail."""

    @processor("welcome-mail", on=(UserCreated, UserEmailChanged), retry=retry)
    def send(e: Recorded[UserCreated | UserEmailChanged], session: Session) -> None:
        user, new = session.state(users, e.data.user_id), isinstance(e.data, UserCreated)
        if user.status == "deactivated" or not (new or e.data.email == user.email):
            return  # gone, or moved on, before we came to write
        subject = "Welcome to Fieldnote" if new else "Your new address at Fieldnote"
        text = f"Dear {user.profile.display_name},\n\nthis address now belongs to your account.\n"
        post.send(letter(e.key, e.recorded_at, user.profile.display_name, user.email, subject, text))
        sent = MailSent(user.id, "welcome" if new else "new address")
        session.acting(actor="post").append(f"mail-{user.id}", sent, request_id=f"mail {e.key}")

    return send


@processor("permissions", on=[UserCreated, UserRoleChanged, UserDeactivated, UserReactivated], inbox=True)
def permissions(
    e: Recorded[UserCreated | UserRoleChanged | UserDeactivated | UserReactivated], tx: Transaction
) -> None:
    """A table of who may do what, for a gateway that knows SQL and no events."""
    tx.execute(
        """CREATE TABLE IF NOT EXISTS fieldnote_permission
        (tenant TEXT, user_id TEXT, role TEXT, active INTEGER, PRIMARY KEY (tenant, user_id))"""
    )
    whose = (e.tenant, e.data.user_id)
    match e.data:
        case UserCreated(role=role):
            tx.execute("INSERT INTO fieldnote_permission VALUES (?, ?, ?, 1)", (*whose, role))
        case UserRoleChanged(after=role):
            tx.execute("UPDATE fieldnote_permission SET role = ? WHERE tenant = ? AND user_id = ?", (role, *whose))
        case UserDeactivated() | UserReactivated():
            active = int(isinstance(e.data, UserReactivated))
            tx.execute("UPDATE fieldnote_permission SET active = ? WHERE tenant = ? AND user_id = ?", (active, *whose))


@processor("user-audit", on=UserCreated, inbox=True)
def user_audit(e: Recorded[UserCreated], tx: Transaction) -> None:
    _audit(e, f"{e.data.role} {e.data.user_id}", tx)


@processor("resource-allocation", on=TenantCreated)
def resource_allocation(e: Recorded[TenantCreated], session: Session) -> None:
    region = REGIONS.get(e.data.country, "us-east")
    resources = Resources(region, crc32(e.data.slug.encode()) % SHARDS + 1)
    allocate = AllocateResources(resources)
    session.acting(actor="provisioning").execute(tenants, e.data.slug, allocate, request_id=f"allocate {e.key}")


def sales_notice(post: Post, retry: Retry) -> Processor[TenantCreated]:
    @processor("sales-notice", on=TenantCreated, retry=retry)
    def send(e: Recorded[TenantCreated]) -> None:
        text = f"{e.data.name} ({e.data.country}) came by {e.data.channel}.\n"
        post.send(letter(e.key, e.recorded_at, "Sales", SALES, f"New customer: {e.data.name}", text))

    return send


@processor("tenant-audit", on=TenantCreated, inbox=True)
def tenant_audit(e: Recorded[TenantCreated], tx: Transaction) -> None:
    _audit(e, f"by {e.data.channel}", tx)


def reactions(post: Post, retry: Retry) -> list[Processor[Any]]:
    """All of them. `retry` is for those that need the world: how often and how soon they try again."""
    of_users: list[Processor[Any]] = [welcome_mail(post, retry), user_audit, permissions]
    of_tenants: list[Processor[Any]] = [resource_allocation, sales_notice(post, retry), tenant_audit]
    return [*of_users, *of_tenants]


def _audit(e: Recorded[object], details: str, tx: Transaction) -> None:
    """No key keeps a row from being there twice; that it is there once is the inbox's doing."""
    tx.execute("CREATE TABLE IF NOT EXISTS fieldnote_audit (tenant TEXT, position BIGINT, who TEXT, what TEXT)")
    row = (e.tenant, e.position, e.actor, f"{e.type}: {details}")
    tx.execute("INSERT INTO fieldnote_audit VALUES (?, ?, ?, ?)", row)
