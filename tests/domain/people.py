"""Events that have changed over the years, and the steps from their old forms to today's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from everlog import event, upcast, upcast_drop, upcast_split

Json = dict[str, Any]


@event("user.named", version=3)
class Named:
    first: str
    last: str
    source: str = "form"


@event("user.moved")
class Moved:
    city: str


@upcast("user.named", 1)
def split_the_name(old: Json) -> Json:
    first, _, last = old["name"].partition(" ")
    return {"first": first, "last": last}


@upcast("user.named", 2)
def remember_the_source(old: Json) -> Json:
    return {**old, "source": "v2"}


@upcast("person.called", 1, to=("user.named", 2))
def rename(old: Json) -> Json:
    return {"first": old["called"], "last": ""}


@upcast_split("user.changed", 1, into=[("user.named", 1), ("user.moved", 1)])
def named_and_moved(old: Json) -> Iterator[tuple[str, Json]]:
    if "city" in old:
        yield "user.moved", {"city": old["city"]}
    yield "user.named", {"name": old["name"]}


noise = upcast_drop("user.blinked", 1)

STEPS = (split_the_name, remember_the_source, rename, named_and_moved, noise)


@dataclass(frozen=True)
class UserPreferences:
    language: str
    timezone: str
    theme: str


@dataclass(frozen=True)
class UserProfile:
    firstName: str
    lastName: str
    email: str
    avatar: str
    preferences: UserPreferences


@event("UserProfileUpdatedEvent", version=2, tags=["user:{aggregateId}"])
class UserProfileUpdated:
    aggregateId: str
    profile: UserProfile
    updatedFields: tuple[str, ...]


@upcast("UserProfileUpdatedEvent", 1)
def to_profile(old: Json) -> Json:
    names = ("firstName", "lastName", "email")
    preferences = {"language": "en", "timezone": "UTC", "theme": "light"}
    profile = {**{name: old[name] for name in names}, "avatar": "", "preferences": preferences}
    return {"aggregateId": old["aggregateId"], "profile": profile, "updatedFields": list(names)}
