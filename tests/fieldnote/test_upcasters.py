"""What the first release stored reads as today's events."""

from pathlib import Path

import pytest

from everlog import Session, UnknownEventType
from everlog.fieldnote import first_release as first
from everlog.fieldnote.app import platform
from everlog.fieldnote.upcasters import email_changes_by_itself
from everlog.fieldnote.users import (
    Preferences,
    Profile,
    UserCreated,
    UserEmailChanged,
    UserProfileUpdated,
    users,
)

BEN = users.stream("u-2")
OLD = (
    first.UserRegistered("u-2", "b@example.org", "Ben", "member"),
    first.TourFinished("u-2"),
    first.UserProfileUpdated("u-2", "Ben", "Okafor", "ben@example.org"),
)
TODAY = [
    UserCreated("u-2", "b@example.org", "Ben", "member", None, "signup"),
    UserProfileUpdated(
        "u-2", Profile("Ben Okafor", "Ben", "Okafor", Preferences("en", "UTC", "light")), ("first_name", "last_name")
    ),
    UserEmailChanged("u-2", "ben@example.org"),
]


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path}/old.db"
    with first.platform.open(found) as log:
        log.tenant("acme").append(BEN, *OLD)
    return found


def test_a_rename_a_drop_a_new_version_and_a_split_read_as_today(url: str) -> None:
    with platform.open(url) as log:
        assert [event.data for event in log.tenant("acme").stream(BEN)] == TODAY


def test_old_events_are_found_by_todays_classes(url: str) -> None:
    with platform.open(url) as log:
        acme = log.tenant("acme")
        assert [e.data for e in acme.events(UserCreated)] == TODAY[:1]
        assert [e.data for e in acme.events(UserProfileUpdated)] == TODAY[1:2]
        assert [e.data for e in acme.events(UserEmailChanged)] == TODAY[2:]


def test_a_state_rests_on_old_and_new_events_alike(url: str) -> None:
    with platform.open(url) as log:
        ben = log.tenant("acme").state(users, "u-2")
    assert (ben.status, ben.role, ben.email, ben.profile.last_name) == ("active", "member", "ben@example.org", "Okafor")


def test_the_stored_bytes_stay_as_they_were(url: str) -> None:
    def stored(session: Session) -> list[str]:
        return [f"{entry.what} {bytes(entry.details)!r}" for entry in session.audit()]

    with first.platform.open(url) as log:
        before = stored(log.tenant("acme"))
    with platform.open(url) as log:
        list(log.tenant("acme").events())
        assert stored(log.tenant("acme")) == before


def test_a_second_version_without_a_new_address_yields_no_change_of_address() -> None:
    profile = {"display_name": "B", "first_name": "Ben", "last_name": "O", "email": "b@example.org", "preferences": {}}
    names = email_changes_by_itself.step({"user_id": "u-2", "profile": profile, "updated_fields": ["first_name"]})
    only_email = email_changes_by_itself.step({"user_id": "u-2", "profile": profile, "updated_fields": ["email"]})
    assert [(part.name, part.version) for part, _ in names] == [("user.profile_updated", 3)]
    assert [(part.name, part.version) for part, _ in only_email] == [("user.email_changed", 1)]


def test_the_first_release_cannot_read_what_came_after_it(url: str) -> None:
    with platform.open(url) as log:
        log.tenant("acme").append(BEN, UserEmailChanged("u-2", "b.okafor@example.org"))
    with first.platform.open(url) as log:
        *_, newest = log.tenant("acme").stream(BEN)
        with pytest.raises(UnknownEventType):
            _ = newest.data
