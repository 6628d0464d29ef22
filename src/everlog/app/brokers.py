"""Which adapter serves a broker's URL, imported only where one is used."""

from importlib.util import find_spec
from urllib.parse import urlsplit

from everlog.app.stores import shown
from everlog.core.errors import Misconfigured
from everlog.relay.contract import Broker


def open_broker(url: str) -> Broker:
    """A broker that is connected when it is first asked: `nats://host:4222/STREAM`. Raises `Misconfigured`."""
    if url.partition(":")[0] not in ("nats", "tls"):
        raise Misconfigured(f"{shown(url)!r} names no broker everlog knows: write nats://host:4222/STREAM")
    if find_spec("nats") is None:
        raise Misconfigured("a broker at nats:// needs nats-py: pip install everlog[nats]")
    from everlog.adapters.nats import NatsBroker, NatsSettings

    return NatsBroker(NatsSettings.from_url(url))


def in_stream(url: str, stream: str) -> str:
    """The same broker, and another stream of it."""
    return urlsplit(url)._replace(path=f"/{stream}").geturl()
