"""The rules that concern several users of a tenant, and that they hold against those who come in between."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest

from everlog import Rejected, Session
from everlog.fieldnote import team
from everlog.fieldnote.app import platform
from everlog.fieldnote.team import (
    ChangeEmail,
    ChangeRole,
    Deactivate,
    Invite,
    Reactivate,
    SignUp,
    Team,
    TeamCommand,
    TeamEvent,
)
from everlog.fieldnote.tenants import CreateTenant, Settings, TenantCreated, TenantSettingsChanged, tenants
from everlog.fieldnote.users import (
    Role,
    UserCreated,
    UserDeactivated,
    UserEmailChanged,
    UserInvited,
    UserReactivated,
    UserRoleChanged,
    users,
)

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
SETTINGS = Settings("pro", 3)
ACME = TenantCreated("acme", "Acme", "DE", "EUR", "web", SETTINGS)
CREATE = CreateTenant("acme", "Acme", "DE", "EUR", "web", SETTINGS)
ADA = UserCreated("u-1", "ada@example.org", "Ada", "owner", None, "signup")
BEN = UserCreated("u-2", "ben@example.org", "Ben", "member", "u-1", "invitation")


def decided(command: TeamCommand, *history: TeamEvent) -> TeamEvent | None:
    return team.decide(command, reduce(team.evolve, history, Team()))


def refused(command: TeamCommand, *history: TeamEvent) -> str:
    with pytest.raises(Rejected) as no:
        decided(command, *history)
    return no.value.reason


def invite(user_id: str, email: str, role: Role = "member") -> Invite:
    return Invite(user_id, email, role, "u-1", NOW)


def test_the_first_user_signs_up_and_owns_the_tenant() -> None:
    assert decided(SignUp("u-1", "Ada@Example.org", "Ada"), ACME) == ADA


def test_everyone_after_the_first_needs_an_invitation() -> None:
    assert refused(SignUp("u-2", "ben@example.org", "Ben"), ACME, ADA) == "invitation_needed"


def test_an_invitation_is_good_for_a_week() -> None:
    assert decided(invite("u-2", "Ben@example.org"), ACME, ADA) == UserInvited(
        "u-2", "ben@example.org", "member", "u-1", "invitation-u-2", NOW + timedelta(days=7)
    )


def test_nobody_is_invited_twice() -> None:
    assert refused(invite("u-2", "other@example.org"), ACME, ADA, BEN) == "user_exists"


def test_an_address_is_used_by_one_user_however_it_is_written() -> None:
    assert refused(invite("u-3", "BEN@example.org"), ACME, ADA, BEN) == "email_taken"
    assert refused(ChangeEmail("u-1", "Ben@example.org"), ACME, ADA, BEN) == "email_taken"


def test_an_address_that_somebody_left_stays_theirs() -> None:
    moved = UserEmailChanged("u-2", "b.okafor@example.org")
    assert refused(ChangeEmail("u-1", "ben@example.org"), ACME, ADA, BEN, moved) == "email_taken"
    assert decided(ChangeEmail("u-2", "ben@example.org"), ACME, ADA, BEN, moved) == UserEmailChanged(
        "u-2", "ben@example.org"
    )


def test_the_last_owner_can_neither_be_demoted_nor_deactivated() -> None:
    assert refused(ChangeRole("u-1", "admin", "tired"), ACME, ADA, BEN) == "last_owner"
    assert refused(Deactivate("u-1", "tired"), ACME, ADA, BEN) == "last_owner"


def test_an_owner_may_go_when_another_one_stays() -> None:
    promoted = UserRoleChanged("u-2", "member", "owner", "takes over")
    assert decided(ChangeRole("u-1", "admin", "tired"), ACME, ADA, BEN, promoted) == UserRoleChanged(
        "u-1", "owner", "admin", "tired"
    )
    assert decided(Deactivate("u-1", "tired"), ACME, ADA, BEN, promoted) == UserDeactivated("u-1", "tired")


def test_an_owner_who_has_not_accepted_yet_is_no_owner() -> None:
    invited = UserInvited("u-3", "carla@example.org", "owner", "u-1", "invitation-u-3", NOW)
    assert refused(ChangeRole("u-1", "admin", "tired"), ACME, ADA, invited) == "last_owner"


def test_the_same_role_again_changes_nothing() -> None:
    assert decided(ChangeRole("u-1", "owner", "as before"), ACME, ADA) is None


def test_there_are_never_more_users_than_seats() -> None:
    invited = UserInvited("u-3", "carla@example.org", "viewer", "u-1", "invitation-u-3", NOW)
    more_seats = TenantSettingsChanged(("seats",), SETTINGS, Settings("pro", 4))
    fourth = invite("u-4", "d@example.org")
    assert refused(fourth, ACME, ADA, BEN, invited) == "no_seat_left"
    assert isinstance(decided(fourth, ACME, ADA, BEN, invited, more_seats), UserInvited)


def test_who_is_deactivated_leaves_a_seat_and_needs_one_to_come_back() -> None:
    gone = UserDeactivated("u-2", "left")
    full = [UserCreated(f"u-{n}", f"{n}@example.org", "N", "viewer", "u-1", "invitation") for n in (3, 4)]
    assert isinstance(decided(invite("u-3", "c@example.org"), ACME, ADA, BEN, gone), UserInvited)
    assert decided(Reactivate("u-2", "back"), ACME, ADA, BEN, gone) == UserReactivated("u-2", "back")
    assert refused(Reactivate("u-2", "back"), ACME, ADA, BEN, gone, *full) == "no_seat_left"


@pytest.mark.parametrize("command", [ChangeEmail("u-9", "x@example.org"), ChangeRole("u-9", "admin", "x")])
def test_who_was_never_heard_of_can_do_nothing(command: TeamCommand) -> None:
    assert refused(command, ACME, ADA) == "user_absent"


@pytest.fixture
def acme() -> Iterator[Session]:
    with platform.open("memory:") as log:
        session = log.tenant("acme")
        session.execute(tenants, "acme", CREATE)
        team.execute(session, SignUp("u-1", "ada@example.org", "Ada"), request_id="sign up")
        yield session


def test_a_request_is_executed_once(acme: Session) -> None:
    for _ in range(2):
        team.execute(acme, ChangeEmail("u-1", "a@example.org"), request_id="move")
    team.execute(acme, ChangeEmail("u-1", "ada@example.org"), request_id="move back")
    team.execute(acme, ChangeEmail("u-1", "a@example.org"), request_id="move")
    assert acme.state(users, "u-1").email == "ada@example.org"
    assert len(list(acme.events(UserEmailChanged))) == 2


def test_two_tenants_may_use_one_address_and_one_request_id(acme: Session) -> None:
    with platform.open("memory:") as log:
        for name in ("acme", "globex"):
            session = log.tenant(name)
            session.execute(tenants, name, CreateTenant(name, name, "DE", "EUR", "web", SETTINGS))
            team.execute(session, SignUp("u-1", "ada@example.org", "Ada"), request_id="sign up")
            assert session.state(users, "u-1").status == "active"


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: list[TeamCommand], session: Session) -> None:
    """Let others act after the next decision was made and before it is appended."""
    decide = team.decide

    def decide_slowly(command: TeamCommand, state: Team) -> object:
        event = decide(command, state)
        if act:
            other = act.pop()
            team.execute(session, other, request_id=f"meanwhile {other}")
        return event

    monkeypatch.setattr(team, "decide", decide_slowly)


def test_two_owners_who_demote_each_other_at_once_do_not_both_succeed(
    acme: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.append(users.stream("u-2"), BEN)
    team.execute(acme, ChangeRole("u-2", "owner", "takes over"), request_id="promote")
    meanwhile(monkeypatch, [ChangeRole("u-2", "member", "by Ada")], acme)
    with pytest.raises(Rejected, match="last_owner"):
        team.execute(acme, ChangeRole("u-1", "member", "by Ben"), request_id="demote")
    assert [acme.state(users, id).role for id in ("u-1", "u-2")] == ["owner", "member"]


def test_two_who_want_an_address_at_once_do_not_both_get_it(acme: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, [invite("u-3", "new@example.org")], acme)
    with pytest.raises(Rejected, match="email_taken"):
        team.execute(acme, ChangeEmail("u-1", "new@example.org"), request_id="move")


def test_what_concerns_others_is_decided_again_and_stored(acme: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, [invite("u-3", "carla@example.org")], acme)
    team.execute(acme, ChangeEmail("u-1", "a@example.org"), request_id="move")
    assert acme.state(users, "u-1").email == "a@example.org"


def test_a_request_that_its_own_double_overtook_is_done(acme: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes run the same request: the slower one finds it done, whatever has happened since."""
    decide = team.decide

    def overtaken(command: TeamCommand, state: Team) -> object:
        event = decide(command, state)
        monkeypatch.setattr(team, "decide", decide)
        team.execute(acme, command, request_id="move")
        team.execute(acme, ChangeEmail("u-1", "ada@example.org"), request_id="move back")
        return event

    monkeypatch.setattr(team, "decide", overtaken)
    team.execute(acme, ChangeEmail("u-1", "a@example.org"), request_id="move")
    assert acme.state(users, "u-1").email == "ada@example.org"
