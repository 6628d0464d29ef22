"""What earlier releases of Fieldnote stored, and how it reads today. Stored bytes never change; reading does."""

from collections.abc import Iterable
from typing import Any

from everlog import upcast, upcast_drop, upcast_split

Json = dict[str, Any]


@upcast("user.registered", 1, to=("user.created", 1))
def registration_is_creation(old: Json) -> Json:
    """A rename: before there were invitations, everyone registered."""
    return {**old, "invited_by": None, "method": "signup"}


@upcast("user.profile_updated", 1)
def profile_gets_preferences(old: Json) -> Json:
    first_name, last_name, email = old["first_name"], old["last_name"], old["email"]
    profile = {
        "display_name": f"{first_name} {last_name}",
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "preferences": {"locale": "en", "tz": "UTC", "theme": "light", "notifications": True},
    }
    return {"user_id": old["user_id"], "profile": profile, "updated_fields": ["first_name", "last_name", "email"]}


@upcast_split("user.profile_updated", 2, into=[("user.profile_updated", 3), ("user.email_changed", 1)])
def email_changes_by_itself(old: Json) -> Iterable[tuple[str, Json]]:
    user_id, profile = old["user_id"], dict(old["profile"])
    email = profile.pop("email")
    changed = [name for name in old["updated_fields"] if name != "email"]
    if changed:
        yield "user.profile_updated", {"user_id": user_id, "profile": profile, "updated_fields": changed}
    if "email" in old["updated_fields"]:
        yield "user.email_changed", {"user_id": user_id, "email": email}


tours_mean_nothing = upcast_drop("user.tour_finished", 1)

UPCASTERS = (registration_is_creation, profile_gets_preferences, email_changes_by_itself, tours_mean_nothing)
