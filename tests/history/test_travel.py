"""Time travel: the state at a version, a position, a time of recording or of occurrence; now, if nothing is said."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from everlog import AtPosition, AtVersion, InvalidInput, Log, Money, OccurredAt, RecordedAt
from tests.command.sides import FAST
from tests.history.ledger import Account, Address, Booked, Clock, Moved, Opened, accounts, hours, platform

ANN, BERN, ROME = Opened("ann", "Bern"), Moved("Bern"), Moved("Rome")


def cents(minor: int, text: str = "") -> Booked:
    return Booked("ann", Money(minor, "EUR"), text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> Iterator[Log]:
    """An event an hour from midnight on, of two accounts in turn: ann's are at the positions 1, 3, 5 and 7."""
    with platform.open(f"memory:{FAST}", clock=clock) as log:
        acme = log.tenant()
        for event in (ANN, cents(1), cents(2), ROME):
            acme.execute(accounts, "ann", event)
            clock.forward(minutes=30)
            acme.execute(accounts, "bob", Opened("bob"))
            clock.forward(minutes=30)
        yield log


def seen(*events: Opened | Booked | Moved) -> Account:
    state = Account()
    for event in events:
        state = accounts.evolve(state, event)
    return state


STATES = [seen(), seen(ANN), seen(ANN, cents(1)), seen(ANN, cents(1), cents(2)), seen(ANN, cents(1), cents(2), ROME)]


def test_without_a_point_it_is_the_state_now(log: Log) -> None:
    assert log.tenant().state(accounts, "ann") == STATES[4]


@pytest.mark.parametrize("version", range(6))
def test_at_a_version_of_its_stream(log: Log, version: int) -> None:
    assert log.tenant().state(accounts, "ann", at=AtVersion(version)) == STATES[min(version, 4)]


@pytest.mark.parametrize("position", range(10))
def test_at_a_position_of_the_log(log: Log, position: int) -> None:
    expected = STATES[min((position + 1) // 2, 4)]
    assert log.tenant().state(accounts, "ann", at=AtPosition(position)) == expected
    assert log.tenant().state(accounts, "ann", at=position) == expected


@pytest.mark.parametrize(("hour", "version"), [(-1, 0), (0, 1), (0.9, 1), (1, 2), (1.5, 2), (2, 3), (3, 4), (99, 4)])
def test_at_a_time_it_is_what_was_recorded_by_then(log: Log, hour: float, version: int) -> None:
    assert log.tenant().state(accounts, "ann", at=RecordedAt(hours(hour))) == STATES[version]


def test_a_time_is_inclusive_to_the_microsecond(log: Log) -> None:
    just_before = hours(1) - timedelta(microseconds=1)
    acme = log.tenant()
    assert acme.state(accounts, "ann", at=RecordedAt(just_before)) == STATES[1]
    assert acme.state(accounts, "ann", at=OccurredAt(just_before)) == STATES[1]
    assert acme.state(accounts, "ann", at=RecordedAt(hours(1))) == STATES[2]
    assert acme.state(accounts, "ann", at=OccurredAt(hours(1))) == STATES[2]


def test_a_time_may_be_given_in_any_zone(log: Log) -> None:
    east = hours(1).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert log.tenant().state(accounts, "ann", at=RecordedAt(east)) == STATES[2]


def test_an_event_told_late_counts_from_when_it_occurred_not_from_when_it_was_known(log: Log, clock: Clock) -> None:
    acme = log.tenant()
    acme.append("account-ann", cents(-1, "refund"), occurred_at=hours(0.5))
    refund = cents(-1, "refund")
    at = {hour: acme.state(accounts, "ann", at=OccurredAt(hours(hour))) for hour in (0.4, 0.5, 1, 3)}
    assert at[0.4] == seen(ANN)
    assert at[0.5] == seen(ANN, refund)
    assert at[1] == seen(ANN, cents(1), refund)  # folded in the order of the log
    assert at[3] == seen(ANN, cents(1), cents(2), ROME, refund)
    assert acme.state(accounts, "ann", at=RecordedAt(hours(3.9))) == STATES[4]
    assert acme.state(accounts, "ann", at=RecordedAt(clock.now)) == at[3]


def test_an_event_from_before_all_others_is_there_alone(log: Log) -> None:
    acme = log.tenant()
    acme.append("account-ann", ROME, occurred_at=hours(-100))
    assert acme.state(accounts, "ann", at=OccurredAt(hours(-1))) == seen(ROME)
    assert acme.state(accounts, "ann", at=OccurredAt(hours(-101))) == Account()


def test_an_event_of_the_future_does_not_count_yet(log: Log, clock: Clock) -> None:
    acme = log.tenant()
    acme.append("account-ann", BERN, occurred_at=hours(1000))
    assert acme.state(accounts, "ann", at=OccurredAt(hours(999))) == STATES[4]
    assert acme.state(accounts, "ann", at=OccurredAt(hours(1000))) == seen(ANN, cents(1), cents(2), ROME, BERN)
    assert acme.state(accounts, "ann", at=RecordedAt(clock.now)) == seen(ANN, cents(1), cents(2), ROME, BERN)


def test_a_snapshot_that_folded_a_later_occurrence_is_not_used_for_an_earlier_time(log: Log) -> None:
    acme = log.tenant()
    acme.append("account-ann", BERN, occurred_at=hours(50))
    acme.execute(accounts, "ann", cents(9))  # and writes a snapshot whose greatest time of occurrence is hour 50
    newest = max(log.store.snapshots.all("default", "account-ann"), key=lambda one: one.version)
    assert newest.version == 6
    expected = seen(ANN, cents(1), cents(2), ROME, cents(9))
    assert acme.state(accounts, "ann", at=OccurredAt(hours(49))) == expected
    assert acme.state(accounts, "ann", at=OccurredAt(hours(50))) == seen(ANN, cents(1), cents(2), ROME, BERN, cents(9))


def test_a_snapshot_of_earlier_occurrences_is_used(log: Log) -> None:
    acme = log.tenant()
    [oldest, *_] = log.store.snapshots.all("default", "account-ann")
    log.store.snapshots.delete(None)
    log.store.snapshots.save(oldest._replace(state=oldest.state.replace(b'"ann"', b'"eve"')))
    told = acme.state(accounts, "ann", at=OccurredAt(hours(2)))
    assert told == replace(STATES[3], owner="eve")  # so it was read from there
    assert acme.state(accounts, "ann", at=OccurredAt(hours(0))) == STATES[1]


def test_what_never_was_has_the_state_of_the_beginning_at_any_time(log: Log) -> None:
    for at in (None, 0, 99, AtVersion(3), RecordedAt(hours(1)), OccurredAt(hours(1))):
        assert log.tenant().state(accounts, "nobody", at=at) == Account()
    assert Account().address == Address()


@pytest.mark.parametrize("at", [-1, AtPosition(-1), AtVersion(-1)])
def test_before_the_beginning_there_is_nothing(log: Log, at: AtPosition | AtVersion | int) -> None:
    with pytest.raises(InvalidInput, match="lies before the beginning: positions and versions are 0 or more"):
        log.tenant().state(accounts, "ann", at=at)


@pytest.mark.parametrize("point", [RecordedAt, OccurredAt])
def test_a_time_without_a_zone_is_no_time(point: type[RecordedAt | OccurredAt]) -> None:
    with pytest.raises(InvalidInput, match="has no time zone"):
        point(datetime(2026, 11, 24))  # noqa: DTZ001
