"""Each node in a network namespace of its own, joined by a bridge, so that a test can cut one link and no other."""

import contextlib
import fcntl
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from everlog.testing.watching import watch

LOCKS = Path("/var/tmp")
NETWORKS = 200
NOBODY = "02:00:00:00:00:01"  # the hardware address of no node: what is sent there is heard by none

# Whoever reads end of file is alone: take down what its owner set up.
WATCH = """
read -r _
for name in $2; do ip netns delete "$name"; done
ip link delete "$1"
"""


class NoNetwork(Exception):
    """This machine does not let us make network namespaces, or this cluster was started without them."""


class Network:
    """Namespaces `ev{number}n1`, … on bridge `ev{number}`, with addresses 10.77.{number}.1 and so on; we are .254.

    Packets are dropped, never refused: a cut looks to both ends as if the other had fallen silent.
    """

    def __init__(self, number: int, nodes: int) -> None:
        self._bridge, self._subnet = f"ev{number}", f"10.77.{number}"
        self._nodes = nodes

    def host(self, node: int) -> str:
        return f"{self._subnet}.{node + 1}"

    def inside(self, node: int) -> list[str]:
        """The command that runs another one in a node's namespace."""
        return ["ip", "netns", "exec", self._name(node)]

    def cut(self, node: int) -> None:
        """Nothing reaches this node or leaves it."""
        _ip("link", "set", self._link(node), "down")

    def deafen(self, node: int) -> None:
        """This node still sends, and receives nothing."""
        for neighbours in self._neighbours(node):
            _ip(*neighbours, "replace", self.host(node), "lladdr", NOBODY, "dev", self._device(neighbours))

    def slow(self, node: int, kbit: int) -> None:
        """So little reaches this node in a second."""
        if shutil.which("tc") is None:
            raise NoNetwork("this machine has no `tc` (Debian: iproute2)")
        shape = ("tbf", "rate", f"{kbit}kbit", "burst", "3000", "limit", "60000")
        _run("tc", "qdisc", "replace", "dev", self._link(node), "root", *shape)

    def heal(self, node: int) -> None:
        """Undo `cut`, `deafen` and `slow`."""
        subprocess.run(["tc", "qdisc", "delete", "dev", self._link(node), "root"], capture_output=True)
        for neighbours in self._neighbours(node):
            device = self._device(neighbours)
            subprocess.run(["ip", *neighbours, "delete", self.host(node), "dev", device], capture_output=True)
        _ip("link", "set", self._link(node), "up")

    def leave(self) -> None:
        """Cut this machine, where the clients are, from every node; the nodes still see each other."""
        _ip("address", "delete", f"{self._subnet}.254/24", "dev", self._bridge)

    def come_back(self) -> None:
        """Undo `leave`."""
        _ip("address", "replace", f"{self._subnet}.254/24", "dev", self._bridge)

    def set_up(self) -> None:
        self.take_down()
        _ip("link", "add", self._bridge, "type", "bridge")
        self.come_back()
        _ip("link", "set", self._bridge, "up")
        for node in range(self._nodes):
            name, link = self._name(node), self._link(node)
            _ip("netns", "add", name)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", link, "master", self._bridge, "up")
            for command in (
                ("address", "add", f"{self.host(node)}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", name, *command)

    def take_down(self) -> None:
        """Also what somebody left behind who was killed."""
        for node, name in enumerate(self.names()):
            # By itself it would go some time after its namespace, and be in the way of whoever is next.
            subprocess.run(["ip", "link", "delete", self._link(node)], capture_output=True)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True)

    def names(self) -> list[str]:
        return [self._name(node) for node in range(self._nodes)]

    def watch(self) -> "subprocess.Popen[bytes]":
        """Take it down when this process ends without doing so."""
        return watch(WATCH, self._bridge, " ".join(self.names()))

    def _neighbours(self, node: int) -> list[list[str]]:
        """What changes how the others, and we, find a node on the wire."""
        others = [["-n", name, "neighbour"] for number, name in enumerate(self.names()) if number != node]
        return [["neighbour"], *others]

    def _device(self, neighbours: Sequence[str]) -> str:
        return "eth0" if "-n" in neighbours else self._bridge

    def _name(self, node: int) -> str:
        return f"{self._bridge}n{node + 1}"

    def _link(self, node: int) -> str:
        return f"{self._bridge}v{node + 1}"


@contextlib.contextmanager
def network(nodes: int) -> Iterator[Network]:
    """A network of our own, removed afterwards; raises `NoNetwork` with the reason."""
    if shutil.which("ip") is None:
        raise NoNetwork("this machine has no `ip` (Debian: iproute2)")
    with _number() as number:
        made = Network(number, nodes)
        made.set_up()
        watcher = made.watch()
        try:
            yield made
        finally:
            watcher.kill()
            watcher.communicate()
            made.take_down()


@contextlib.contextmanager
def _number() -> Iterator[int]:
    """A number that no other process has, for as long as the block runs."""
    for number in range(NETWORKS):
        with contextlib.ExitStack() as kept:
            try:
                file: IO[bytes] = kept.enter_context((LOCKS / f"everlog-network-{number}.lock").open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield number
            return
    raise NoNetwork(f"{NETWORKS} networks are in use")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NoNetwork(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
