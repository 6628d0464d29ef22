"""`everlog worker --from` and what a person does about it, at a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest

from everlog import Platform
from everlog.relay.contract import Consumer, Delivered
from tests.cli.conftest import PROGRAM, Ran, ended, running, until_told
from tests.feed.parts import SOURCE, Copy, events, eventually, on_both, rows, stored


def everlog(store: str, *line: str, app: str = "platform") -> Ran:
    environment = {**os.environ, "EVERLOG_APP": f"tests.feed.shop:{app}", "EVERLOG_STORE": store}
    done = subprocess.run([*PROGRAM, *line], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@on_both
def test_a_worker_takes_what_the_broker_has_and_ends(copy: Copy, url: str) -> None:
    copy.send(events(1, 30))
    ran = everlog(url, "worker", "--from", copy.url, "--relay", copy.relay, "--once", "--json")
    assert ran.code == 0, ran.err
    [lag] = ran.data
    assert (lag["name"], lag["position"], lag["lag"], lag["lanes"]) == ("taken", "30", 0, 0)
    with Platform(url).open() as log:
        assert sorted(rows(log, "SELECT position FROM taken")) == [(position,) for position in range(1, 31)]
        assert log.head().position == 0
    # How far that is behind the log it comes from, nobody knows here.
    assert everlog(url, "processor", "status", "taken", "--json").data["lag"] is None
    assert everlog(url, "processor", "list").code == 0


def test_a_worker_goes_on_until_it_is_told_to_stop(copy: Copy, url: str) -> None:
    copy.send(events(1, 3))
    environment = {**os.environ, "EVERLOG_APP": "tests.feed.shop:platform", "EVERLOG_STORE": url}
    line = ["worker", "--from", copy.url, "--relay", copy.relay, "--report", "0.1", "--lease", "1"]
    worker = subprocess.Popen([*PROGRAM, *line], env=environment, stdout=-1, stderr=-1, text=True)
    with Platform(url).open() as log:
        eventually(lambda: len(log.store.desk.inbox.known("taken", 1, range(10))) == 3)
        copy.send(events(4, 5))
        eventually(lambda: len(log.store.desk.inbox.known("taken", 1, range(10))) == 5)
        assert worker.stderr is not None
        assert any("taken running, 0 behind" in told for told in worker.stderr)
        worker.send_signal(signal.SIGTERM)
        _, told = worker.communicate(timeout=30)
        assert worker.returncode == 0, told
        assert [one.owner for one in log.store.checkpoints.progress()] == [""]


def test_months_of_a_broker_that_is_away_are_told_once_and_not_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOG_APP", "tests.feed.shop:platform")
    monkeypatch.setenv("EVERLOG_STORE", url)
    away = ("--from", "nats://127.0.0.1:1/EVENTS", "--relay", "shop")
    with running("worker", *away, "--report", "0.05", "--json") as worker:
        until_told(worker, lambda line: line.startswith("warning: the broker cannot be read"))
        told = [until_told(worker, lambda line: True) for _ in range(5)]
        worker.terminate()
        code, out, _ = ended(worker)
    assert code == 0
    assert [one[: one.index("nats:")] for one in told] == ["taken running, 0 behind (the broker cannot be read: "] * 5
    kept = [one["message"] for one in json.loads(out)["diagnostics"]]
    assert [one.partition(" ")[0] for one in kept] == ["worker", "the"]


def test_a_parked_event_is_seen_retried_and_skipped_where_the_log_is_not(copy: Copy, url: str) -> None:
    copy.send([stored(1, "a", -1), stored(2, "a"), stored(3, "b")])
    fed = ("worker", "--from", copy.url, "--relay", copy.relay, "--once")
    assert everlog(url, *fed).code == 0
    shown = everlog(url, "dlq", "show", "taken", "acme/tally-a", "--json")
    assert [one["position"] for one in shown.data["events"]] == ["1", "2"], shown.err
    skipped = everlog(url, "dlq", "skip", "taken", "acme/tally-a", "--reason", "a mistake", "--json")
    assert skipped.data["skipped"] == "1"
    assert everlog(url, *fed).code == 0
    assert everlog(url, "dlq", "list", "--json").data == []
    with Platform(url).open() as log:
        assert sorted(rows(log, "SELECT position FROM taken")) == [(2,), (3,)]


def test_lanes_of_a_divided_processor_are_found_by_its_name(copy: Copy, url: str) -> None:
    copy.send([stored(1, "a", -1), stored(2, "b")])
    fed = ("worker", "--from", copy.url, "--relay", copy.relay, "--once")
    assert everlog(url, *fed, app="divided").code == 0
    assert [one["key"] for one in everlog(url, "dlq", "list", "--json").data] == ["acme/tally-a"]
    retried = everlog(url, "dlq", "retry", "taken", "--all", "--json")
    assert (retried.code, retried.data["lanes"]) == (0, 1), retried.err
    assert "no worker runs this processor now" in retried.err
    with Platform(url).open() as log:
        assert log.store.checkpoints.claim("taken/2of3", "somebody", 60.0)
    retried = everlog(url, "dlq", "retry", "taken", "--all", "--json")
    assert "no worker runs this processor now" not in retried.err
    everlog(url, "processor", "pause", "taken")
    assert "taken is paused" in everlog(url, "dlq", "retry", "taken", "--all", "--json").err


def test_an_event_that_is_nowhere_is_asked_for_where_it_is(url: str) -> None:
    with Platform(url).open() as log:
        log.store.checkpoints.register("taken", "processor", 1, 0)
        claim = log.store.checkpoints.claim("taken", "one", 60.0)
        assert claim is not None
        with log.store.checkpoints.transaction(claim, 0) as effects:
            log.store.desk.lanes.park(effects, "taken", "acme/tally-a", [7])
    shown = everlog(url, "dlq", "show", "taken", "acme/tally-a")
    assert shown.code != 0
    assert "the event at 7 lies in a lane" in shown.err


def test_a_worker_says_what_it_leaves_to_those_that_are_fed(copy: Copy, url: str) -> None:
    copy.send(events(1, 2))
    assert everlog(url, "worker", "--from", copy.url, "--relay", copy.relay, "--once").code == 0
    ran = everlog(url, "worker", "--once")
    assert ran.code == 0
    assert f"taken is fed by a broker with events of {SOURCE}: run it with --from" in ran.err


def test_a_log_that_began_anew_is_accepted(copy: Copy, url: str) -> None:
    fed = ("worker", "--from", copy.url, "--relay", copy.relay, "--once")
    copy.send(events(1, 5))
    assert everlog(url, *fed).code == 0
    copy.send(events(6, 8), incarnation=2)
    ran = everlog(url, *fed)
    assert ran.code == 7
    assert "taken failed" in ran.err
    accepted = everlog(
        url, "processor", "accept", "taken", "--source", SOURCE, "--incarnation", "2", "--after", "5", "--json"
    )
    assert accepted.data == {"processor": "taken", "source": SOURCE, "incarnation": 2, "after": "5"}
    assert everlog(url, *fed).code == 0
    with Platform(url).open() as log:
        assert sorted(rows(log, "SELECT position FROM taken")) == [(position,) for position in range(1, 9)]


def test_messages_that_were_given_up_are_listed(copy: Copy, url: str) -> None:
    foreign = copy.message(stored(1, "a"))
    copy.send_messages([type(foreign)(foreign.subject, "x", {}, b"hello")])
    assert everlog(url, "worker", "--from", copy.url, "--relay", copy.relay, "--once").code == 0
    [letter] = everlog(url, "dlq", "letters", "--from", copy.url, "--json").data
    assert (letter["subject"], letter["sequence"], letter["body"]) == (foreign.subject, 1, "hello")
    assert letter["reason"].startswith("no event of a relay")
    assert everlog(url, "dlq", "letters", "nobody", "--from", copy.url, "--json").data == []


def test_all_messages_that_were_given_up_are_listed_and_not_the_first_page(copy: Copy, url: str) -> None:
    copy.send(events(1, 120))
    reader = Consumer("orders-in", (f"{copy.relay}.>",), unsettled=200, log="c0ffee")
    received: list[Delivered] = []
    while len(received) < 120:
        received += copy.broker.fetch(reader, limit=200, max_bytes=1_000_000, wait=5)
    for one in received:
        copy.broker.dead_letter(reader, one, "rejected")
    line = ("dlq", "letters", "orders-in", "--from", copy.url, "--json")
    listed = everlog(url, *line).data
    assert [one["sequence"] for one in listed] == list(range(1, 121))
    assert {one["log"] for one in listed} == {"c0ffee"}
    assert len(everlog(url, *line, "--limit", "7").data) == 7


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("worker", "--relay", "shop"), "--relay says whose messages to read"),
        (("worker", "--from", "nats://127.0.0.1:1/EVENTS"), "this platform has 0 relays"),
        (("worker", "--from", "amqp://127.0.0.1/EVENTS", "--relay", "shop"), "no broker everlog knows"),
        (("worker", "--from", "nats://127.0.0.1", "--relay", "shop"), "a broker is nats://"),
    ],
)
def test_what_is_meant_must_be_clear(url: str, line: tuple[str, ...], told: str) -> None:
    ran = everlog(url, *line)
    assert ran.code in (2, 3)
    assert told in ran.err


@pytest.mark.parametrize(
    ("stream", "relay", "told"),
    [("EVENST", "{relay}", "there is no stream EVENST"), ("{stream}", "shopp", "not shopp.>: no relay of this name")],
)
def test_who_reads_under_a_wrong_name_makes_nothing(copy: Copy, url: str, stream: str, relay: str, told: str) -> None:
    copy.send(events(1, 3))
    parts = urlsplit(copy.url)
    meant = {"stream": parts.path.strip("/"), "relay": copy.relay}
    source = f"nats://{parts.netloc}/{stream.format_map(meant)}"
    before = streams(parts.netloc)
    ran = everlog(url, "worker", "--once", "--lease", "1", "--from", source, "--relay", relay.format_map(meant))
    assert (ran.code, told in ran.err) == (7, True), ran.err
    assert streams(parts.netloc) == before


def streams(server: str) -> dict[Any, Any]:
    """With their subjects."""

    async def look() -> dict[Any, Any]:
        client = await nats.connect(f"nats://{server}")
        found = {one.config.name: one.config.subjects for one in await client.jetstream().streams_info()}
        await client.close()
        return found

    return asyncio.run(look())
