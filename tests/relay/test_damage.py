"""What a broker may do to its copy, and that the relay notices and mends it, in order (T13)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlog import Log, Platform, event, upcast_split
from everlog.app.copying import copy_log
from everlog.app.relaying import relay_lags
from everlog.relay.compare import Comparison
from everlog.relay.contract import Broker, Message
from everlog.relay.routing import Outgoing, relayed
from everlog.relay.run import source_of
from everlog.relay.state import Mark
from everlog.testing.nats import Cluster
from tests.following.parts import LEASE
from tests.relay.parts import (
    counted,
    eventually,
    everything,
    held,
    is_whole,
    last_sequence,
    on_both,
    relay_of,
    shop,
    whole,
)

Connect = Callable[[str], Broker]


@event("tally.pair")
class Pair:
    left: str
    right: str


def relaying(platform: Platform, nats: Cluster) -> Log:
    return platform.open(worker=True, relays_to=nats.url("EVENTS"), lease_seconds=LEASE)


def filled(platform: Platform, nats: Cluster, broker: Broker, numbers: range = range(40)) -> None:
    """A relay sends all, and ends."""
    with relaying(platform, nats) as log:
        counted(log, numbers)
        whole(log, platform, broker)


def kill(nats: Cluster, broker: Broker) -> None:
    nats.kill()
    nats.start()


def wipe(nats: Cluster, broker: Broker) -> None:
    nats.kill()
    nats.wipe()
    nats.start()


def delete_stream(nats: Cluster, broker: Broker) -> None:
    delete(broker, "STREAM.DELETE.EVENTS")


def purge(nats: Cluster, broker: Broker) -> None:
    broker.cut("out", 0)


def cut_the_end(nats: Cluster, broker: Broker) -> None:
    broker.cut("out", 25)


def take_one_from_the_middle(nats: Cluster, broker: Broker) -> None:
    delete(broker, "STREAM.MSG.DELETE.EVENTS", {"seq": 20})


def take_the_first(nats: Cluster, broker: Broker) -> None:
    delete(broker, "STREAM.MSG.DELETE.EVENTS", {"seq": 1})


def change_the_last(nats: Cluster, broker: Broker) -> None:
    """Another body under the same id: what a flipped bit makes of it where the broker does not look."""
    last = broker.holds("out").last
    assert last is not None
    broker.cut("out", last.sequence - 1)
    eventually(lambda: publish(broker, last.message, last.sequence - 1))


def publish(broker: Broker, message: Message, after: int) -> bool:
    try:
        broker.publish_batch(
            "out", [Message(message.subject, f"{message.id} ", message.headers, b'{"key":"k","n":-1}')], after=after
        )
    except Exception:
        return False
    return True


def delete(broker: Any, subject: str, request: object = None) -> None:
    from everlog.adapters.nats.connection import api

    broker._connection.run(lambda client: api(client, subject, request))


DAMAGE = [
    kill,
    wipe,
    delete_stream,
    purge,
    cut_the_end,
    take_one_from_the_middle,
    take_the_first,
    change_the_last,
]


@pytest.mark.parametrize("harm", DAMAGE)
@pytest.mark.parametrize("when", ["between", "during"])
def test_what_the_broker_loses_is_sent_again_in_order(
    url: str, own_nats: Cluster, connect: Connect, harm: Callable[[Cluster, Broker], None], when: str
) -> None:
    """Between two runs of the relay, where it notices as it connects; and during one, where it looks now and then."""
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    if when == "between":
        harm(own_nats, broker)
    with relaying(platform, own_nats) as log:
        if when == "during":
            whole(log, platform, broker)
            harm(own_nats, broker)
        whole(log, platform, broker, seconds=9)  # it looks more often than every 10 s, as its `compare_every` says
        counted(log, range(40, 50))
        whole(log, platform, broker)


@on_both
def test_an_older_copy_of_the_broker_is_brought_up_to_date(url: str, own_nats: Cluster, connect: Connect) -> None:
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    [node] = own_nats.nodes
    own_nats.stop()
    older = node.folder / "older"
    shutil.copytree(node.store, older)
    own_nats.start()
    filled(platform, own_nats, broker, range(40, 70))
    own_nats.kill()
    own_nats.wipe()
    shutil.copytree(older, node.store)
    own_nats.start()
    assert "missing" in eventually(lambda: is_whole_somehow(platform, broker))
    with relaying(platform, own_nats) as log:
        whole(log, platform, broker)
    assert [one.sequence for one in everything(broker, "out")] == [*range(1, 71)]


def is_whole_somehow(platform: Platform, broker: Broker) -> str:
    with platform.open() as log:
        return is_whole(log, platform, broker)


@pytest.mark.parametrize("place", ["early", "middle", "last"])
def test_a_flipped_bit_in_the_brokers_file_is_mended(url: str, own_nats: Cluster, connect: Connect, place: str) -> None:
    """The broker drops what does not match its checksum, with or without what lies behind it."""
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker, range(400))
    own_nats.stop()
    [block] = own_nats.nodes[0].store.rglob("1.blk")
    flip(block, {"early": 0.05, "middle": 0.5, "last": 0.999}[place])
    for index in own_nats.nodes[0].store.rglob("index.db"):
        index.unlink()  # its summary of the blocks: without it the server reads them, as after a crash
    own_nats.start()
    assert is_whole_somehow(platform, broker) != ""
    with relaying(platform, own_nats) as log:
        whole(log, platform, broker)


def flip(path: Path, part: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * part)] ^= 1
    path.write_bytes(raw)


def test_a_log_that_was_set_back_takes_from_the_broker_what_is_no_history_of_its_own(
    url: str, own_nats: Cluster, connect: Connect, tmp_path: Path
) -> None:
    """An older copy of the log goes on differently; the broker held what came after the copy was made."""
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    older = tmp_path / "older.db"
    shutil.copy(tmp_path / "log.db", older)
    filled(platform, own_nats, broker, range(40, 60))
    again = shop(f"sqlite:///{older}", relay_of("out"))
    with again.open() as log:
        counted(log, range(100, 110))
    with relaying(again, own_nats) as log:
        whole(log, again, broker)


def test_a_log_that_moved_goes_on_behind_what_it_had_sent(
    url: str, own_nats: Cluster, connect: Connect, database: str
) -> None:
    """Another incarnation, which begins with the same events: nothing of it is sent again."""
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    copy_log(url, database)
    moved = shop(database, relay_of("out"))
    filled(moved, own_nats, broker, range(40, 60))
    assert [one.sequence for one in everything(broker, "out")] == [*range(1, 61)]
    assert [one.incarnation for one in held(broker, "out")] == [1] * 40 + [2] * 20


def test_a_stream_that_forgets_is_not_filled_again(url: str, own_nats: Cluster, connect: Connect) -> None:
    """Whoever gives a stream an age or a size wants it to lose what is old."""
    target = own_nats.url("EVENTS", max_bytes="4096")
    platform, broker = shop(url, relay_of("out")), connect(target)
    with platform.open(worker=True, relays_to=target, lease_seconds=LEASE) as log:
        counted(log, range(100))
        eventually(lambda: last_sequence(broker, "out") == 100)
        assert broker.holds("out").messages < 50
    with platform.open(worker=True, relays_to=target, lease_seconds=LEASE) as log:
        counted(log, range(100, 105))
        eventually(lambda: last_sequence(broker, "out") == 105)
        delete(broker, "STREAM.PURGE.EVENTS")
        counted(log, range(105, 106))
        eventually(lambda: broker.holds("out").messages == 1)
        assert last_sequence(broker, "out") == 106


@on_both
def test_the_last_part_of_a_split_event_is_sent_again(url: str, own_nats: Cluster, connect: Connect) -> None:
    split = upcast_split("tally.pair", 1, into=[("tally.counted", 1)])
    pair = split(lambda old: [("tally.counted", {"key": key, "n": 1}) for key in (old["left"], old["right"])])
    with Platform(url, Pair).open() as log:
        log.tenant("acme").append("pair-1", Pair("a", "b"), Pair("c", "d"))
    platform = shop(url, pair, relay_of("out", transform=lambda e: {"key": e.data.key}))
    broker = connect(own_nats.url("EVENTS"))
    with relaying(platform, own_nats) as log:
        whole(log, platform, broker)
    assert last_sequence(broker, "out") == 4
    broker.cut("out", 3)
    with relaying(platform, own_nats) as log:
        whole(log, platform, broker)


def test_what_an_older_copy_of_the_log_finds_of_a_later_one_is_left_alone(
    url: str, own_nats: Cluster, connect: Connect, tmp_path: Path
) -> None:
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    older, later = tmp_path / "older.db", f"sqlite:///{tmp_path}/later.db"
    shutil.copy(tmp_path / "log.db", older)
    copy_log(url, later)
    filled(shop(later, relay_of("out")), own_nats, broker, range(40, 60))
    with relaying(shop(f"sqlite:///{older}", relay_of("out")), own_nats) as log:
        counted(log, range(100, 105))
        eventually(lambda: "is from incarnation 2 of this log" in relay_lags(log.store)[0].relayed.trouble)  # type: ignore[union-attr]
    assert [one.sequence for one in everything(broker, "out")] == [*range(1, 61)]


def test_a_last_message_that_nobody_can_read_any_more_is_ours_and_is_sent_again(
    url: str, own_nats: Cluster, connect: Connect
) -> None:
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    with platform.open() as log:
        known = relay_lags(log.store)[0].relayed.copy  # type: ignore[union-attr]
        broker.cut("out", 39)
        eventually(lambda: publish(broker, Message("out.a.b.c", "x", {}, b""), 39))
        # As if that lay where the last one was, in one life of the stream.
        holding = broker.holds("out")
        assert holding.last is not None
        copy = comparison(log, platform, broker).mend(known._replace(sequence=holding.last.sequence), holding)
    assert copy.mark.position == 39


def test_a_count_that_does_not_fit_is_looked_at_again_before_anything_is_removed(
    url: str, own_nats: Cluster, connect: Connect
) -> None:
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    with platform.open() as log:
        known = relay_lags(log.store)[0].relayed.copy  # type: ignore[union-attr]
        stale = broker.holds("out")._replace(messages=39)
        assert comparison(log, platform, broker).mend(known, stale) == known
    assert [one.sequence for one in everything(broker, "out")] == [*range(1, 41)]


def test_one_lost_before_and_one_doubled_behind_do_not_make_up_for_each_other(
    url: str, own_nats: Cluster, connect: Connect
) -> None:
    """As after a relay that slept while the broker lost all and another one filled it again."""
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker, range(39))
    with platform.open() as log:
        known = relay_lags(log.store)[0].relayed.copy  # type: ignore[union-attr]
    filled(platform, own_nats, broker, range(39, 40))
    last = broker.holds("out").last
    assert last is not None
    again = Message(last.message.subject, f"{last.message.id} again", last.message.headers, last.message.body)
    broker.publish_batch("out", [again], after=40)
    take_one_from_the_middle(own_nats, broker)
    with platform.open() as log:
        copy = comparison(log, platform, broker).mend(known, broker.holds("out"))
    assert (copy.sequence, copy.mark.position, broker.holds("out").messages) == (0, 0, 0)


def test_a_row_that_fits_by_its_number_alone_is_not_counted_from(url: str, own_nats: Cluster, connect: Connect) -> None:
    """As after another relay in the stream moved the numbers: nothing of what is sound is removed."""
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS"))
    filled(platform, own_nats, broker)
    with platform.open() as log:
        known = relay_lags(log.store)[0].relayed.copy  # type: ignore[union-attr]
        stale = known._replace(sequence=30, mark=Mark(20), messages=20, digest=b"of another")
        assert comparison(log, platform, broker).mend(stale, broker.holds("out")) == known


@pytest.mark.parametrize("forgets", [True, False])
def test_a_hole_behind_what_is_known_is_damage_where_a_stream_keeps_all(
    url: str, own_nats: Cluster, connect: Connect, forgets: bool
) -> None:
    options = {"max_bytes": "1000000"} if forgets else {}
    platform, broker = shop(url, relay_of("out")), connect(own_nats.url("EVENTS", **options))
    target = own_nats.url("EVENTS", **options)
    with platform.open(worker=True, relays_to=target, lease_seconds=LEASE) as log:
        counted(log, range(15))
        whole(log, platform, broker)
        known = relay_lags(log.store)[0].relayed.copy  # type: ignore[union-attr]
        counted(log, range(15, 40))
        whole(log, platform, broker)
    take_one_from_the_middle(own_nats, broker)
    with platform.open() as log:
        copy = comparison(log, platform, broker).mend(known, broker.holds("out"))
    assert copy.sequence == (40 if forgets else 15)


def comparison(log: Log, platform: Platform, broker: Broker) -> Comparison:
    [relay], head = platform.relays, log.head()
    outgoing = Outgoing(relay, platform.types, source=source_of(head.log_id), incarnation=head.incarnation)
    return Comparison(broker, log.store, relayed(relay, platform.types), outgoing, "out", lambda: None)
