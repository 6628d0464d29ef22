"""Rules about all users of a tenant at once, which no single stream can keep: a dynamic consistency boundary.

`decide` rests on every event of the tenant that bears on its team, whatever stream it lies in. What it decides is
appended under the condition that no further one has come in meanwhile: of two owners who demote each other in the same
moment, one is told no.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import get_args
from uuid import UUID, uuid5

from everlog import AppendConditionFailed, Criteria, IdempotencyConflict, Recorded, Rejected, Session
from everlog.fieldnote.tenants import TenantCreated, TenantSettingsChanged
from everlog.fieldnote.users import (
    Role,
    UserCreated,
    UserDeactivated,
    UserEmailChanged,
    UserInvited,
    UserReactivated,
    UserRoleChanged,
    UserStatus,
    users,
)

VALID_FOR = timedelta(days=7)

TeamEvent = (
    TenantCreated
    | TenantSettingsChanged
    | UserInvited
    | UserCreated
    | UserEmailChanged
    | UserRoleChanged
    | UserDeactivated
    | UserReactivated
)
EVENTS: tuple[type[TeamEvent], ...] = get_args(TeamEvent)
BOUNDARY = Criteria(*EVENTS)

_REQUESTS = UUID("0f1e1d00-7e00-4000-8000-000000000001")
_ATTEMPTS = 25


@dataclass(frozen=True)
class SignUp:
    """The first user of a tenant; everyone after is invited."""

    user_id: str
    email: str
    name: str


@dataclass(frozen=True)
class Invite:
    user_id: str
    email: str
    role: Role
    invited_by: str
    now: datetime


@dataclass(frozen=True)
class ChangeEmail:
    user_id: str
    email: str


@dataclass(frozen=True)
class ChangeRole:
    user_id: str
    role: Role
    reason: str


@dataclass(frozen=True)
class Deactivate:
    user_id: str
    reason: str


@dataclass(frozen=True)
class Reactivate:
    user_id: str
    reason: str


TeamCommand = SignUp | Invite | ChangeEmail | ChangeRole | Deactivate | Reactivate


@dataclass(frozen=True)
class Member:
    role: Role
    status: UserStatus


@dataclass(frozen=True)
class Team:
    """Who is in it, how many may be, and whose each address is: it stays with its first user, for safety's sake."""

    seats: int = 0
    members: Mapping[str, Member] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    def seated(self) -> int:
        return sum(member.status != "deactivated" for member in self.members.values())

    def owners(self) -> set[str]:
        return {id for id, member in self.members.items() if (member.role, member.status) == ("owner", "active")}


def execute(session: Session, command: TeamCommand, *, request_id: str) -> int:
    """Read, decide, append under the boundary; read again when somebody else came first. The same request is
    executed once: its event is looked for in the very history the decision rests on. Gives the event's position, or
    that of the history which asked for none."""
    id = uuid5(_REQUESTS, f"{session.tenant}/{request_id}")
    attempts = _ATTEMPTS
    while True:
        history: list[Recorded[TeamEvent]] = list(session.events(*EVENTS))
        for recorded in history:
            if recorded.id == id:
                return recorded.position
        team = reduce(evolve, (recorded.data for recorded in history), Team())
        event = decide(command, team)
        after = history[-1].position if history else 0
        if event is None:
            return after
        try:
            stream = users.stream(event.user_id)
            return session.append(stream, event, unless=BOUNDARY, after=after, ids=[id]).position
        except (AppendConditionFailed, IdempotencyConflict):
            attempts -= 1
            if not attempts:
                raise


def decide(
    command: TeamCommand, team: Team
) -> UserCreated | UserInvited | UserEmailChanged | UserRoleChanged | UserDeactivated | UserReactivated | None:
    match command:
        case SignUp(user_id, email, name):
            if team.members:
                raise Rejected("invitation_needed", user=user_id)
            _must_have_seat(team)
            return UserCreated(user_id, email.lower(), name, "owner", None, "signup")
        case Invite(user_id, email, role, invited_by, now):
            if user_id in team.members:
                raise Rejected("user_exists", user=user_id)
            _must_be_free(team, email, user_id)
            _must_have_seat(team)
            return UserInvited(user_id, email.lower(), role, invited_by, f"invitation-{user_id}", now + VALID_FOR)
        case ChangeEmail(user_id, email):
            _member(team, user_id, "active")
            _must_be_free(team, email, user_id)
            return UserEmailChanged(user_id, email.lower())
        case ChangeRole(user_id, role, reason):
            member = _member(team, user_id, "active")
            if role == member.role:
                return None
            _must_leave_an_owner(team, user_id)
            return UserRoleChanged(user_id, member.role, role, reason)
        case Deactivate(user_id, reason):
            _member(team, user_id, "active")
            _must_leave_an_owner(team, user_id)
            return UserDeactivated(user_id, reason)
        case Reactivate(user_id, reason):
            _member(team, user_id, "deactivated")
            _must_have_seat(team)
            return UserReactivated(user_id, reason)


def evolve(team: Team, event: TeamEvent) -> Team:
    match event:
        case TenantCreated(settings=settings) | TenantSettingsChanged(after=settings):
            return replace(team, seats=settings.seats)
        case UserInvited(user_id, email, role):
            return _with_address(_with(team, user_id, Member(role, "invited")), email, user_id)
        case UserCreated(user_id, email, _, role):
            return _with_address(_with(team, user_id, Member(role, "active")), email, user_id)
        case UserEmailChanged(user_id, email):
            return _with_address(team, email, user_id)
        case UserRoleChanged(user_id, _, role):
            return _with(team, user_id, replace(team.members[user_id], role=role))
        case UserDeactivated(user_id):
            return _with(team, user_id, replace(team.members[user_id], status="deactivated"))
        case UserReactivated(user_id):
            return _with(team, user_id, replace(team.members[user_id], status="active"))


def _member(team: Team, user_id: str, status: UserStatus) -> Member:
    member = team.members.get(user_id)
    if member is None or member.status != status:
        raise Rejected(f"user_{member.status if member else 'absent'}", user=user_id)
    return member


def _must_be_free(team: Team, email: str, user_id: str) -> None:
    if team.addresses.get(email.lower(), user_id) != user_id:
        raise Rejected("email_taken", user=user_id)


def _must_have_seat(team: Team) -> None:
    if team.seated() >= team.seats:
        raise Rejected("no_seat_left", seats=team.seats)


def _must_leave_an_owner(team: Team, user_id: str) -> None:
    if team.owners() == {user_id}:
        raise Rejected("last_owner", user=user_id)


def _with(team: Team, user_id: str, member: Member) -> Team:
    return replace(team, members={**team.members, user_id: member})


def _with_address(team: Team, email: str, user_id: str) -> Team:
    return replace(team, addresses={**team.addresses, email.lower(): user_id})
