"""From nothing to a running broker: folders, addresses, nodes."""

import contextlib
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from everlog.testing.nats.binaries import find_server
from everlog.testing.nats.cluster import Cluster
from everlog.testing.nats.network import Network, NoNetwork, network
from everlog.testing.nats.node import Address, Node

TEMPORARY = Path("/var/tmp")  # on disk also where /tmp is memory
CLIENT, ROUTES, MONITOR = 4222, 6222, 8222


@contextlib.contextmanager
def running(
    nodes: int = 1, *, folder: Path | None = None, namespaces: bool | None = False, sync_interval: str = "always"
) -> Iterator[Cluster]:
    """A broker of so many nodes while the block runs; without a folder it is new, and removed afterwards.

    With `namespaces` each node is in a network of its own, so that links can be cut; raises `NoNetwork` where the
    machine does not allow it, and with `None` starts plain processes there. Raises `NatsNotFound`.
    """
    program = find_server()
    home = Path(tempfile.mkdtemp(prefix="everlog-nats-", dir=TEMPORARY)) if folder is None else folder.absolute()
    with contextlib.ExitStack() as end:
        if folder is None:
            end.callback(shutil.rmtree, home, ignore_errors=True)
        cut = _network(end, nodes, namespaces)
        addresses = [_address(cut, number) for number in range(nodes)]
        made = [
            Node(
                f"n{number + 1}",
                home / f"n{number + 1}",
                program,
                address,
                routes=addresses if nodes > 1 else (),
                sync_interval=sync_interval,
                temporary=folder is None,
                inside=cut.inside(number) if cut else (),
            )
            for number, address in enumerate(addresses)
        ]
        cluster = Cluster(made, cut)
        end.callback(cluster.kill if folder is None else cluster.stop)
        cluster.start()
        yield cluster


def _network(end: contextlib.ExitStack, nodes: int, namespaces: bool | None) -> Network | None:
    if namespaces is False:
        return None
    try:
        return end.enter_context(network(nodes))
    except NoNetwork:
        if namespaces:
            raise
        return None


def _address(cut: Network | None, number: int) -> Address:
    if cut is not None:
        return Address(cut.host(number), CLIENT, ROUTES, MONITOR)
    return Address("127.0.0.1", *_free_ports(3))


def _free_ports(count: int) -> tuple[int, ...]:
    """Such that no client is given one by chance while its server is down."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return tuple(found)
