"""`everlog relay`, and what `worker` and `doctor` have to do with it."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nats as nats_py
import pytest

from everlog.app.brokers import open_broker
from everlog.relay.cloudevents import read, received
from everlog.testing.nats import Cluster
from tests.cli.conftest import ended, event, fill, here, running, store, until_told
from tests.following.parts import eventually
from tests.nats.server import nats_server

SHOP = Path(__file__).with_name("relay_shop.py")
NOWHERE = "nats://127.0.0.1:1/EVENTS"


@pytest.fixture
def nats() -> Iterator[Cluster]:
    with nats_server() as cluster:
        yield cluster


@pytest.fixture
def log(folder: Path) -> Path:
    """Five orders, of which nothing has left."""
    shutil.copy(SHOP, folder / "shop.py")
    (folder / "everlog.toml").write_text('app = "shop:platform"\n')
    place(folder, *range(5))
    return folder


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Commands that run here instead of in a process of their own leave their signal handlers behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def place(folder: Path, *numbers: int) -> None:
    orders = [event(f"order-{n}", "order.placed", json.dumps({"order_id": str(n)}).encode()) for n in numbers]
    fill(folder / "shop.db", orders)


def positions(nats: Cluster) -> list[int]:
    broker = open_broker(nats.url())
    try:
        found, at = [], 0
        while (one := broker.held("orders-out", at)) is not None:
            found.append(received(read(one.message)).stored.position)
            at = one.sequence
        return found
    finally:
        broker.close()


def one_relay(**more: Any) -> Any:
    [found] = here("relay", "list", "-o", "ndjson").lines
    return found


def test_run_sends_what_there_is_and_says_how_far_it_is(log: Path, nats: Cluster) -> None:
    ran = here("relay", "run", "--once", "--broker", nats.url(), "--json")
    assert ran.code == 0, ran.err
    [told] = ran.data
    assert (told["name"], told["position"], told["lag"], told["messages"], told["trouble"]) == (
        "orders-out", "5", 0, 5, "",
    )  # fmt: skip
    assert (told["stream"], told["status"]) == ("EVENTS", "running")
    assert any("three" in warning for warning in told["warnings"])
    assert positions(nats) == [1, 2, 3, 4, 5]
    assert here("relay", "status", "orders-out").code == 0
    assert "orders-out" in here("relay", "list").out


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_the_broker_is_named_by_each_source(log: Path, nats: Cluster, source: str) -> None:
    if source == "file":
        (log / "everlog.toml").write_text(f'app = "shop:platform"\nbroker = "{nats.url()}"\n')
    line = ["--broker", nats.url()] if source == "flag" else []
    environment = {"EVERLOG_BROKER": nats.url()} if source == "environment" else {}
    assert here("relay", "run", "--once", *line, env=environment).code == 0
    assert positions(nats) == [1, 2, 3, 4, 5]


def test_a_worker_runs_the_relays_too_once_it_knows_where_the_broker_is(log: Path, nats: Cluster) -> None:
    ran = here("worker", "--once")
    assert ran.code == 0
    assert "its relays do not run here" in ran.err
    assert positions(nats) == []
    assert here("worker", "--once", "--broker", nats.url()).code == 0
    assert positions(nats) == [1, 2, 3, 4, 5]


def test_a_refill_is_done_by_the_next_who_runs_it(log: Path, nats: Cluster) -> None:
    assert here("relay", "run", "--once", "--broker", nats.url()).code == 0
    ran = here("relay", "refill", "orders-out", "--from", "4", "--json")
    assert (ran.code, ran.data) == (0, {"relay": "orders-out", "from": "4"})
    assert "2 events" in ran.err
    assert one_relay()["lag"] == 2
    assert here("relay", "run", "--once", "--broker", nats.url()).code == 0
    assert positions(nats) == [1, 2, 3, 4, 5]
    assert here("relay", "refill", "orders-out", "--json").data["from"] == "1"
    assert here("relay", "refill", "orders-out", "--from", "9").code == 2
    assert here("relay", "refill", "other").code == 3


def test_a_broker_that_is_down_is_a_finding_of_the_doctor(log: Path, nats: Cluster) -> None:
    nats.stop()
    with running("relay", "run", "--broker", nats.url(), "--report", "0.1", "--json") as relay:
        assert "cannot be reached" in until_told(relay, lambda line: "orders-out running, 5 behind (" in line)
        ran = here("relay", "status", "orders-out", "--json")
        assert (ran.code, ran.data["status"], ran.data["lag"]) == (1, "running", 5)
        assert ran.data["since"].startswith("20")
        found = here("doctor", "--json")
        assert found.code == 1
        [problem] = [one for one in found.data["findings"] if one["level"] == "problem"]
        assert "5 events behind since" in str(problem)
        nats.start()
        eventually(lambda: positions(nats) == [1, 2, 3, 4, 5])
        eventually(lambda: one_relay()["trouble"] == "")
        assert here("relay", "status", "orders-out").code == 0
        relay.terminate()
        code, out, _ = ended(relay)
    assert code == 0
    assert " behind" not in str(json.loads(out)["diagnostics"])  # what is told for months is not kept


def test_once_looks_at_the_broker_also_when_all_was_sent_before(log: Path, nats: Cluster) -> None:
    once = ("relay", "run", "--once", "--broker", nats.url())
    assert here(*once).code == 0

    async def delete() -> None:
        client = await nats_py.connect(nats.url().rpartition("/")[0])
        await client.jetstream().delete_stream("EVENTS")
        await client.close()

    asyncio.run(delete())
    assert here(*once).code == 0
    assert positions(nats) == [1, 2, 3, 4, 5]


def test_a_worker_tells_why_its_relays_wait(log: Path) -> None:
    with running("worker", "--report", "0.1", "--broker", NOWHERE) as worker:
        assert "127.0.0.1:1 cannot be reached" in until_told(worker, lambda line: "5 behind (" in line)
        worker.terminate()
        assert ended(worker)[0] == 0


@pytest.mark.parametrize("line", [["--broker", NOWHERE], ["--from", NOWHERE]])
def test_a_worker_gives_up_on_a_broker_that_is_down_too(log: Path, line: list[str]) -> None:
    shop = log / "shop.py"
    shop.write_text(shop.read_text().replace("Relay, event", "Relay, event, processor").replace("0.2))", "0.2), tell)"))
    told = shop.read_text().partition("platform =")
    shop.write_text(f'{told[0]}@processor("tell", on=Placed)\ndef tell(e):\n    pass\n\n\n{told[1]}{told[2]}')
    ran = here("worker", "--once", "--lease", "1", *line)
    assert ran.code == 7
    assert "127.0.0.1:1 cannot be reached" in ran.err


def test_a_worker_gives_up_on_a_broker_that_feeds_another_too(log: Path) -> None:
    shop = log / "shop.py"
    told = shop.read_text().replace("Relay, event", "Relay, event, processor").replace("0.2))", "0.2), tell)")
    shop.write_text(told.replace("platform =", '@processor("tell", on=Placed)\ndef tell(e):\n    pass\n\n\nplatform ='))
    with closing(store(log / "shop.db")) as kept:
        kept.checkpoints.register("tell", "processor", 1, 0)
        assert kept.checkpoints.claim("tell", "a living one", 600.0) is not None
    ran = here("worker", "--once", "--lease", "1", "--from", NOWHERE)
    assert ran.code == 7
    assert "waiting for another worker to get on with tell" in ran.err
    assert "127.0.0.1:1 cannot be reached" in ran.err


def test_a_worker_that_gives_up_on_a_broker_has_done_all_else(log: Path) -> None:
    shop = log / "shop.py"
    told = shop.read_text().replace("Relay, event", "Relay, event, processor").replace("0.2))", "0.2), tell)")
    slow = '@processor("tell", on=Placed, concurrency=1)\ndef tell(e):\n    __import__("time").sleep(0.5)\n\n\n'
    shop.write_text(told.replace("platform =", f"{slow}platform ="))
    ran = here("worker", "--once", "--lease", "0.4", "--broker", NOWHERE, "--json")
    assert ran.code == 7
    assert {one["name"]: one["position"] for one in ran.data} == {"orders-out": "0", "tell": "5"}


def test_once_gives_up_on_a_broker_that_is_down_and_says_so(log: Path) -> None:
    ran = here("relay", "run", "--once", "--lease", "1", "--broker", NOWHERE)
    assert ran.code == 7
    assert ran.err.count("cannot be reached") == 1


def test_after_so_long_without_a_sign_another_takes_over(log: Path, nats: Cluster) -> None:
    with running("relay", "run", "--broker", nats.url(), "--lease", "1") as relay:
        eventually(lambda: positions(nats) == [1, 2, 3, 4, 5])
        relay.kill()
        ended(relay)
    place(log, 5)
    began = time.monotonic()
    assert here("relay", "run", "--once", "--broker", nats.url()).code == 0
    assert positions(nats) == [1, 2, 3, 4, 5, 6]
    assert time.monotonic() - began < 6.0  # and not the 10 s that a lease takes unless told otherwise


def test_what_cannot_run_says_what_to_do(log: Path) -> None:
    assert "nothing says where the broker is" in here("relay", "run", "--once").err
    for url, why in (
        ("kafka://x/y", "names no broker everlog knows"),
        ("nats://x", "a broker is nats://host:4222"),
        ("nats://x/a.b", "a broker is nats://host:4222"),
        ("nats://x/EVENTS?monitr=y", "did you mean monitor?"),
        ("nats://x/EVENTS?replicas=9", "from 0 to 5"),
        ("nats://u:secret@x:y/EVENTS", "is not host:port"),
    ):
        ran = here("relay", "run", "--once", "--broker", url)
        assert ran.code == 2, ran.err
        assert why in ran.err
        assert "secret" not in ran.err
    assert here("relay", "status", "nobody").code == 3
