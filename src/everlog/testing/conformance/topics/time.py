"""Two times: `recorded_at` is the log's own and never goes back, `occurred_at` is the caller's and kept as given."""

import pytest

from everlog.core.clock import moment
from everlog.store.contract import Store
from everlog.testing.conformance.events import DAY, SettableClock, append, everything, new_event, request


def test_an_event_is_recorded_at_the_time_of_the_clock(store: Store, clock: SettableClock) -> None:
    assert append(store).recorded_at == clock.now
    clock.now += 5
    assert append(store).recorded_at == clock.now
    assert store.head().recorded_at == clock.now


def test_recorded_at_never_decreases_even_if_the_clock_jumps_back_a_day(store: Store, clock: SettableClock) -> None:
    began = clock.now
    jumps = (0, 7, -DAY, -DAY + 1, 3, 7, 8, 365 * DAY, 9)
    recorded = []
    for jump in jumps:
        clock.now = began + jump
        recorded.append(append(store).recorded_at - began)
    assert recorded == [0, 7, 7, 7, 7, 7, 8, 365 * DAY, 365 * DAY]
    assert [event.recorded_at - began for event in everything(store)] == recorded


def test_all_events_of_a_batch_are_recorded_at_once(store: Store) -> None:
    done = append(store, new_event("a"), new_event("b"), new_event("c"))
    assert {event.recorded_at for event in everything(store)} == {done.recorded_at}


def test_an_event_that_claims_no_time_occurred_when_it_was_recorded(store: Store, clock: SettableClock) -> None:
    append(store)
    clock.now -= DAY
    append(store)
    assert [event.occurred_at for event in everything(store)] == [event.recorded_at for event in everything(store)]


@pytest.mark.parametrize("claimed", [0, 1, -62_135_596_800_000_000, 253_402_300_799_999_999])
def test_a_claimed_time_is_kept_as_it_is(store: Store, claimed: int) -> None:
    append(store, new_event(occurred_at=claimed))
    (event,) = everything(store)
    assert event.occurred_at == claimed
    assert moment(event.occurred_at).year in (1, 1970, 9999)


def test_claimed_times_need_not_follow_the_order_of_the_log(store: Store) -> None:
    verdicts = store.append_each([request(new_event(occurred_at=at)) for at in (30, 10, 20)])
    assert len(verdicts) == 3
    assert [event.occurred_at for event in everything(store)] == [30, 10, 20]


def test_a_clock_over_a_minute_behind_the_log_is_reported(store: Store, clock: SettableClock) -> None:
    append(store)
    clock.now -= 60_000_000
    (fine,) = [finding for finding in store.examine() if finding.check == "clock"]
    assert fine.level == "ok"
    clock.now -= 1
    (warning,) = [finding for finding in store.examine() if finding.check == "clock"]
    assert (warning.level, bool(warning.advice)) == ("warning", True)
