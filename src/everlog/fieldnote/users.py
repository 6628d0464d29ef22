"""Users, the people of a tenant; written as a `Decider`: `decide` says what happens, `evolve` what it leads to.

Both are pure. What a rule needs to know of the world comes with the command: `now` is an argument, never a clock.
Who may join, in which role and under which address concerns several users at once: see `team`.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Literal

from everlog import Decider, Rejected, event

Role = Literal["owner", "admin", "member", "viewer"]
UserStatus = Literal["absent", "invited", "active", "deactivated"]

FAILURES, WITHIN, LOCKED_FOR = 5, timedelta(minutes=15), timedelta(minutes=15)


@dataclass(frozen=True)
class Preferences:
    locale: str = "en"
    tz: str = "UTC"
    theme: Literal["light", "dark"] = "light"
    notifications: bool = True


@dataclass(frozen=True)
class Profile:
    display_name: str = ""
    first_name: str = ""
    last_name: str = ""
    preferences: Preferences = Preferences()


@event("user.invited", tags=["user:{user_id}"])
class UserInvited:
    user_id: str
    email: str
    role: Role
    invited_by: str
    token_ref: str
    expires_at: datetime


@event("user.invitation_accepted", tags=["user:{user_id}"])
class InvitationAccepted:
    user_id: str
    token_ref: str


@event("user.created", tags=["user:{user_id}"])
class UserCreated:
    user_id: str
    email: str
    name: str
    role: Role
    invited_by: str | None
    method: str


@event("user.profile_updated", version=3, tags=["user:{user_id}"])
class UserProfileUpdated:
    """Version 1 knew names and an e-mail address, version 2 preferences too; since version 3 an address that changes
    is an event of its own. `upcasters` has the way from there to here."""

    user_id: str
    profile: Profile
    updated_fields: tuple[str, ...]


@event("user.email_changed", tags=["user:{user_id}"])
class UserEmailChanged:
    user_id: str
    email: str


@event("user.email_verified", tags=["user:{user_id}"])
class UserEmailVerified:
    user_id: str
    email: str


@event("user.role_changed", tags=["user:{user_id}"])
class UserRoleChanged:
    user_id: str
    before: Role
    after: Role
    reason: str


@event("user.deactivated", tags=["user:{user_id}"])
class UserDeactivated:
    user_id: str
    reason: str


@event("user.reactivated", tags=["user:{user_id}"])
class UserReactivated:
    user_id: str
    reason: str


@event("user.logged_in", tags=["user:{user_id}"])
class UserLoggedIn:
    user_id: str
    method: str
    mfa: bool
    at: datetime


@event("user.login_failed", tags=["user:{user_id}"])
class UserLoginFailed:
    user_id: str
    reason: str
    at: datetime


@event("mail.sent", tags=["user:{user_id}"])
class MailSent:
    """In a stream of its own, because no rule about a user rests on it."""

    user_id: str
    mail: Literal["welcome", "new address"]


UserEvent = (
    UserInvited
    | InvitationAccepted
    | UserCreated
    | UserProfileUpdated
    | UserEmailChanged
    | UserEmailVerified
    | UserRoleChanged
    | UserDeactivated
    | UserReactivated
    | UserLoggedIn
    | UserLoginFailed
)


@dataclass(frozen=True)
class AcceptInvitation:
    name: str
    now: datetime


@dataclass(frozen=True)
class UpdateProfile:
    profile: Profile


@dataclass(frozen=True)
class VerifyEmail:
    pass


@dataclass(frozen=True)
class LogIn:
    method: str
    mfa: bool
    now: datetime


@dataclass(frozen=True)
class FailLogIn:
    reason: str
    now: datetime


UserCommand = AcceptInvitation | UpdateProfile | VerifyEmail | LogIn | FailLogIn


@dataclass(frozen=True)
class User:
    id: str = ""
    status: UserStatus = "absent"
    role: Role = "viewer"
    email: str = ""
    email_verified: bool = False
    profile: Profile = Profile()
    invitation: UserInvited | None = None
    logins: int = 0
    last_login: datetime | None = None
    failed_logins: tuple[datetime, ...] = ()
    locked_until: datetime | None = None


def decide(command: UserCommand, user: User) -> list[UserEvent]:
    if isinstance(command, AcceptInvitation):
        return _accept(command, user)
    if user.status != "active":
        raise Rejected(f"user_{user.status}", user=user.id)
    match command:
        case UpdateProfile(profile):
            changed = _changed(user.profile, profile)
            return [UserProfileUpdated(user.id, profile, changed)] if changed else []
        case VerifyEmail():
            return [] if user.email_verified else [UserEmailVerified(user.id, user.email)]
        case LogIn(method, mfa, now):
            _must_not_be_locked(user, now)
            return [UserLoggedIn(user.id, method, mfa, now)]
        case FailLogIn(reason, now):
            _must_not_be_locked(user, now)
            return [UserLoginFailed(user.id, reason, now)]


def evolve(user: User, event: UserEvent) -> User:
    match event:
        case UserInvited():
            return replace(
                user, id=event.user_id, status="invited", role=event.role, email=event.email, invitation=event
            )
        case InvitationAccepted():
            return replace(user, invitation=None, email_verified=True)  # the token went to that address
        case UserCreated():
            profile = replace(user.profile, display_name=event.name)
            return replace(user, id=event.user_id, status="active", role=event.role, email=event.email, profile=profile)
        case UserProfileUpdated():
            return replace(user, profile=event.profile)
        case UserEmailChanged():
            return replace(user, email=event.email, email_verified=user.email_verified and event.email == user.email)
        case UserEmailVerified():
            return replace(user, email_verified=True)
        case UserRoleChanged():
            return replace(user, role=event.after)
        case UserDeactivated():
            return replace(user, status="deactivated")
        case UserReactivated():
            return replace(user, status="active")
        case UserLoggedIn():
            return replace(user, logins=user.logins + 1, last_login=event.at, failed_logins=(), locked_until=None)
        case UserLoginFailed():
            return _after_failure(user, event.at)


users = Decider("user", initial=User(), decide=decide, evolve=evolve, snapshot_every=20)


def _accept(command: AcceptInvitation, user: User) -> list[UserEvent]:
    invitation = user.invitation
    if invitation is None:
        raise Rejected("not_invited", user=user.id)
    if command.now >= invitation.expires_at:
        raise Rejected("invitation_expired", user=user.id, expired_at=invitation.expires_at.isoformat())
    return [
        InvitationAccepted(user.id, invitation.token_ref),
        UserCreated(user.id, user.email, command.name, user.role, invitation.invited_by, "invitation"),
    ]


def _changed(before: Profile, after: Profile) -> tuple[str, ...]:
    return tuple(f.name for f in fields(Profile) if getattr(before, f.name) != getattr(after, f.name))


def _must_not_be_locked(user: User, now: datetime) -> None:
    if user.locked_until is not None and now < user.locked_until:
        raise Rejected("locked", until=user.locked_until.isoformat())


def _after_failure(user: User, at: datetime) -> User:
    """Five failures within a quarter of an hour lock the account for the next."""
    recent = (*[one for one in user.failed_logins if at - one < WITHIN], at)
    if len(recent) < FAILURES:
        return replace(user, failed_logins=recent)
    return replace(user, failed_logins=(), locked_until=at + LOCKED_FOR)
