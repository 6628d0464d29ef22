"""A three-node broker whose links are cut and whose nodes are killed while a relay sends (T12, T13)."""

from __future__ import annotations

import pytest

from everlog.testing.nats import NoNetwork
from tests.nats.server import told_without_nats
from tests.relay.storm import CUTS, KILLS_BRIEFLY, storm

SLOW = 0.1  # seconds: what an append may take at most in trouble, on a machine that tests on all its cores


def test_cut_links_lose_nothing_and_slow_no_append(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        with told_without_nats(), storm(1, namespaces=True) as one:
            report = one.run(CUTS, seconds=3.0)
    except NoNetwork as reason:
        pytest.skip(f"CUT LINKS NOT TESTED: {reason}")
    with capsys.disabled():
        print(f"\n{report}")
    assert report.p99(report.troubled) < max(SLOW, 5 * report.p99(report.calm)), str(report)


def test_killed_wiped_and_set_back_nodes_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with told_without_nats(), storm(2, namespaces=False) as one:
        report = one.run(KILLS_BRIEFLY, seconds=0.5)
    with capsys.disabled():
        print(f"\n{report}")
    assert len(report.rounds) == len(KILLS_BRIEFLY)
