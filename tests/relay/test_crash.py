"""Relays that are killed, frozen past their lease, or two at once: the broker holds every message once, in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from everlog.relay.contract import Broker
from tests.following.parts import LEASE
from tests.relay.parts import counted, eventually, last_sequence, on_both, relay_of, shop, whole

ROOT = Path(__file__).parents[2]
POINTS = ["relay.sending", "relay.sent", "checkpoint.before_commit", "checkpoint.after_commit"]


@contextmanager
def relaying(
    url: str, broker_url: str, prefix: str, point: str, nth: int, number: str
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.relay.program", url, broker_url, prefix, point, str(nth), number]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@on_both
@pytest.mark.parametrize("point", POINTS)
def test_a_relay_that_is_killed_at_any_point_sends_nothing_twice(
    url: str, broker_url: str, prefix: str, broker: Broker, point: str
) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open() as log:
        counted(log, range(30))
        with relaying(url, broker_url, prefix, point, 1, "SIGKILL") as process:
            assert process.wait(30) == -signal.SIGKILL
        counted(log, range(30, 40))
    with platform.open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as log:
        whole(log, platform, broker)


@on_both
@pytest.mark.parametrize("point", ["relay.sending", "relay.sent"])
def test_a_relay_that_was_frozen_past_its_lease_reorders_nothing_when_it_wakes(
    url: str, broker_url: str, prefix: str, broker: Broker, point: str
) -> None:
    platform = shop(url, relay_of(prefix))
    with platform.open() as log:
        counted(log, range(30))
        with relaying(url, broker_url, prefix, point, 1, "SIGSTOP") as process:
            eventually(lambda: is_stopped(process.pid))
            sent = 30 if point == "relay.sent" else 0
            assert last_sequence(broker, prefix) == sent
            with platform.open(worker=True, relays_to=broker_url, lease_seconds=LEASE) as other:
                counted(other, range(30, 40))
                whole(other, platform, broker)
                process.send_signal(signal.SIGCONT)
                counted(other, range(40, 60))
                whole(other, platform, broker)
            counted(log, range(60, 70))  # the one that slept takes over again
            whole(log, platform, broker)
            assert last_sequence(broker, prefix) == 70


def is_stopped(pid: int) -> bool:
    return Path("/proc", str(pid), "stat").read_text().rpartition(") ")[2].startswith("T")
