"""The whole road under fire, in small: append, relay through a cluster, consume, and kill all the time.

A million by hand: `python -m benchmarks.endurance --events 1000000 --json`.
"""

import os

from benchmarks.endurance import run

EVENTS = int(os.environ.get("EVERLOG_ENDURANCE_EVENTS", "100000"))


def test_every_event_has_its_effect_once_and_in_order_whatever_is_killed() -> None:
    report = run(EVENTS)
    assert (report.appended, report.effects) == (EVENTS, EVENTS)
    assert (report.missing, report.doubled, report.out_of_order) == (0, 0, 0)
    assert report.kills >= 3, report
