"""Whatever happened, told in time or late: the state at any point is a naive fold of what lies before it."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as always
from hypothesis import strategies as some

from everlog import AtPosition, AtVersion, Log, Money, OccurredAt, Recorded, RecordedAt
from everlog.domain.fields import flatten
from tests.command.sides import FAST
from tests.history.ledger import Account, Booked, Clock, Event, Moved, Opened, accounts, evolve, hours, platform

TENANTS = itertools.count()
CLOCK = Clock()
TICK = timedelta(microseconds=1)


class Told(NamedTuple):
    """One event: how long after the one before it was told, when it occurred, and whether by a command."""

    event: Event
    pause: int
    occurred: int | None
    command: bool


EVENTS = some.one_of(
    some.builds(Opened, some.sampled_from(["ann", "bob"]), some.sampled_from(["", "Bern"])),
    some.builds(Booked, some.just("ann"), some.builds(Money, some.integers(-9, 9), some.just("EUR")), some.just("")),
    some.builds(Moved, some.sampled_from(["Rome", "Oslo", "Bern"])),
)
HISTORIES = some.lists(
    some.builds(Told, EVENTS, some.integers(0, 2), some.none() | some.integers(-3, 3), some.booleans()), max_size=10
)


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    with platform.open(f"memory:{FAST}", clock=CLOCK) as log:
        yield log


def lived(log: Log, history: Sequence[Told]) -> tuple[str, list[Recorded[Event]]]:
    """A tenant with this history of one account, and the events as they were recorded."""
    acme = log.tenant(f"t{next(TENANTS)}")
    for told in history:
        CLOCK.forward(seconds=told.pause)
        if told.command:
            acme.execute(accounts, "ann", told.event)
        else:
            occurred = None if told.occurred is None else CLOCK.now + timedelta(seconds=told.occurred)
            acme.append("account-ann", told.event, occurred_at=occurred)
    return acme.tenant, list(acme.stream("account-ann"))


def folded(events: Sequence[Recorded[Event]]) -> Account:
    state = Account()
    for event in events:
        state = evolve(state, event.data)
    return state


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@always(HISTORIES)
def test_the_state_at_any_point_is_a_naive_fold(log: Log, history: Sequence[Told]) -> None:
    tenant, events = lived(log, history)
    acme = log.tenant(tenant)
    assert acme.state(accounts, "ann") == folded(events)
    for version in range(len(events) + 2):
        assert acme.state(accounts, "ann", at=AtVersion(version)) == folded(events[:version])
    for position in {event.position + step for event in events for step in (-1, 0, 1)}:
        known = [event for event in events if event.position <= position]
        assert acme.state(accounts, "ann", at=AtPosition(position)) == folded(known)
    for moment in {event.recorded_at + step for event in events for step in (-TICK, timedelta(0), TICK)}:
        known = [event for event in events if event.recorded_at <= moment]
        assert acme.state(accounts, "ann", at=RecordedAt(moment)) == folded(known)
    for moment in {event.occurred_at + step for event in events for step in (-TICK, timedelta(0), TICK)}:
        true = [event for event in events if event.occurred_at <= moment]
        assert acme.state(accounts, "ann", at=OccurredAt(moment)) == folded(true)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@always(HISTORIES, some.data())
def test_the_difference_is_that_of_two_states_and_its_events_lie_between(
    log: Log, history: Sequence[Told], data: some.DataObject
) -> None:
    tenant, events = lived(log, history)
    moments = sorted({event.occurred_at for event in events} | {hours(0)})
    early = data.draw(some.sampled_from(moments))
    late = data.draw(some.sampled_from([moment for moment in moments if moment >= early]))
    versions = sorted(data.draw(some.tuples(*[some.integers(0, len(events))] * 2)))
    acme = log.tenant(tenant)
    for before, after, first, last in (
        (AtVersion(versions[0]), AtVersion(versions[1]), events[: versions[0]], events[: versions[1]]),
        (
            OccurredAt(early), OccurredAt(late),
            [e for e in events if e.occurred_at <= early], [e for e in events if e.occurred_at <= late],
        ),
    ):  # fmt: skip
        found = acme.difference(accounts, "ann", before, after)
        was, now = flatten(folded(first)), flatten(folded(last))
        paths = {path for path in was.keys() | now.keys() if was.get(path, "—") != now.get(path, "—")}
        assert {change.path for change in found.changes} == paths
        assert (found.before.state, found.after.state) == (folded(first), folded(last))
        assert list(found.events) == [event for event in last if event not in first]
        between = {event.position for event in found.events}
        assert all(set(change.events) <= between for change in found.changes)
