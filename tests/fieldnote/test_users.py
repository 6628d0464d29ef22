"""The rules of one user."""

from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest

from everlog.fieldnote.users import (
    AcceptInvitation,
    FailLogIn,
    InvitationAccepted,
    LogIn,
    Preferences,
    Profile,
    UpdateProfile,
    UserCommand,
    UserCreated,
    UserDeactivated,
    UserEmailChanged,
    UserEmailVerified,
    UserEvent,
    UserInvited,
    UserLoggedIn,
    UserLoginFailed,
    UserProfileUpdated,
    UserReactivated,
    VerifyEmail,
    decide,
    evolve,
    users,
)
from everlog.testing import given

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
INVITED = UserInvited("u-2", "ben@example.org", "member", "u-1", "invitation-u-2", NOW + timedelta(days=7))
CREATED = UserCreated("u-2", "ben@example.org", "Ben", "member", None, "signup")
PROFILE = Profile("Ben O.", "Ben", "Okafor", Preferences(theme="dark"))
COMMANDS: list[UserCommand] = [
    UpdateProfile(PROFILE),
    VerifyEmail(),
    LogIn("password", True, NOW),
    FailLogIn("wrong password", NOW),
]
named = pytest.mark.parametrize("command", COMMANDS, ids=lambda c: type(c).__name__)


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def failed(minutes: float) -> UserLoginFailed:
    return UserLoginFailed("u-2", "wrong password", after(minutes))


def log_in(minutes: float) -> LogIn:
    return LogIn("password", True, after(minutes))


def logged_in(minutes: float) -> UserLoggedIn:
    return UserLoggedIn("u-2", "password", True, after(minutes))


def test_who_accepts_an_invitation_is_created_with_its_role_and_address() -> None:
    given(users, INVITED).when(AcceptInvitation("Ben", NOW)).then(
        InvitationAccepted("u-2", "invitation-u-2"),
        UserCreated("u-2", "ben@example.org", "Ben", "member", "u-1", "invitation"),
    )


def test_an_invitation_expires() -> None:
    given(users, INVITED).when(AcceptInvitation("Ben", INVITED.expires_at)).then_rejected("invitation_expired")


def test_an_invitation_is_accepted_once() -> None:
    accepted = InvitationAccepted("u-2", "invitation-u-2")
    given(users, INVITED, accepted, CREATED).when(AcceptInvitation("Ben", NOW)).then_rejected("not_invited")


@named
def test_who_was_never_heard_of_can_do_nothing(command: UserCommand) -> None:
    given(users).when(command).then_rejected("user_absent")


@named
def test_who_has_not_accepted_yet_can_do_nothing(command: UserCommand) -> None:
    given(users, INVITED).when(command).then_rejected("user_invited")


@named
def test_who_is_deactivated_can_do_nothing(command: UserCommand) -> None:
    given(users, CREATED, UserDeactivated("u-2", "left")).when(command).then_rejected("user_deactivated")


@named
def test_who_is_reactivated_can_go_on(command: UserCommand) -> None:
    history: list[UserEvent] = [CREATED, UserDeactivated("u-2", "left"), UserReactivated("u-2", "is back")]
    assert decide(command, reduce(evolve, history, users.initial))


def test_a_profile_update_says_which_fields_changed() -> None:
    given(users, CREATED).when(UpdateProfile(PROFILE)).then(
        UserProfileUpdated("u-2", PROFILE, ("display_name", "first_name", "last_name", "preferences"))
    )


def test_the_same_profile_again_changes_nothing() -> None:
    given(users, CREATED, UserProfileUpdated("u-2", PROFILE, ())).when(UpdateProfile(PROFILE)).then_nothing()


def test_an_address_is_verified_once() -> None:
    verified = UserEmailVerified("u-2", "ben@example.org")
    given(users, CREATED).when(VerifyEmail()).then(verified)
    given(users, CREATED, verified).when(VerifyEmail()).then_nothing()


def test_a_new_address_has_to_be_verified_again() -> None:
    moved = UserEmailChanged("u-2", "b.okafor@example.org")
    verified = UserEmailVerified("u-2", "ben@example.org")
    given(users, CREATED, verified, moved).when(VerifyEmail()).then(UserEmailVerified("u-2", "b.okafor@example.org"))


def test_an_address_that_stays_the_same_stays_verified() -> None:
    verified = UserEmailVerified("u-2", "ben@example.org")
    given(users, CREATED, verified, UserEmailChanged("u-2", "ben@example.org")).when(VerifyEmail()).then_nothing()


def test_four_failures_lock_nobody_out() -> None:
    given(users, CREATED, *map(failed, range(4))).when(log_in(5)).then(logged_in(5))


def test_five_failures_in_a_quarter_of_an_hour_lock_the_account() -> None:
    given(users, CREATED, *map(failed, (0, 3, 6, 9, 14))).when(log_in(15)).then_rejected("locked")


def test_a_locked_account_takes_no_more_failures() -> None:
    given(users, CREATED, *map(failed, range(5))).when(FailLogIn("wrong password", after(6))).then_rejected("locked")


@pytest.mark.parametrize("minutes", [19, 20])
def test_the_lock_opens_a_quarter_of_an_hour_after_the_last_failure(minutes: int) -> None:
    history: list[UserEvent] = [CREATED, *map(failed, range(5))]  # the last one at minute 4
    given(users, *history).when(log_in(18.99)).then_rejected("locked")
    given(users, *history).when(log_in(minutes)).then(logged_in(minutes))


def test_failures_that_lie_further_apart_do_not_lock() -> None:
    given(users, CREATED, *map(failed, (0, 4, 8, 12, 15))).when(log_in(16)).then(logged_in(16))


def test_a_login_forgets_the_failures_before_it() -> None:
    history: list[UserEvent] = [CREATED, *map(failed, range(4)), logged_in(4), *map(failed, (5, 6, 7, 8))]
    given(users, *history).when(log_in(9)).then(logged_in(9))


def test_after_a_lock_the_counting_starts_again() -> None:
    history: list[UserEvent] = [CREATED, *map(failed, range(5)), failed(20)]
    given(users, *history).when(log_in(21)).then(logged_in(21))


def test_logins_are_counted() -> None:
    history: list[UserEvent] = [CREATED, logged_in(1), logged_in(2)]
    user = reduce(evolve, history, users.initial)
    assert (user.logins, user.last_login) == (2, after(2))
