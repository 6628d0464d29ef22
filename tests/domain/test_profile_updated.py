"""The seed's own example: `UserProfileUpdated` V1 to V2, with default preferences and the fields V1 always changed."""

from everlog import Platform
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from everlog.domain.types import EventTypes
from tests.domain.people import UserPreferences, UserProfile, UserProfileUpdated, to_profile
from tests.domain.stored import stored

V1 = b'{"aggregateId":"u-1","firstName":"Ann","lastName":"Lee","email":"ann@lee.example"}'
TODAY = UserProfileUpdated(
    "u-1",
    UserProfile("Ann", "Lee", "ann@lee.example", "", UserPreferences("en", "UTC", "light")),
    ("firstName", "lastName", "email"),
)


def test_a_profile_stored_as_v1_is_read_as_v2_with_the_defaults_of_the_seed() -> None:
    types = EventTypes([UserProfileUpdated], [to_profile])
    [one] = types.recorded(stored("UserProfileUpdatedEvent", 1, V1))
    assert one.data == TODAY
    assert (one.schema_version, one.position, one.stored.schema_version) == (2, 7, 1)


def test_both_versions_lie_side_by_side_and_are_read_alike() -> None:
    with Platform("memory:", UserProfileUpdated, to_profile).open() as log:
        v1 = NewEvent(new_id(), "user-u-1", "UserProfileUpdatedEvent", 1, V1, ("user:u-1",))
        log.store.append(Append("default", (v1,)))
        acme = log.tenant()
        acme.append("user-u-1", TODAY)
        assert [(e.position, e.data) for e in acme.events(UserProfileUpdated, tags=["user:u-1"])] == [
            (1, TODAY), (2, TODAY),
        ]  # fmt: skip
        assert [e.data for e in log.store.read_stream("default", "user-u-1", upto=1)] == [V1]
