"""Messages that an inbox gave up are sent again by a person; what became of their commands stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import nats
import pytest

from everlog import Log
from everlog.core.errors import NotFound
from everlog.relay.contract import Broker, Consumer, DeadLetter
from tests.cli.conftest import Ran, here
from tests.feed.parts import Copy, events, eventually
from tests.feed.test_inbox import Partner, cents, letters, partner, quiet, trouble

__all__ = ["partner"]


@pytest.fixture
def log(partner: Partner, url: str) -> Iterator[Log]:
    """Its inbox has given up two messages: the first was rejected, the second failed."""
    trouble.clear()
    with partner.fed(url, partner.inbox()) as log:
        partner.structured("1", "o-1", {"cents": -1})
        eventually(lambda: len(letters(partner, log)) == 1)
        trouble.extend([ValueError("a bug")] * 3)
        partner.structured("2", "o-2", {"cents": 7})
        eventually(lambda: len(letters(partner, log)) == 2)
        yield log


def resend(partner: Partner, *line: str) -> Ran:
    return here("dlq", "resend", "orders-in", "--from", partner.url, *line, "--json")


def given_up(log: Log) -> list[DeadLetter]:
    return broker_of(log).dead_letters("orders-in")


def broker_of(log: Log) -> Broker:
    assert log.worker is not None
    assert log.worker.feeding is not None
    return log.worker.feeding.broker


def test_what_failed_is_carried_out_once_it_is_mended(partner: Partner, log: Log) -> None:
    ran = resend(partner, "--error", "a bug")
    assert (ran.code, ran.data) == (0, {"inbox": "orders-in", "letters": 1})
    eventually(lambda: cents(log, "o-2") == 7)
    quiet(log)
    assert [one.original for one in given_up(log)] == [1]


def test_what_was_rejected_is_rejected_again_whatever_else_is_sent(partner: Partner, log: Log) -> None:
    assert resend(partner, "--all").data["letters"] == 2
    eventually(lambda: [one.original for one in given_up(log)] == [3])
    quiet(log)
    assert [one.reason.partition(":")[0] for one in given_up(log)] == ["rejected"]
    assert (cents(log, "o-1"), cents(log, "o-2")) == (0, 7)


def test_one_is_named_by_its_sequence(partner: Partner, log: Log) -> None:
    assert resend(partner, "--sequence", "2").data["letters"] == 1
    eventually(lambda: cents(log, "o-2") == 7)
    assert [one.original for one in given_up(log)] == [1]


def test_a_crash_before_the_letter_is_deleted_carries_nothing_out_twice(partner: Partner, log: Log) -> None:
    second = given_up(log)[1]
    for _ in range(2):
        broker_of(log).resend(second)
    eventually(lambda: cents(log, "o-2") == 7)
    quiet(log)
    assert cents(log, "o-2") == 7
    assert [one.original for one in given_up(log)] == [1]


def test_a_letter_stays_where_nothing_keeps_its_subject_any_more(partner: Partner, log: Log) -> None:
    async def move() -> None:
        client = await nats.connect(partner.url.rpartition("/")[0])
        await client.jetstream().update_stream(name=partner.stream, subjects=["elsewhere.>"])
        await client.close()

    asyncio.run(move())
    with pytest.raises(NotFound, match="no stream of the broker keeps"):
        broker_of(log).resend(given_up(log)[1])
    assert len(given_up(log)) == 2


def test_which_ones_must_be_said(partner: Partner, log: Log) -> None:
    for line in ([], ["--all", "--sequence", "1"]):
        assert "say which letters" in resend(partner, *line).err
    ran = resend(partner, "--error", "no such reason")
    assert (ran.code, "has no such letter" in ran.err) == (3, True)
    assert len(given_up(log)) == 2


def test_what_a_processor_gave_up_goes_into_no_copy_of_a_relay(copy: Copy) -> None:
    copy.send(events(1, 1))
    reader = Consumer("taken", (f"{copy.relay}.>",))
    [one] = copy.broker.fetch(reader, limit=1, max_bytes=1000, wait=5)
    copy.broker.dead_letter(reader, one, "no event of a relay")
    assert here("dlq", "resend", "taken", "--from", copy.url, "--all").code == 3
    assert copy.count() == 1
