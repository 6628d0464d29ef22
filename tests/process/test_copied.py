"""A log that is moved takes its processes along: what was set before fires after, once."""

from __future__ import annotations

import pytest

from everlog import TimerFired
from everlog.app.copying import copy_log
from everlog.process import timers
from tests.copying.conftest import Place, place
from tests.process.parts import MINUTE, Clock, Placed, quiet, shipping, types

__all__ = ["place"]


@pytest.mark.parametrize(("source", "target"), [("file", "pg"), ("pg", "file")])
def test_timers_go_along_and_fire_where_the_log_went(place: Place, source: str, target: str) -> None:
    clock = Clock()
    with shipping().open(place(source), worker=True, lease_seconds=0.4, clock=clock) as log:
        log.tenant("acme").append("order-p", Placed("p"))
        quiet(log, clock)
        clock.now += 10 * MINUTE
        quiet(log, clock)
        before = list(timers.every(log.store.timers))
    copy_log(place(source), place(target))
    with shipping().open(place(target)) as log:
        assert list(timers.every(log.store.timers)) == before
    with shipping().open(place(target), worker=True, lease_seconds=0.4, clock=clock) as log:
        clock.now += 10 * MINUTE
        quiet(log, clock)
        assert len(list(log.tenant("acme").events(TimerFired))) == 2
        assert types(log, "parcel-p").count("process.expectation_missed") == 1
