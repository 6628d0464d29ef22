"""The audit trail: who did what, when, from where; each condition alone and in any combination, against a loop."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as always
from hypothesis import strategies as some

from everlog import InvalidInput, Log, Money, Recorded, Session
from everlog.history.audit import FIELDS, AuditEntry
from everlog.store.contract import Release
from tests.command.sides import FAST
from tests.history.ledger import Booked, Clock, Moved, Opened, hours, platform

ACTORS, IPS, AGENTS = ("ann", "bob", None), ("10.0.0.1", "::1", None), ("Mozilla", "curl", None)
IDS = (UUID(int=1), UUID(int=2), None)
STREAMS = ("account-1", "account-2", "account.old-1", "user-1")
OWNERS = ("ann", "bob")
COUNT = 160


@dataclass(frozen=True)
class Line:
    """What was told to the log, and so what the trail must know."""

    position: int
    tenant: str
    stream: str
    named: str
    tags: tuple[str, ...]
    actor: str | None
    ip: str | None
    user_agent: str | None
    correlation_id: UUID | None
    causation_id: UUID | None
    occurred: datetime
    recorded: datetime


@pytest.fixture(scope="module")
def trail() -> Iterator[tuple[Log, Sequence[Line]]]:
    clock = Clock()
    with platform.open(f"memory:{FAST}", clock=clock) as log:
        yield log, [_told(log, clock, number) for number in range(COUNT)]


def _told(log: Log, clock: Clock, number: int) -> Line:
    """One event; each of its fields changes at another pace, so that every combination is somewhere."""
    if number % 3:
        clock.forward(hours=1)
    owner = OWNERS[number % 2]
    event = (Opened(owner), Booked(owner, Money(number, "EUR")), Moved("Bern"))[number % 3]
    named = ("account.opened", "account.booked", "account.moved")[number % 3]
    tags = () if number % 3 == 2 else (f"owner:{owner}",)
    stream, tenant = STREAMS[number // 2 % 4], "acme" if number % 7 else "other"
    actor, ip, agent = ACTORS[number // 3 % 3], IPS[number // 4 % 3], AGENTS[number // 5 % 3]
    correlation, causation = IDS[number // 6 % 3], IDS[number // 7 % 3]
    occurred = clock.now + timedelta(hours=number % 11 - 5)
    session = log.tenant(tenant).acting(
        actor=actor, ip=ip, user_agent=agent, correlation_id=correlation, causation_id=causation
    )
    position = session.append(stream, event, occurred_at=occurred).position
    return Line(
        position, tenant, stream, named, tags, actor, ip, agent, correlation, causation, occurred, clock.now
    )  # fmt: skip


TIMES = [hours(0), hours(20), hours(50), hours(51), hours(200)]
CONDITIONS: dict[str, tuple[Sequence[Any], Callable[[Line, Any], bool]]] = {
    "stream": (STREAMS, lambda line, value: line.stream == value),
    "category": (("account", "account.old", "user"), lambda line, value: line.stream.split("-")[0] == value),
    "named": (
        (["account.opened"], ("account.booked", "account.moved"), []),
        lambda line, value: not value or line.named in value,
    ),
    "tags": ((["owner:ann"], ("owner:bob",), []), lambda line, value: set(value) <= set(line.tags)),
    "actor": (ACTORS[:2], lambda line, value: line.actor == value),
    "ip": (IPS[:2], lambda line, value: line.ip == value),
    "user_agent": (AGENTS[:2], lambda line, value: line.user_agent == value),
    "correlation_id": (IDS[:2], lambda line, value: line.correlation_id == value),
    "causation_id": (IDS[:2], lambda line, value: line.causation_id == value),
    "occurred_since": (TIMES, lambda line, value: line.occurred >= value),
    "occurred_until": (TIMES, lambda line, value: line.occurred <= value),
    "recorded_since": (TIMES, lambda line, value: line.recorded >= value),
    "recorded_until": (TIMES, lambda line, value: line.recorded <= value),
    "after": ((0, 1, 70, COUNT), lambda line, value: line.position > value),
    "upto": ((0, 70, COUNT, COUNT + 9), lambda line, value: line.position <= value),
}
COMBINATIONS = some.fixed_dictionaries(
    {},
    optional={name: some.sampled_from(list(values)) for name, (values, _) in CONDITIONS.items()}
    | {"backwards": some.booleans(), "limit": some.sampled_from([0, 1, 7, None])},
)


def expected(lines: Sequence[Line], where: dict[str, Any]) -> list[int]:
    held = [
        line.position
        for line in lines
        if all(CONDITIONS[name][1](line, value) for name, value in where.items() if name in CONDITIONS)
    ]
    return (held[::-1] if where.get("backwards") else held)[: where.get("limit")]


def positions(entries: Iterator[AuditEntry] | Iterator[Recorded[Any]]) -> list[int]:
    return [int(entry.position) for entry in entries]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@always(COMBINATIONS)
def test_any_combination_of_conditions_finds_what_a_plain_loop_finds(
    trail: tuple[Log, Sequence[Line]], where: dict[str, Any]
) -> None:
    log, lines = trail
    acme = [line for line in lines if line.tenant == "acme"]
    assert positions(log.tenant("acme").audit(**where)) == expected(acme, where)
    assert positions(log.tenant("acme").events(**where)) == expected(acme, where)
    assert positions(log.admin().audit(**where)) == expected(lines, where)
    assert positions(log.admin().events(**where)) == expected(lines, where)


@pytest.mark.parametrize("name", [*CONDITIONS, "backwards", "limit"])
def test_each_condition_alone_leaves_something_out(trail: tuple[Log, Sequence[Line]], name: str) -> None:
    log, lines = trail
    acme = [line for line in lines if line.tenant == "acme"]
    values: Sequence[Any] = [True] if name == "backwards" else [7] if name == "limit" else CONDITIONS[name][0]
    found = [positions(log.tenant("acme").audit(**{name: value})) for value in values]
    assert found == [expected(acme, {name: value}) for value in values]
    assert any(one and one != [line.position for line in acme] for one in found)


def test_without_conditions_it_is_the_whole_trail_of_the_tenant_and_of_all_for_the_admin(
    trail: tuple[Log, Sequence[Line]],
) -> None:
    log, lines = trail
    assert positions(log.admin().audit()) == [line.position for line in lines]
    assert {entry.tenant for entry in log.tenant("other").audit()} == {"other"}
    assert {entry.tenant for entry in log.admin().audit()} == {"acme", "other"}


def test_an_entry_says_who_did_what_when_and_from_where() -> None:
    clock = Clock()
    with platform.open(f"memory:{FAST}", clock=clock) as log:
        acme = log.tenant("acme", actor="ann", ip="::1", user_agent="curl", correlation_id=IDS[0], causation_id=IDS[1])
        acme.append("account-1", Moved("Bern"), occurred_at=hours(-1), ids=[UUID(int=9)])
        [entry] = acme.audit()
        assert {name: getattr(entry, name) for name in FIELDS if name != "details"} == {
            "when": "2026-11-24T00:00:00.000000Z",
            "who": "ann",
            "what": "account.moved",
            "tenant": "acme",
            "stream": "account-1",
            "version": 1,
            "position": "1",
            "ip": "::1",
            "user_agent": "curl",
            "occurred_at": "2026-11-23T23:00:00.000000Z",
            "correlation_id": str(IDS[0]),
            "causation_id": str(IDS[1]),
            "event_id": str(UUID(int=9)),
        }
        assert bytes(entry.details) == b'{"city":"Bern"}'
        log.store.release(Release((1,), "erasure", "request 42"))
        [gone] = acme.audit()
        assert (gone.details, gone.ip, gone.user_agent, gone.who) == (None, None, None, "ann")


@pytest.mark.parametrize("name", ["occurred_since", "occurred_until", "recorded_since", "recorded_until"])
def test_times_without_a_zone_are_refused(trail: tuple[Log, Sequence[Line]], name: str) -> None:
    with pytest.raises(InvalidInput, match="has no time zone"):
        list(trail[0].admin().audit(**{name: datetime(2026, 11, 24)}))  # type: ignore[arg-type]  # noqa: DTZ001


def test_it_is_streamed_from_the_first_entry_on(trail: tuple[Log, Sequence[Line]]) -> None:
    session: Session = trail[0].tenant("acme")
    entries = session.audit()
    assert next(entries).position == str(expected(trail[1], {})[1])
    assert len(list(itertools.islice(entries, 3))) == 3
