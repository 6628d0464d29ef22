"""What the demo tells: read from the log as plain values, which `screen` shows and JSON prints."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from json import loads
from pathlib import Path
from typing import Any

from everlog import Log, Platform, Processor, Recorded, RecordedAt, Session
from everlog.fieldnote.directory import Overview, directory, overview
from everlog.fieldnote.incidents import IncidentClosed, IncidentOpened
from everlog.fieldnote.story import TENANTS, moment
from everlog.fieldnote.tenants import tenants
from everlog.fieldnote.users import MailSent, UserProfileUpdated, users

AUDITED, ITS_LATEST = "initech", 8
CHANGED_TENANT, CHANGED_USER = "acme", "u-2"
PARKED_TENANT = "globex"
BEFORE = moment("2026-01-15 00:00")


@dataclass(frozen=True)
class TenantLine:
    tenant: str
    name: str
    plan: str
    status: str
    users: int
    streams: int
    events: int


@dataclass(frozen=True)
class EventLine:
    """Who did what, when, from where. The position is text, because JSON readers may hold numbers as floats."""

    position: str
    when: str
    who: str | None
    what: str
    stream: str
    ip: str | None
    user_agent: str | None


@dataclass(frozen=True)
class Shape:
    """An event as it is stored, or as it reads."""

    type: str
    version: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Upcast:
    position: str
    stored: Shape
    reads_as: tuple[Shape, ...]


@dataclass(frozen=True)
class Refusal:
    tenant: str
    who: str
    what: str
    on: str
    because: str


@dataclass(frozen=True)
class FieldLine:
    field: str
    before: object
    after: object
    positions: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One user at two moments, and what happened in between."""

    tenant: str
    user: str
    before: str
    after: str
    fields: tuple[FieldLine, ...]
    events: tuple[EventLine, ...]


@dataclass(frozen=True)
class Follower:
    """A read model or a processor, and how many events it was given."""

    name: str
    kind: str
    events: int


@dataclass(frozen=True)
class Incident:
    """A lane that was parked, what went on beside it, and what was worked off in it, in order."""

    processor: str
    tenant: str
    lane: str
    position: str
    attempts: int
    error: str
    meanwhile: int
    remedy: str
    worked_off: tuple[EventLine, ...]


@dataclass(frozen=True)
class Moments:
    """One key of the read model: when the story was told and no processor had run, with a lane parked, and now."""

    tenant: str
    told: Overview
    parked: Overview
    now: Overview


@dataclass(frozen=True)
class Hint:
    about: str
    command: str


@dataclass(frozen=True)
class Report:
    store: str
    tenants: tuple[TenantLine, ...]
    events_of_others: int
    audited: str
    audit: tuple[EventLine, ...]
    upcast: Upcast
    refused: tuple[Refusal, ...]
    change: Change
    followers: tuple[Follower, ...]
    mails: str
    incident: Incident
    overview: tuple[Moments, ...]
    look_further: tuple[Hint, ...]


def report(log: Log, platform: Platform, url: str, refused: tuple[Refusal, ...], end: int, mails: str) -> Report:
    """`end` is the story's last position, `mails` says where they went."""
    lines = tuple(_tenant(log.tenant(name)) for name in TENANTS)
    acme, globex = log.tenant(CHANGED_TENANT), log.tenant(PARKED_TENANT)
    opened = next(globex.events(IncidentOpened))
    return Report(
        store=url,
        tenants=lines,
        events_of_others=log.head().position - sum(line.events for line in lines),
        audited=AUDITED,
        audit=_audit(log.tenant(AUDITED), end),
        upcast=_upcast(acme),
        refused=refused,
        change=_change(acme),
        followers=tuple(_followers(log, platform)),
        mails=mails,
        incident=_incident(log, globex, opened),
        overview=tuple(_moments(log.tenant(name), end, opened.position) for name in TENANTS),
        look_further=_hints(url),
    )


def _tenant(session: Session) -> TenantLine:
    heads = list(session.streams())
    state = session.state(tenants, session.tenant)
    return TenantLine(
        tenant=session.tenant,
        name=state.name,
        plan=state.settings.plan,
        status=state.status,
        users=len(list(session.streams("user"))),
        streams=len(heads),
        events=sum(head.version for head in heads),
    )


def _audit(session: Session, end: int) -> tuple[EventLine, ...]:
    """Of people: what processors appended lies behind the story, each time in another order."""
    latest = [
        EventLine(entry.position, entry.when, entry.who, entry.what, entry.stream, entry.ip, entry.user_agent)
        for entry in session.audit(backwards=True, limit=ITS_LATEST, upto=end)
    ]
    return tuple(reversed(latest))


def _upcast(session: Session) -> Upcast:
    """The oldest profile update of one user, as it lies in the log and as today's code reads it."""
    old = next(session.events(UserProfileUpdated, stream=users.stream(CHANGED_USER)))
    parts = session.events(after=old.position - 1, upto=old.position)
    return Upcast(
        position=str(old.position),
        stored=Shape(old.stored.type, old.stored.schema_version, loads(old.stored.data or b"{}")),
        reads_as=tuple(Shape(part.type, part.schema_version, part.json()) for part in parts),
    )


def _change(session: Session) -> Change:
    difference = session.difference(users, CHANGED_USER, RecordedAt(BEFORE))
    return Change(
        tenant=session.tenant,
        user=CHANGED_USER,
        before=_rfc3339(BEFORE),
        after="now",
        fields=tuple(
            FieldLine(change.path, change.before, change.after, tuple(map(str, change.events)))
            for change in difference.changes
        ),
        events=tuple(map(_event, difference.events)),
    )


def _followers(log: Log, platform: Platform) -> Iterator[Follower]:
    for part in platform.follows():
        given = sum(1 for name in TENANTS for _ in log.tenant(name).events(*part.events))
        yield Follower(part.name, "processor" if isinstance(part, Processor) else "read model", given)


def _incident(log: Log, session: Session, opened: Recorded[IncidentOpened]) -> Incident:
    """The mails say by their cause what was worked off."""
    told, closed = opened.data, next(session.events(IncidentClosed))
    before = sum(1 for name in TENANTS for _ in log.tenant(name).events(MailSent, upto=opened.position))
    causes = [mail.causation_id for mail in session.events(MailSent, after=opened.position, upto=closed.position)]
    lane = session.events(stream=told.lane.partition("/")[2])
    return Incident(
        processor=told.processor,
        tenant=session.tenant,
        lane=told.lane,
        position=str(told.position),
        attempts=told.attempts,
        error=told.error,
        meanwhile=before,
        remedy=closed.data.remedy,
        worked_off=tuple(_event(e) for e in lane if e.id in causes),
    )


def _moments(session: Session, told: int, parked: int) -> Moments:
    session.wait_for(overview)
    at = session.tenant
    return Moments(
        tenant=session.tenant,
        told=session.get(overview, at, at=told),
        parked=session.get(overview, at, at=parked),
        now=session.get(overview, at),
    )


def _event(e: Recorded[Any]) -> EventLine:
    return EventLine(str(e.position), _rfc3339(e.recorded_at), e.actor, e.type, e.stream, e.ip, e.user_agent)


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _hints(url: str) -> tuple[Hint, ...]:
    then, of = f"{BEFORE:%Y-%m-%dT%H:%M:%SZ}", ["--tenant", CHANGED_TENANT]
    user = [users.name, CHANGED_USER, *of]
    told = [
        ("who did what in a tenant", ["audit", "list", "--tenant", AUDITED]),
        ("a user as known at some moment", ["stream", "state", *user, "--recorded-at", then]),
        ("what changed since, and by what", ["stream", "diff", *user, "--from", f"recorded:{then}"]),
        ("everything about one user", ["event", "list", *of, "--tag", f"user:{CHANGED_USER}"]),
        ("the streams of a tenant", ["stream", "list", *of]),
        ("how far processors are", ["processor", "list"]),
        ("lanes that wait for a person", ["dlq", "list"]),
        ("who is who, in a read model", ["projection", "get", directory.name, "--tenant", PARKED_TENANT]),
        (
            "what another would have said then",
            ["time", "state", "--at", f"recorded:{then}", "--of", overview.name, *of],
        ),
        ("states kept to load faster", ["snapshot", "list", *of]),
        ("today's event types", ["schema", "list"]),
        ("whether today's code reads every event", ["schema", "replay"]),
        ("whether the log is in order", ["doctor"]),
    ]
    everlog = [_program(), "--app", "everlog.fieldnote.app:platform", "--store", url]
    return tuple(Hint(about, shlex.join([*everlog, *words])) for about, words in told)


def _program() -> str:
    """What to type: the plain name where the shell would find it, else the way it was started just now."""
    if Path(sys.argv[0]).name == "everlog" and shutil.which("everlog") is None:
        return sys.argv[0]
    return "everlog"
