"""What the demo tells: read from the log as plain values, which `screen` shows and JSON prints."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from json import loads
from pathlib import Path
from typing import Any

from everlog import Log, RecordedAt, Session
from everlog.fieldnote.story import TENANTS, moment
from everlog.fieldnote.tenants import tenants
from everlog.fieldnote.users import UserProfileUpdated, users

AUDITED, ITS_LATEST = "initech", 8
CHANGED_TENANT, CHANGED_USER = "acme", "u-2"
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
    look_further: tuple[Hint, ...]


def report(log: Log, url: str, refused: tuple[Refusal, ...]) -> Report:
    lines = tuple(_tenant(log.tenant(name)) for name in TENANTS)
    acme = log.tenant(CHANGED_TENANT)
    return Report(
        store=url,
        tenants=lines,
        events_of_others=log.head().position - sum(line.events for line in lines),
        audited=AUDITED,
        audit=_audit(log.tenant(AUDITED)),
        upcast=_upcast(acme),
        refused=refused,
        change=_change(acme),
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


def _audit(session: Session) -> tuple[EventLine, ...]:
    latest = [
        EventLine(entry.position, entry.when, entry.who, entry.what, entry.stream, entry.ip, entry.user_agent)
        for entry in session.audit(backwards=True, limit=ITS_LATEST)
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
        events=tuple(
            EventLine(str(e.position), _rfc3339(e.recorded_at), e.actor, e.type, e.stream, e.ip, e.user_agent)
            for e in difference.events
        ),
    )


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _hints(url: str) -> tuple[Hint, ...]:
    then, user = f"{BEFORE:%Y-%m-%dT%H:%M:%SZ}", [users.name, CHANGED_USER, "--tenant", CHANGED_TENANT]
    told = [
        ("who did what in a tenant", ["audit", "list", "--tenant", AUDITED]),
        ("a user as known at some moment", ["stream", "state", *user, "--recorded-at", then]),
        ("what changed since, and by what", ["stream", "diff", *user, "--from", f"recorded:{then}"]),
        ("everything about one user", ["event", "list", "--tenant", CHANGED_TENANT, "--tag", f"user:{CHANGED_USER}"]),
        ("the streams of a tenant", ["stream", "list", "--tenant", CHANGED_TENANT]),
        ("states kept to load faster", ["snapshot", "list", "--tenant", CHANGED_TENANT]),
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
