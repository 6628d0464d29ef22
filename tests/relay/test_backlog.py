"""Memory stays flat however far a relay is behind, and however large the events are (T20)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from everlog.relay.contract import Broker
from tests.relay.parts import Noted, relay_of, shop

ROOT = Path(__file__).parents[2]
MOST = 50_000_000


def test_a_backlog_of_large_events_takes_no_more_memory_than_a_page(
    url: str, broker_url: str, prefix: str, broker: Broker
) -> None:
    events = 500
    with shop(url, relay_of(prefix)).open() as log:
        for number in range(events // 4):
            log.tenant("acme").append(f"note-{number}", *[Noted("x" * 250_000) for _ in range(4)])
    ran = subprocess.run(
        [sys.executable, "-m", "tests.relay.backlog", url, broker_url, prefix],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(ran.stdout) < MOST, f"it grew by {int(ran.stdout):,} bytes over {events * 250_000:,}"
    assert broker.holds(prefix).messages >= events
