"""What happens in the demo: a year in the life of three tenants, the same every time.

Every step names its own moment, so nothing here depends on the day it runs. Addresses are those set aside for examples
(RFC 2606 names, RFC 5737 networks).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from everlog.fieldnote import first_release as first
from everlog.fieldnote.team import (
    ChangeEmail,
    ChangeRole,
    Deactivate,
    Invite,
    Reactivate,
    SignUp,
    TeamCommand,
)
from everlog.fieldnote.tenants import (
    ChangeSettings,
    CloseTenant,
    CreateTenant,
    ReactivateTenant,
    RenameTenant,
    Settings,
    SuspendTenant,
    TenantCommand,
)
from everlog.fieldnote.users import (
    AcceptInvitation,
    FailLogIn,
    LogIn,
    Preferences,
    Profile,
    Role,
    UpdateProfile,
    UserCommand,
    VerifyEmail,
)

TENANTS = ("acme", "globex", "initech")
WORKER_STARTS, INCIDENT_OPENS, LANE_IS_TRIED, INCIDENT_CLOSES = (
    datetime(2026, 2, 27, 17, minute, tzinfo=UTC) for minute in (0, 10, 40, 50)
)

FirstReleaseEvent = first.UserRegistered | first.UserProfileUpdated | first.TourFinished
What = TenantCommand | TeamCommand | UserCommand | FirstReleaseEvent


@dataclass(frozen=True)
class Who:
    """Who acts, and from where: the audit trail keeps it with every event."""

    actor: str
    ip: str
    user_agent: str


@dataclass(frozen=True)
class Step:
    """At this moment someone does something to a tenant or a user, named by `target`."""

    at: datetime
    tenant: str
    who: Who
    target: str
    what: What

    @property
    def request_id(self) -> str:
        """The same on every run: that is what makes running the demo twice append nothing twice."""
        return f"{self.at.isoformat()} {self.target} {type(self.what).__name__}"


@dataclass(frozen=True)
class Person:
    name: str
    email: str
    at_desk: Who


def _person(user_id: str, name: str, ip: str, user_agent: str) -> tuple[str, Person]:
    return user_id, Person(name, f"{name.split()[0].lower()}@example.org", Who(user_id, ip, user_agent))


PEOPLE = dict([
    _person("u-1", "Ada Lin", "203.0.113.10", "Firefox/147"),
    _person("u-2", "Ben Okafor", "203.0.113.11", "Chrome/143"),
    _person("u-3", "Carla Ruiz", "203.0.113.12", "Safari/26"),
    _person("u-4", "Dmitri Novak", "203.0.113.13", "Chrome/143"),
    _person("u-5", "Emi Sato", "203.0.113.14", "Safari/26"),
    _person("u-6", "Farid Haddad", "198.51.100.20", "Edge/143"),
    _person("u-7", "Gwen Price", "198.51.100.21", "Firefox/147"),
    _person("u-8", "Hugo Lang", "198.51.100.22", "Chrome/143"),
    _person("u-9", "Ines Costa", "198.51.100.23", "Chrome/143"),
    _person("u-10", "Jonas Berg", "192.0.2.30", "Firefox/147"),
    _person("u-11", "Kira Moss", "192.0.2.31", "Safari/26"),
    _person("u-12", "Leo Tran", "192.0.2.32", "Chrome/143"),
])  # fmt: skip

ADA, BEN, FARID, GWEN, JONAS = (PEOPLE[f"u-{n}"].at_desk for n in (1, 2, 6, 7, 10))
OPS = Who("ops", "192.0.2.1", "admin/2.4")
BILLING = Who("billing", "192.0.2.2", "billing/1.9")
STRANGER = Who("unknown", "198.51.100.66", "curl/8.11")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def first_year() -> list[Step]:
    """What the first release stored: event types that have changed since."""
    return [
        _step("2025-03-03 09:00", "acme", OPS, "acme", _create("acme", "Acme Robots", "US", "USD", "sales")),
        _step("2025-03-03 09:20", "acme", ADA, "u-1", first.UserRegistered("u-1", "ada@example.org", "Ada", "owner")),
        _step("2025-03-03 09:31", "acme", ADA, "u-1", first.TourFinished("u-1")),
        _step("2025-03-04 10:05", "acme", BEN, "u-2", first.UserRegistered("u-2", "b@example.org", "Ben", "member")),
        _step("2025-03-04 10:17", "acme", BEN, "u-2", first.TourFinished("u-2")),
        _step("2025-03-04 10:25", "acme", BEN, "u-2", _profile_of_then("u-2", "Ben", "Okafor", "ben@example.org")),
        _step("2025-06-11 15:40", "acme", ADA, "u-1", _profile_of_then("u-1", "Ada", "Lin", "ada@example.org")),
    ]


def this_year() -> list[Step]:
    """What today's release is asked to do, in order of time."""
    return sorted([*_joining(), *_working(), *_changing()], key=lambda step: step.at)


def mended() -> list[Step]:
    """What Farid does once he is told that no mail reaches him."""
    return [_step("2026-02-27 17:30", "globex", FARID, "u-6", ChangeEmail("u-6", PEOPLE["u-6"].email))]


def refused() -> list[Step]:
    """What the business says no to, today and whenever the demo runs again."""
    guest = Invite("u-13", "ada@example.org", "viewer", "u-2", moment("2026-02-27 16:11"))
    return [
        _log_in(moment("2026-02-27 16:10"), "acme", "u-3"),
        _step("2026-02-27 16:11", "acme", BEN, "u-13", guest),
        _step("2026-02-27 16:12", "globex", GWEN, "u-7", ChangeRole("u-7", "viewer", "leaving")),
        _step("2026-02-27 16:13", "initech", JONAS, "initech", RenameTenant("Initech Reborn")),
    ]


def _joining() -> Iterator[Step]:
    pro = Settings("pro", 6, "America/New_York", "en")
    yield _step("2026-01-05 08:30", "acme", ADA, "acme", ChangeSettings(pro))
    yield from _invitation("2026-01-05 09:00", "acme", ADA, "u-3", "member")
    yield from _invitation("2026-01-05 09:10", "acme", ADA, "u-4", "viewer")
    yield from _invitation("2026-01-05 09:20", "acme", ADA, "u-5", "member")
    yield _step("2026-01-06 08:00", "globex", OPS, "globex", _create("globex", "Globex", "DE", "EUR", "web"))
    yield _sign_up("2026-01-06 08:10", "globex", "u-6", email="farid@example..org")  # he will notice in `mended`
    yield from _invitation("2026-01-06 08:30", "globex", FARID, "u-7", "admin")
    yield from _invitation("2026-01-06 08:40", "globex", FARID, "u-8", "member")
    yield from _invitation("2026-01-06 08:50", "globex", FARID, "u-9", "viewer")
    yield _step("2026-01-07 10:00", "initech", OPS, "initech", _create("initech", "Initech", "BR", "USD", "partner"))
    yield _sign_up("2026-01-07 10:20", "initech", "u-10")
    yield from _invitation("2026-01-07 10:40", "initech", JONAS, "u-11", "member")
    yield _invite("2026-01-07 10:50", "initech", JONAS, "u-12", "viewer")  # who never answers


def _working() -> Iterator[Step]:
    """Ada looks in every working day, the others on one day a week."""
    monday = moment("2026-01-12 08:00")
    for week in range(6):
        for day in range(5):
            yield _log_in(monday + timedelta(weeks=week, days=day, minutes=7 * day), "acme", "u-1")
    weekly = [("acme", "u-2"), ("acme", "u-4"), ("globex", "u-6"), ("globex", "u-7"), ("initech", "u-10")]
    for week in range(3):
        for day, (tenant, user_id) in enumerate(weekly):
            yield _log_in(monday + timedelta(weeks=week, days=day, hours=1, minutes=3 * week), tenant, user_id)


def _changing() -> Iterator[Step]:
    dark = Profile("Ben O.", "Ben", "Okafor", Preferences("en", "America/New_York", "dark"))
    yield _step("2026-01-20 14:00", "acme", BEN, "u-2", UpdateProfile(dark))
    yield _step("2026-01-27 11:30", "acme", ADA, "u-2", ChangeRole("u-2", "admin", "runs the reports now"))
    yield _step("2026-02-03 09:15", "acme", BEN, "u-2", ChangeEmail("u-2", "b.okafor@example.org"))
    yield _step("2026-02-03 09:20", "acme", BEN, "u-2", VerifyEmail())
    yield _step("2026-02-05 16:00", "acme", ADA, "acme", RenameTenant("Acme Robotics"))
    yield _step("2026-02-09 12:00", "acme", ADA, "u-5", Deactivate("u-5", "parental leave"))
    for minute in (0, 2, 3, 5, 6):
        yield _failed_log_in(moment(f"2026-02-27 16:0{minute}"), "acme", "u-3")

    yield _step(
        "2026-01-19 09:00", "globex", FARID, "globex", ChangeSettings(Settings("pro", 5, "Europe/Berlin", "de"))
    )
    yield _step("2026-02-02 10:00", "globex", FARID, "u-7", ChangeRole("u-7", "owner", "takes over"))
    yield _step("2026-02-02 10:05", "globex", GWEN, "u-6", ChangeRole("u-6", "admin", "steps back"))
    yield _step("2026-02-10 13:00", "globex", GWEN, "u-8", Deactivate("u-8", "contract ended"))
    yield _step("2026-02-16 09:30", "globex", GWEN, "u-8", Reactivate("u-8", "contract renewed"))

    for month, days in (("01", (26, 28)), ("02", (20, 26))):
        due, next_act = (moment(f"2026-{month}-{day} 07:00") for day in days)
        yield Step(due, "initech", BILLING, "initech", SuspendTenant("invoice unpaid", due))
        act = ReactivateTenant("invoice paid", next_act) if month == "01" else CloseTenant("on their request", next_act)
        yield Step(next_act, "initech", OPS, "initech", act)


def _step(at: str, tenant: str, who: Who, target: str, what: What) -> Step:
    return Step(moment(at), tenant, who, target, what)


def _create(slug: str, name: str, country: str, currency: str, channel: str) -> CreateTenant:
    return CreateTenant(slug, name, country, currency, channel, Settings())


def _profile_of_then(user_id: str, first_name: str, last_name: str, email: str) -> first.UserProfileUpdated:
    return first.UserProfileUpdated(user_id, first_name, last_name, email)


def _sign_up(at: str, tenant: str, user_id: str, *, email: str | None = None) -> Step:
    person = PEOPLE[user_id]
    return _step(at, tenant, person.at_desk, user_id, SignUp(user_id, email or person.email, person.name))


def _invite(at: str, tenant: str, by: Who, user_id: str, role: Role) -> Step:
    invite = Invite(user_id, PEOPLE[user_id].email, role, by.actor, moment(at))
    return _step(at, tenant, by, user_id, invite)


def _invitation(at: str, tenant: str, by: Who, user_id: str, role: Role) -> Iterator[Step]:
    """Sent, and accepted two hours later."""
    invite = _invite(at, tenant, by, user_id, role)
    yield invite
    person, later = PEOPLE[user_id], invite.at + timedelta(hours=2)
    yield Step(later, tenant, person.at_desk, user_id, AcceptInvitation(person.name, later))


def _log_in(at: datetime, tenant: str, user_id: str) -> Step:
    return Step(at, tenant, PEOPLE[user_id].at_desk, user_id, LogIn("password", True, at))


def _failed_log_in(at: datetime, tenant: str, user_id: str) -> Step:
    return Step(at, tenant, STRANGER, user_id, FailLogIn("wrong password", at))
