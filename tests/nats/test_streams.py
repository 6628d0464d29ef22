"""The stream that a relay writes: made as it should be, and refused where it cannot do."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from everlog.adapters.nats import NatsBroker, NatsSettings
from everlog.adapters.nats.connection import api
from everlog.core.errors import Misconfigured
from everlog.relay.contract import BrokerMoved, BrokerUnavailable, Consumer, Message
from everlog.testing.nats import Cluster
from tests.nats.server import nats_server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def nats() -> Iterator[Cluster]:
    with nats_server() as cluster:
        yield cluster


@pytest.fixture
def name() -> str:
    return f"s{next(_numbers)}"


def ask(broker: NatsBroker, subject: str, request: object = None) -> Any:
    return broker._connection.run(lambda client: api(client, subject, request))


def opened(nats: Cluster, name: str, **options: str) -> Any:
    return closing(NatsBroker(NatsSettings.from_url(nats.url(name.upper(), **options))))


def test_a_stream_is_made_for_keeping(nats: Cluster, name: str) -> None:
    with opened(nats, name) as broker:
        broker.holds(name)
        config = ask(broker, f"STREAM.INFO.{name.upper()}")["config"]
    assert (config["storage"], config["retention"], config["allow_atomic"]) == ("file", "limits", True)
    assert (config["max_age"], config["max_bytes"], config["subjects"]) == (0, -1, [f"{name}.>"])


def test_limits_of_the_url_are_those_of_the_stream(nats: Cluster, name: str) -> None:
    with opened(nats, name, max_age="60", max_bytes="100000") as broker:
        assert broker.holds(name).forgets
        config = ask(broker, f"STREAM.INFO.{name.upper()}")["config"]
    assert (config["max_age"], config["max_bytes"]) == (60_000_000_000, 100_000)


def test_over_a_new_connection_nothing_is_published_before_a_look(nats: Cluster, name: str) -> None:
    """Else a stream that was made anew meanwhile, and by chance is as long, would take what follows in the old one."""
    with opened(nats, name) as broker:
        broker.holds(name)
        assert broker.publish_batch(name, [Message(f"{name}.a", "1", {}, b"{}")], after=0) == 1
        broker._connection.run(lambda client: client.close())
        with pytest.raises(BrokerMoved, match="to be looked at first"):
            broker.publish_batch(name, [Message(f"{name}.a", "2", {}, b"{}")], after=1)
        broker.holds(name)
        assert broker.publish_batch(name, [Message(f"{name}.a", "2", {}, b"{}")], after=1) == 2


def test_the_look_of_one_relay_is_none_of_another(nats: Cluster, name: str) -> None:
    with opened(nats, name) as broker:
        for prefix in (f"{name}a", f"{name}b"):
            broker.holds(prefix)
        broker._connection.run(lambda client: client.close())
        broker.holds(f"{name}a")
        with pytest.raises(BrokerMoved, match="to be looked at first"):
            broker.publish_batch(f"{name}b", [Message(f"{name}b.x", "1", {}, b"{}")], after=0)


def test_a_server_without_tls_is_refused_where_the_url_says_tls(nats: Cluster, name: str) -> None:
    url = nats.url(name.upper()).replace("nats://", "tls://ann:secret@")
    with closing(NatsBroker(NatsSettings.from_url(url))) as broker, pytest.raises(Misconfigured, match="insist on TLS"):
        broker.holds(name)


def test_a_password_is_not_told_to_a_server_without_tls() -> None:
    info = b'INFO {"server_id":"x","version":"2.12.0","auth_required":true,"tls_available":true}\r\n'
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as beside:

        def told() -> bytes:
            caller, _ = server.accept()
            with caller:
                caller.sendall(info)
                return caller.makefile("rb").read()

        heard = beside.submit(told)
        url = f"tls://ann:secret@127.0.0.1:{server.getsockname()[1]}/S"
        with closing(NatsBroker(NatsSettings.from_url(url))) as broker, pytest.raises(Misconfigured):
            broker.holds("s")
        assert heard.result(10) == b""


def test_more_replicas_than_nodes_wait_for_nodes(nats: Cluster, name: str) -> None:
    with opened(nats, name, replicas="3") as broker, pytest.raises(BrokerUnavailable, match="cannot be made"):
        broker.holds(name)


@pytest.mark.parametrize(
    ("config", "why"),
    [({"allow_atomic": True, "subjects": ["other{name}.>"]}, "add that to its subjects"), ({}, "takes no batches")],
)
def test_a_stream_of_somebody_else_is_used_as_it_is_or_not_at_all(
    nats: Cluster, name: str, config: dict[str, Any], why: str
) -> None:
    subjects = [one.format(name=name) for one in config.get("subjects", [f"{name}.>"])]
    with opened(nats, name) as broker:
        ask(broker, f"STREAM.CREATE.{name.upper()}", {"name": name.upper(), **config, "subjects": subjects})
        with pytest.raises(Misconfigured, match=why):
            broker.holds(name)
        ask(broker, f"STREAM.DELETE.{name.upper()}")
        wide = {"name": name.upper(), "subjects": [f"{name}.>"], "allow_atomic": True}
        ask(broker, f"STREAM.CREATE.{name.upper()}", wide)
        assert broker.holds(name).messages == 0


def test_a_long_duplicate_window_is_waited_out_with_the_reason(nats: Cluster, name: str) -> None:
    message = [Message(f"{name}.a.b.c", "id1", {}, b"{}")]
    with opened(nats, name) as broker:
        config = {"name": name.upper(), "subjects": [f"{name}.>"], "allow_atomic": True}
        ask(broker, f"STREAM.CREATE.{name.upper()}", {**config, "duplicate_window": 60_000_000_000})
        assert broker.publish_batch(name, message, after=0) == 1
        broker.cut(name, 0)
        for batch in (message, [*message, Message(f"{name}.a.b.c", "id2", {}, b"{}")]):
            with pytest.raises(BrokerUnavailable, match="dupe-window 100ms"):
                broker.publish_batch(name, batch, after=0)


def test_what_is_larger_than_the_broker_takes_is_named_before_anything_is_sent(nats: Cluster, name: str) -> None:
    small, large = Message(f"{name}.a.b.c", "id1", {}, b"x"), Message(f"{name}.a.b.c", "id2", {"ce-position": "7"}, b"")
    large = replace(large, body=b"x" * 2**20)
    with opened(nats, name) as broker:
        broker.holds(name)
        with pytest.raises(
            Misconfigured, match=r"id2, the event at position 7, has 1,048,\d+ bytes.*raise max_payload"
        ):
            broker.publish_batch(name, [small, large], after=0)
        assert broker.holds(name).messages == 0


def test_credentials_need_a_package_that_says_so(nats: Cluster, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everlog.adapters.nats.connection.find_spec", lambda name: None)
    with opened(nats, name, credentials="us.creds") as broker, pytest.raises(Misconfigured, match="pip install nkeys"):
        broker.holds(name)


def test_large_batches_go_in_parts(nats: Cluster, name: str) -> None:
    def some(count: int, size: int, first: int) -> list[Message]:
        return [Message(f"{name}.a.b.c", f"id{first + n}", {}, b"x" * size) for n in range(count)]

    with opened(nats, name) as broker:
        broker.holds(name)
        assert broker.publish_batch(name, some(1201, 10, 0), after=0) == 1201
        assert broker.publish_batch(name, some(40, 250_000, 2000), after=1201) == 1241


def test_a_message_that_cannot_be_fetched_is_said_so(nats: Cluster, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another server of the cluster takes larger ones."""
    reader = Consumer("mails", (f"{name}.>",))
    with opened(nats, name) as broker:
        broker.holds(name)
        broker.publish_batch(name, [Message(f"{name}.a.b.c", "id1", {}, b"x" * 1000)], after=0)
        monkeypatch.setattr("everlog.adapters.nats.receiving._AROUND", 500 - 2**20)
        with pytest.raises(BrokerUnavailable, match=r"larger than 500 bytes.*max_payload"):
            broker.fetch(reader, limit=10, max_bytes=10, wait=1)
        monkeypatch.undo()
        assert len(broker.fetch(reader, limit=10, max_bytes=10, wait=5)) == 1


def test_a_letter_is_dead_once_with_its_reason(nats: Cluster, name: str) -> None:
    reader = Consumer("mails.a", (f"{name}.>",))
    with opened(nats, name) as broker:
        broker.holds(name)
        broker.publish_batch(name, [Message(f"{name}.a.b.c", "id1", {"ce-id": "x"}, b"{}")], after=0)
        assert broker.dead_letters() == []
        [letter] = broker.fetch(reader, limit=5, max_bytes=1000, wait=5)
        for _ in range(2):  # a crash between
            broker.dead_letter(reader, letter, "no such\norder")
        [dead] = broker.dead_letters("mails.a")
        assert (dead.reason, dead.consumer, dead.log, dead.original) == ("no such order", "mails.a", "", 1)
        assert dead.message == Message(f"{name}.a.b.c", "id1", {"ce-id": "x"}, b"{}")
        assert broker.dead_letters("others") == []
        assert broker.pending(reader) == 0
