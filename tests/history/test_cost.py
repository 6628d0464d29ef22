"""One aggregate at a time does not get slower with the size of the log."""

import sqlite3
from pathlib import Path

from tests.command.sides import FAST
from tests.history.cost import EVENTS, SMALLEST, cost_of_travel, counting_steps, platform


def test_looking_back_at_one_aggregate_costs_as_much_in_a_log_of_ten_thousand_as_of_a_hundred_thousand(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    small, large = cost_of_travel(SMALLEST, path), cost_of_travel(10 * SMALLEST, path)
    assert small.keys() == large.keys()
    assert min(small.values()) > 10
    dearer = {look: (small[look], large[look]) for look in small if large[look] > small[look] + 50}
    assert dearer == {}
    # A snapshot spares folding, and so reading, what lies before it.
    assert large["account at None"] < large["ledger at None"] / 2
    assert large["ledger at None"] < 60 * EVENTS


def test_the_counter_sees_what_a_look_at_the_whole_log_costs(tmp_path: Path) -> None:
    """The ruler is tried on something that does grow."""
    path, costs = tmp_path / "log.db", []
    for size in (SMALLEST, 2 * SMALLEST):
        cost_of_travel(size, path)
        with counting_steps() as steps, platform.open(f"sqlite:///{path}{FAST}") as log:
            costs.append(steps(lambda: list(log.tenant().audit(named=["account.booked"]))))
            costs.append(steps(lambda: list(log.tenant().audit(ip="10.0.0.1"))))
    booked_small, scan_small, booked_large, scan_large = costs
    assert scan_large > 1.8 * scan_small
    assert booked_large < booked_small + 50  # driven by its index


def test_the_counter_leaves_sqlite_as_it_was() -> None:
    before = sqlite3.connect
    with counting_steps():
        assert sqlite3.connect is not before
    assert sqlite3.connect is before
