"""Trouble for a three-node broker while a relay sends to it: cut links, killed and wiped nodes (T12, T13)."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from everlog import Platform
from everlog.adapters.nats.connection import ApiError, api
from everlog.adapters.nats.streams import NO_STREAM
from everlog.app.brokers import open_broker
from everlog.relay.contract import Broker, BrokerUnavailable
from everlog.testing.nats import Cluster, running
from tests.faults.powercut import memory_directory
from tests.relay.parts import counted, relay_of, shop, whole

STREAM, PREFIX = "EVENTS", "out"
CUTS = ("leader", "follower", "relay", "deaf", "slow")
KILLS_BRIEFLY = ("kill one", "wipe one", "kill all", "wipe all")
KILLS = ("kill one", "kill all", "wipe one", "wipe all", "older copy", "delete the stream")
CALM_SECONDS = 0.3


@dataclass
class Report:
    """What happened. Latencies of appends in seconds, in calm and during trouble."""

    rounds: list[str] = field(default_factory=list)
    appended: int = 0
    calm: list[float] = field(default_factory=list)
    troubled: list[float] = field(default_factory=list)
    longest_mending: float = 0.0

    def p99(self, latencies: Sequence[float]) -> float:
        return sorted(latencies)[int(len(latencies) * 0.99)] if latencies else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.rounds)} rounds ({', '.join(sorted(set(self.rounds)))}), {self.appended} events, append p99 "
            f"{self.p99(self.calm) * 1000:.1f} ms in calm and {self.p99(self.troubled) * 1000:.1f} ms in trouble, "
            f"whole again after at most {self.longest_mending:.1f} s"
        )


class Storm:
    """One cluster, one log, one relay, and somebody who appends all the time."""

    def __init__(self, cluster: Cluster, platform: Platform, broker: Broker, seed: int) -> None:
        self.cluster, self.platform, self.broker = cluster, platform, broker
        self.random, self.report = Random(seed), Report()
        self._troubled, self._numbers = False, itertools.count(1000)

    def run(self, kinds: Sequence[str], *, seconds: float) -> Report:
        """Each kind of trouble once, for so long; after each, what is in the broker is compared with the log."""
        target = self.cluster.url(STREAM)
        with self.platform.open(worker=True, relays_to=target, lease_seconds=2.0) as log:
            counted(log, range(50))
            whole(log, self.platform, self.broker, seconds=60)
            for kind in kinds:
                self.report.rounds.append(kind)
                with self._appending(lambda number: counted(log, [number])):
                    time.sleep(CALM_SECONDS)
                    self._troubled = True
                    with self._trouble(kind):
                        time.sleep(seconds)
                    self._troubled = False
                began = time.monotonic()
                whole(log, self.platform, self.broker, seconds=90)
                self.report.longest_mending = max(self.report.longest_mending, time.monotonic() - began)
            self.report.appended = log.head().position
        return self.report

    @contextlib.contextmanager
    def _appending(self, append: Callable[[int], None]) -> Iterator[None]:
        over, failures = threading.Event(), list[BaseException]()

        def go_on() -> None:
            while not over.wait(0.005):
                began = time.perf_counter()
                try:
                    append(next(self._numbers))
                except BaseException as error:
                    failures.append(error)
                    return
                (self.report.troubled if self._troubled else self.report.calm).append(time.perf_counter() - began)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert not failures, f"an append failed: {failures[0]!r}"

    @contextlib.contextmanager
    def _trouble(self, kind: str) -> Iterator[None]:
        leader = self.cluster.leader(STREAM)
        victim = self.random.randrange(3) if leader is None else leader
        if kind == "follower":
            victim = (victim + self.random.choice((1, 2))) % 3
        if kind in CUTS:
            self._cut(kind, victim)
            try:
                yield
            finally:
                self._heal(kind, victim)
        else:
            self._harm(kind, victim)
            yield

    def _cut(self, kind: str, node: int) -> None:
        network = self.cluster.network
        match kind:
            case "relay":
                network.leave()
            case "deaf":
                network.deafen(node)
            case "slow":
                network.slow(node, 64)
            case _:
                network.cut(node)

    def _heal(self, kind: str, node: int) -> None:
        if kind == "relay":
            self.cluster.network.come_back()
        else:
            self.cluster.network.heal(node)

    def _harm(self, kind: str, node: int) -> None:
        cluster = self.cluster
        match kind:
            case "kill one" | "wipe one":
                cluster.kill(node)
                if kind == "wipe one":
                    cluster.wipe(node)
                cluster.start(node)
            case "kill all" | "wipe all":
                cluster.kill()
                if kind == "wipe all":
                    cluster.wipe()
                cluster.start()
            case "older copy":
                self._set_back()
            case _:
                self._delete_stream()

    def _set_back(self) -> None:
        """All nodes find the store that they had a while ago."""
        self.cluster.stop()
        for node in self.cluster.nodes:
            shutil.rmtree(node.folder / "older", ignore_errors=True)
            shutil.copytree(node.store, node.folder / "older")
        self.cluster.start()
        time.sleep(1.0)
        self.cluster.kill()
        self.cluster.wipe()
        for node in self.cluster.nodes:
            shutil.copytree(node.folder / "older", node.store)
        self.cluster.start()

    def _delete_stream(self) -> None:
        connection = self.broker._connection  # type: ignore[attr-defined]
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                connection.run(lambda client: api(client, f"STREAM.DELETE.{STREAM}"))
                return
            except ApiError as error:
                if error.code == NO_STREAM:
                    return
                raise
            except BrokerUnavailable:
                time.sleep(0.2)


@contextlib.contextmanager
def storm(seed: int, *, namespaces: bool) -> Iterator[Storm]:
    with memory_directory() as folder, running(3, namespaces=namespaces) as cluster:
        platform = shop(f"sqlite:///{Path(tempfile.mkdtemp(dir=folder))}/log.db", relay_of(PREFIX))
        broker = open_broker(cluster.url(STREAM))
        with contextlib.closing(broker):
            yield Storm(cluster, platform, broker, seed)
