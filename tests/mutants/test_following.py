"""The mutant gate for following the log (T40): each mistake is found by the test that is named for it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from everlog import Platform
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.app.stores import open_store
from everlog.testing.conformance.following import SettableLease, fences
from tests.faults.powercut import memory_directory
from tests.following import parts, test_processors, test_projections, test_subscriptions
from tests.following.parts import Counted, Noted
from tests.following.test_properties import Lanes
from tests.mutants import following as mutants

Mutant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[Path], None]

# A test that finds something raises one of these; that which nobody raised is no find.
FOUND = (AssertionError, pytest.fail.Exception)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with memory_directory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


def conforms(test: Callable[..., None]) -> Check:
    """A test of the conformance suite, on SQLite."""

    def check(folder: Path) -> None:
        lease = SettableLease()
        names = test.__code__.co_varnames[: test.__code__.co_argcount]
        with closing(SqliteStore(SqliteSettings(folder / "log.db"), lease_clock=lease)) as store:
            given: dict[str, Any] = {"following": store, "lease": lease}
            test(**{name: given[name] for name in names})

    return check


def on_platforms(test: Callable[..., None], *more: object) -> Check:
    """A test that opens platforms on one file."""

    def check(folder: Path) -> None:
        test(lambda *parts: Platform(f"sqlite:///{folder}/log.db", Counted, Noted, *parts), *more)

    return check


def follows(test: Callable[..., None]) -> Check:
    """A test of subscriptions, on a log in memory."""

    def check(folder: Path) -> None:
        with closing(open_store("memory:")) as backend:
            test(backend)

    return check


def machine(folder: Path) -> None:
    """The property of processors; a find is enough, it need not be made small."""
    run_state_machine_as_test(
        Lanes,
        settings=settings(
            max_examples=150, stateful_step_count=30, deadline=None, database=None, derandomize=True,
            phases=[Phase.generate], report_multiple_bugs=False,
        ),
    )  # fmt: skip


GATE: list[tuple[Mutant, Check]] = [
    (mutants.checkpoint_before_effect, conforms(fences.test_neither_is_there_when_the_block_raises)),
    (
        mutants.checkpoint_before_handlers,
        on_platforms(test_processors.test_a_stop_lets_what_is_in_hand_finish_and_begins_nothing),
    ),
    (mutants.checkpoint_before_handlers, machine),
    (
        mutants.swallow_handler_errors,
        on_platforms(test_processors.test_any_other_error_is_tried_so_often_and_then_parked, ValueError("boom")),
    ),
    (mutants.swallow_handler_errors, machine),
    (
        mutants.swallow_projection_errors,
        on_platforms(test_projections.test_an_event_its_upcaster_fails_on_is_never_passed_over),
    ),
    (mutants.no_fencing, conforms(fences.test_an_owner_that_was_replaced_keeps_nothing)),
    (mutants.wake_up_without_poll, follows(test_subscriptions.test_with_every_hint_lost_an_event_costs_a_poll)),
    (
        mutants.park_drops_later_events,
        on_platforms(test_processors.test_the_later_events_of_a_parked_key_are_parked_in_order),
    ),
    (mutants.park_drops_later_events, machine),
]


@pytest.mark.parametrize(("mutant", "check"), GATE, ids=lambda value: getattr(value, "__name__", ""))
def test_the_test_that_is_named_for_a_mistake_finds_it(
    mutant: Mutant, check: Check, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SECONDS", 2.0)
    with monkeypatch.context() as patch:
        mutant(patch)
        with pytest.raises(FOUND):
            check(folder)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("everlog-tally")] == []
