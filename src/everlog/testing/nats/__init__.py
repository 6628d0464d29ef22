"""A real NATS server with JetStream for tests and development, from a wheel, alone or three in a cluster.

`with running() as broker:` gives one node and removes it; `running(3)` a cluster; `running(folder=Path("data"))` keeps
what is in it. Every acknowledged message is synced to disk (`sync_interval: always`) unless told otherwise.
"""

from everlog.testing.nats.binaries import NatsNotFound
from everlog.testing.nats.cluster import Cluster
from everlog.testing.nats.network import NoNetwork
from everlog.testing.nats.node import NatsFailed, Node
from everlog.testing.nats.running import running

__all__ = ["Cluster", "NatsFailed", "NatsNotFound", "NoNetwork", "Node", "running"]
