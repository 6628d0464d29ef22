"""The mutant gate for feeding (T40): each mistake is found by the test that is named for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.powercut import memory_directory
from tests.feed import test_feeding, test_trouble
from tests.feed.conftest import broker_url, copy, nats  # noqa: F401  (fixtures of the tests that are to find it)
from tests.feed.parts import Copy
from tests.following import parts
from tests.mutants import feeding as mutants

Test = Callable[[Copy, str], None]

GATE: list[tuple[Callable[[pytest.MonkeyPatch], None], Test]] = [
    (mutants.dedup_by_broker_window_only, test_feeding.test_an_event_that_comes_again_is_not_handled_again),
    (mutants.late_is_new, test_feeding.test_an_event_that_comes_behind_later_ones_waits_for_a_person),
    (mutants.holes_are_not_seen, test_trouble.test_what_somebody_else_fetched_in_our_name_is_read_all_the_same),
    (mutants.sequences_are_trusted, test_feeding.test_a_copy_that_was_rolled_back_and_filled_again_loses_nothing),
    (
        mutants.place_is_not_kept,
        test_trouble.test_a_log_that_was_restored_stops_a_processor_until_a_person_says_what_it_shares,
    ),
]


@pytest.fixture
def url() -> Iterator[str]:
    with memory_directory() as folder:
        yield f"sqlite:///{folder}/worker.db"


@pytest.mark.parametrize(("mutant", "test"), GATE, ids=lambda value: getattr(value, "__name__", ""))
def test_the_test_that_is_named_for_a_mistake_finds_it(
    mutant: Callable[[pytest.MonkeyPatch], None],
    test: Test,
    copy: Copy,  # noqa: F811
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "SECONDS", 3.0)
    with monkeypatch.context() as patch:
        mutant(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test(copy, url)
