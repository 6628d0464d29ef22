"""The nodes that make one broker, seen as one."""

from collections.abc import Sequence
from urllib.parse import urlencode

from everlog.testing.nats.network import Network, NoNetwork
from everlog.testing.nats.node import Node


class Cluster:
    """One node, or three of which any two go on without the third. A node is named by its number, from 0."""

    def __init__(self, nodes: Sequence[Node], network: Network | None) -> None:
        self.nodes, self._network = nodes, network

    def url(self, stream: str = "EVENTS", **options: str) -> str:
        """Where `open_broker`, a relay or `everlog worker --from` finds a stream, made when it is first used."""
        hosts = ",".join(f"{node.address.host}:{node.address.client}" for node in self.nodes)
        monitor = ",".join(f"{node.address.host}:{node.address.monitor}" for node in self.nodes)
        return f"nats://{hosts}/{stream}?{urlencode({'monitor': monitor, **options}, safe=':,')}"

    @property
    def servers(self) -> list[str]:
        """What nats-py connects to."""
        return [f"nats://{node.address.host}:{node.address.client}" for node in self.nodes]

    def start(self, *numbers: int) -> None:
        """Start these nodes, or all, and wait until the cluster has a leader; more than half must be up by then."""
        for node in self._chosen(numbers):
            node.launch()
        for node in self._chosen(numbers):
            node.wait(node.is_ready, "get ready")
        first = self._chosen(numbers)[0]
        if len(self.nodes) > 1:
            first.wait(self._has_leader, "find a leader")

    def stop(self, *numbers: int) -> None:
        for node in self._chosen(numbers):
            node.stop()

    def kill(self, *numbers: int) -> None:
        """SIGKILL for these nodes, or all."""
        for node in self._chosen(numbers):
            node.kill()

    def wipe(self, *numbers: int) -> None:
        """Remove what these nodes, or all, have stored. They must not run."""
        for node in self._chosen(numbers):
            node.wipe()

    def leader(self, stream: str) -> int | None:
        """The number of the node that leads a stream, as the others know it."""
        for node in self.nodes:
            state = node.ask("/jsz?streams=true&accounts=true") if node.is_running else None
            for account in (state or {}).get("account_details", []):
                for found in account.get("stream_detail", []):
                    name = found.get("cluster", {}).get("leader", "")
                    if found["name"] == stream and name:
                        return next(number for number, one in enumerate(self.nodes) if one.name == name)
        return None

    @property
    def network(self) -> Network:
        """What cuts its links; raises `NoNetwork` where the nodes are plain processes."""
        if self._network is None:
            raise NoNetwork("these nodes are plain processes: cutting links needs root and network namespaces")
        return self._network

    @property
    def has_network(self) -> bool:
        return self._network is not None

    def _chosen(self, numbers: Sequence[int]) -> list[Node]:
        return [self.nodes[number] for number in numbers] or list(self.nodes)

    def _has_leader(self) -> bool:
        """Whether all that run agree on one, and it sees them: before that it answers nobody."""
        answers = [node.ask("/jsz") for node in self.nodes if node.is_running]
        metas = [(answer or {}).get("meta_cluster", {}) for answer in answers]
        seen = max(sum(peer.get("current", False) for peer in meta.get("replicas") or []) for meta in metas)
        return len({meta.get("leader", "") for meta in metas}) == 1 and seen >= len(answers) - 1
