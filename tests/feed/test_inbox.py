"""CloudEvents from others become commands, once each; what cannot be understood is a dead letter with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats
import pytest

from everlog import (
    Backoff,
    CommandInbox,
    Decider,
    InvalidInput,
    Log,
    Misconfigured,
    Platform,
    Rejected,
    Retry,
    Transient,
    event,
)
from everlog.adapters.nats import NatsBroker
from everlog.core.errors import UnknownEventType, UnreadableEvent
from everlog.feed.outcome import InboxChangedNothing, InboxRejected
from everlog.relay.cloudevents import CloudEvent
from everlog.testing.nats import Cluster
from tests.feed.parts import eventually, on_both

QUICK = Retry(attempts=3, backoff=Backoff(first=0.001, longest=0.01))


@event("inbox.placed")
class Placed:
    order: str
    cents: int


@dataclass(frozen=True)
class Place:
    cents: int


trouble: list[Exception] = []
asleep: set[bool] = set()  # decides on nothing, once


def decide(command: Place, cents: int) -> list[Placed]:
    if trouble:
        raise trouble.pop()
    if asleep:
        asleep.clear()
        return []
    if command.cents <= 0:
        raise Rejected("too_little", cents=command.cents)
    return [Placed("?", command.cents)]


def evolve(cents: int, e: Placed) -> int:
    return cents + e.cents


orders = Decider("order", initial=0, decide=decide, evolve=evolve)


class Partner:
    """Somebody with nats-py and no everlog."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url, self._servers = url, [f"nats://{host}" for host in parts.netloc.split(",")]
        self.stream = parts.path.strip("/")
        self.subject = f"{self.stream.lower()}.orders"
        self._run(lambda client: client.jetstream().add_stream(name=self.stream, subjects=[f"{self.subject}.>"]))

    def send(self, body: bytes, headers: Mapping[str, str] | None = None, subject: str = "new") -> None:
        told = dict(headers or {})
        self._run(lambda client: client.jetstream().publish(f"{self.subject}.{subject}", body, headers=told))

    def structured(self, id: str, order: str | None, data: object, **more: object) -> None:
        told = {"specversion": "1.0", "id": id, "source": "shop", "type": "order", "data": data, **more}
        if order is not None:
            told["subject"] = order
        self.send(msgspec.json.encode(told), {"content-type": "application/cloudevents+json"})

    def binary(self, id: str, order: str, data: object, **more: str) -> None:
        told = {"specversion": "1.0", "id": id, "source": "shop", "type": "order", "subject": order, **more}
        headers = {f"ce-{name}": value for name, value in told.items()}
        self.send(msgspec.json.encode(data), {**headers, "content-type": "application/json"})

    def inbox(self, **more: Any) -> CommandInbox[Place]:
        options: dict[str, Any] = {"retry": QUICK, **more}
        if "map" not in options:
            options["command"] = Place
        return CommandInbox("orders-in", f"{self.subject}.>", orders, **options)

    def fed(self, store: str, *inboxes: CommandInbox[Place]) -> Log:
        return Platform(store, orders, *inboxes).open(store, worker=True, fed_from=self.url)

    def _run(self, work: Callable[[Any], Any]) -> None:
        async def run() -> None:
            client = await nats.connect(self._servers)
            await work(client)
            await client.close()

        asyncio.run(run())


@pytest.fixture
def partner(broker_url: str) -> Partner:
    trouble.clear()
    asleep.clear()
    return Partner(broker_url)


def cents(log: Log, order: str, tenant: str = "default") -> int:
    return log.tenant(tenant).state(orders, order)


def quiet(log: Log) -> None:
    """All that was sent is settled."""
    assert log.worker is not None
    assert log.worker.drain(20)


def letters(partner: Partner, log: Log) -> list[tuple[str, str]]:
    assert log.worker is not None
    assert log.worker.feeding is not None
    return [(one.consumer, one.reason) for one in log.worker.feeding.broker.dead_letters()]


def test_two_applications_with_an_inbox_of_one_name_get_all_commands_each(partner: Partner, tmp_path: Path) -> None:
    stores = [f"sqlite:///{tmp_path}/{name}.db" for name in ("ours", "theirs")]
    for number in range(20):
        partner.structured(f"c{number}", f"o{number}", {"cents": 1 if number else -1})
    logs = [partner.fed(store, partner.inbox()) for store in stores]
    for log in logs:
        quiet(log)
        assert [cents(log, f"o{number}") for number in range(20)] == [0, *[1] * 19]
    ids = {log.head().log_id.hex() for log in logs}
    assert len(ids) == 2
    feeding = logs[0].worker.feeding  # type: ignore[union-attr]
    given_up = feeding.broker.dead_letters("orders-in")  # type: ignore[union-attr]
    assert {(one.log, one.original) for one in given_up} == {(id, 1) for id in ids}
    for log in logs:
        log.close()


@on_both
def test_cloudevents_of_both_modes_become_commands(partner: Partner, url: str) -> None:
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 700})
        partner.binary("2", "o-1", {"cents": 5})
        partner.binary("3", "o-2", {"cents": 9})
        eventually(lambda: (cents(log, "o-1"), cents(log, "o-2")) == (705, 9))
        [first, *_] = log.tenant().stream("order-o-1")
        assert first.actor == "orders-in"
        quiet(log)
        assert letters(partner, log) == []


@on_both
def test_a_message_that_comes_again_changes_nothing(partner: Partner, url: str) -> None:
    with partner.fed(url, partner.inbox()) as log:
        for _ in range(5):
            partner.structured("1", "o-1", {"cents": 700})
            partner.binary("1", "o-1", {"cents": 700})
        partner.structured("1", "o-1", {"cents": 1}, source="another shop")
        eventually(lambda: cents(log, "o-1") == 701)
        quiet(log)
        assert cents(log, "o-1") == 701


@on_both
def test_what_was_rejected_once_is_rejected_whenever_it_comes_again(partner: Partner, url: str) -> None:
    trouble.append(Rejected("closed", until=9))
    with partner.fed(url, partner.inbox()) as log:

        def has_letters(count: int) -> bool:
            return len(letters(partner, log)) == count

        for count in (1, 2):
            partner.structured("1", "o-1", {"cents": 700})
            eventually(partial(has_letters, count))
        assert {reason for _, reason in letters(partner, log)} == {"rejected: Rejected: closed (until='9')"}
        quiet(log)
        assert cents(log, "o-1") == 0
        [e] = log.tenant().events(InboxRejected)
        assert (e.stream, e.actor) == ("everlog-inbox-orders-in", "orders-in")
        assert e.data == InboxRejected("orders-in", "o-1", "closed", {"until": "9"})


@on_both
def test_what_led_to_nothing_once_leads_to_nothing_when_it_comes_again(partner: Partner, url: str) -> None:
    asleep.add(True)
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 700})
        eventually(lambda: list(log.tenant().events(InboxChangedNothing)))
        partner.structured("1", "o-1", {"cents": 700})
        partner.structured("2", "o-1", {"cents": 5})
        eventually(lambda: cents(log, "o-1"))
        quiet(log)
        assert cents(log, "o-1") == 5
        assert letters(partner, log) == []


def test_one_id_that_asks_for_two_things_is_a_dead_letter_also_when_the_first_led_to_nothing(
    partner: Partner, url: str
) -> None:
    asleep.add(True)
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 700})
        eventually(lambda: list(log.tenant().events(InboxChangedNothing)))
        partner.structured("1", "o-2", {"cents": 700})
        [(_, told)] = eventually(lambda: letters(partner, log))
        assert "IdempotencyConflict" in told
        quiet(log)


def test_one_id_that_asks_for_two_things_is_a_dead_letter(partner: Partner, url: str) -> None:
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 700})
        partner.structured("1", "o-2", {"cents": 700})
        [(_, told)] = eventually(lambda: letters(partner, log))
        assert "IdempotencyConflict" in told
        assert cents(log, "o-1") + cents(log, "o-2") == 700
        quiet(log)


def test_a_stop_between_the_command_and_its_ack_changes_nothing(partner: Partner, url: str) -> None:
    """Two workers that share an inbox, one of which never acknowledges."""
    inbox = partner.inbox()
    with partner.fed(url, inbox) as log:
        partner.structured("1", "o-1", {"cents": 700})
        eventually(lambda: cents(log, "o-1") == 700)
        assert log.worker is not None
        assert log.worker.feeding is not None
        [taking] = log.worker.feeding.takings
        order = inbox.order(_message(partner, "1", "o-1"))
        assert order is not None
        taking._execute(inbox, order)
        assert cents(log, "o-1") == 700


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (lambda one: one.send(b"hello"), "not understood: InvalidInput"),
        (lambda one: one.send(b"hello", {"ce-specversion": "1.0"}), 'not understood: InvalidInput: "id" is missing'),
        (lambda one: one.structured("1", None, {"cents": 1}), '"subject" is missing'),
        (lambda one: one.structured("1", "o-1", {"cents": "many"}), "the data are no Place"),
        (lambda one: one.structured("1", "o-1", {"cents": 1}, specversion="2.0"), "reads CloudEvents 1.0"),
        (lambda one: one.structured("1", "o 1 ", {"cents": 1}), "is not a name"),
        (lambda one: one.structured("1", "o-1", {"cents": -1}), "rejected: Rejected: too_little"),
    ],
)
def test_what_cannot_be_done_is_a_dead_letter_with_a_reason(
    partner: Partner, url: str, send: Callable[[Partner], None], reason: str
) -> None:
    with partner.fed(url, partner.inbox()) as log:
        send(partner)
        partner.structured("9", "o-9", {"cents": 9})
        eventually(lambda: cents(log, "o-9") == 9)
        [(consumer, told)] = eventually(lambda: letters(partner, log))
        assert consumer == "orders-in"
        assert reason in told
        quiet(log)
        assert len(list(log.tenant().events(Placed))) == 1


def test_a_transient_error_is_tried_again_for_as_long_as_it_lasts(partner: Partner, url: str) -> None:
    trouble.extend([Transient("away"), ConnectionError("away"), TimeoutError(), Transient("away"), Transient("away")])
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 7})
        eventually(lambda: cents(log, "o-1") == 7)
        quiet(log)
        assert letters(partner, log) == []


def test_an_error_nobody_foresaw_is_given_up_after_its_attempts(partner: Partner, url: str) -> None:
    trouble.extend([ValueError("a bug")] * 3)
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 7})
        [(_, told)] = eventually(lambda: letters(partner, log))
        assert told == "failed at attempt 3: ValueError: a bug"
        assert trouble == []
        quiet(log)


def test_what_passes_does_not_use_up_attempts(partner: Partner, url: str) -> None:
    """The broker counts deliveries, and most of these were while the database was away."""
    trouble.extend([ValueError("a bug"), ValueError("a bug"), *[Transient("away")] * 7])  # the last one first
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 7})
        eventually(lambda: cents(log, "o-1") == 7)
        quiet(log)
        assert letters(partner, log) == []


def test_what_newer_code_may_read_waits_for_it(partner: Partner, url: str) -> None:
    trouble.extend([UnknownEventType(3, "order.renamed", 2, "deploy the newer code"), *[_unreadable()] * 4])
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 7})
        eventually(lambda: cents(log, "o-1") == 7)
        quiet(log)
        assert letters(partner, log) == []


def test_an_inbox_goes_on_after_an_error_nobody_foresaw(
    partner: Partner, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [ZeroDivisionError("a bug of ours")]
    fetch = NatsBroker.fetch

    def fetches(self: NatsBroker, *given: Any, **more: Any) -> Any:
        if broken:
            raise broken[0]
        return fetch(self, *given, **more)

    monkeypatch.setattr(NatsBroker, "fetch", fetches)
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": 7})
        assert log.worker is not None
        assert log.worker.feeding is not None
        assert eventually(log.worker.feeding.trouble) == "a bug of ours"
        broken.clear()
        eventually(lambda: cents(log, "o-1") == 7)
        feeding = log.worker.feeding
        eventually(lambda: feeding.trouble() == "")  # said when the page that came through ends


def test_a_function_makes_commands_of_events_in_other_words(partner: Partner, url: str) -> None:
    def understand(ce: CloudEvent) -> tuple[str, Place] | None:
        if ce.text("type") == "ping":
            return None
        found = msgspec.json.decode(ce.data or b"{}")
        return found["nr"], Place(found["total"])

    with partner.fed(url, partner.inbox(map=understand, tenant=lambda ce: f"shop-{ce.text('tenantid')}")) as log:
        partner.structured("1", None, {}, type="ping", tenantid="a")
        partner.structured("2", None, {"nr": "o-1", "total": 3}, tenantid="a")
        partner.structured("3", None, {"nr": "o-1", "total": 4}, tenantid="b")
        partner.structured("4", None, {"wrong": 1}, tenantid="b")
        eventually(lambda: (cents(log, "o-1", "shop-a"), cents(log, "o-1", "shop-b")) == (3, 4))
        [(_, told)] = eventually(lambda: letters(partner, log))
        assert told == "not understood: KeyError: 'nr'"
        quiet(log)


def test_an_inbox_may_read_another_stream(partner: Partner, nats: Cluster, url: str) -> None:
    inbox = partner.inbox(stream=partner.stream)
    elsewhere = nats.url(f"{partner.stream}-ELSEWHERE")
    with Platform(url, orders, inbox).open(url, worker=True, fed_from=elsewhere) as log:
        partner.structured("1", "o-1", {"cents": 7})
        eventually(lambda: cents(log, "o-1") == 7)


def test_two_inboxes_may_understand_one_event_each_in_its_way(partner: Partner, url: str) -> None:
    other = CommandInbox("audit-in", f"{partner.subject}.>", orders, map=lambda ce: ("all", Place(1)))
    with partner.fed(url, partner.inbox(), other) as log:
        partner.structured("1", "o-1", {"cents": 7})
        eventually(lambda: (cents(log, "o-1"), cents(log, "all")) == (7, 1))


def test_mistakes_are_found_when_the_platform_is_built() -> None:
    with pytest.raises(Misconfigured, match="needs one of command="):
        CommandInbox("in", "a.b", orders)
    with pytest.raises(Misconfigured, match="needs one of command="):
        CommandInbox("in", "a.b", orders, Place, lambda ce: None)
    with pytest.raises(Misconfigured, match="is no subject"):
        CommandInbox("in", "a..b", orders, Place)
    with pytest.raises(InvalidInput, match="is not a name"):
        CommandInbox("in", "a.b", orders, Place, tenant="a b")
    good = CommandInbox("in", "a.b", orders, Place)
    with pytest.raises(Misconfigured, match="two command inboxes are named 'in'"):
        Platform("memory:", orders, good, good)
    with pytest.raises(Misconfigured, match="for decider 'order': give that to Platform"):
        Platform("memory:", good)


def _unreadable() -> UnreadableEvent:
    return UnreadableEvent(3, "order.placed", 2, "deploy the newer code")


def _message(partner: Partner, id: str, order: str) -> Any:
    from everlog.relay.contract import Message

    told = {"specversion": "1.0", "id": id, "source": "shop", "type": "order", "subject": order, "data": {"cents": 700}}
    return Message(partner.subject, "", {"content-type": "application/cloudevents+json"}, msgspec.json.encode(told))
