"""The first release of Fieldnote, as it was deployed then: it stored what `upcasters` turns into today's events.

A real application has it in its version control only. The demo keeps it to store old events that really are old.
"""

from everlog import Platform, event
from everlog.fieldnote.tenants import tenants
from everlog.fieldnote.users import Role


@event("user.registered", tags=["user:{user_id}"])
class UserRegistered:
    user_id: str
    email: str
    name: str
    role: Role


@event("user.profile_updated", version=1, tags=["user:{user_id}"])
class UserProfileUpdated:
    user_id: str
    first_name: str
    last_name: str
    email: str


@event("user.tour_finished", tags=["user:{user_id}"])
class TourFinished:
    user_id: str


platform = Platform("sqlite:///.everlog/demo.db", tenants, UserRegistered, UserProfileUpdated, TourFinished)
