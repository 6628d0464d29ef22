"""Importing twice, in pieces, in another order or after a failure gives what importing once gives."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlog.adoption import Progress, import_file, map_from_toml
from everlog.adoption.occurrences import Occurrences
from everlog.core import limits
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import InvalidInput, StoreUnavailable
from everlog.core.ids import derived_id, new_id
from everlog.store.contract import Verdict
from everlog.store.query import Filter
from tests.adoption.desk import ORDERS, ORDERS_HEADER, WITHOUT_ID, Desk, desk_in, rejects_of

AT = "2020-01-01T00:00:00Z"


def _orders(numbers: Sequence[int], amount: str = "1.00") -> str:
    return ORDERS_HEADER + "".join(f"{number},placed,{AT},ann,{amount},\n" for number in numbers)


def test_a_second_run_imports_nothing(desk: Desk) -> None:
    first, events = desk.load(_orders(range(1234))), desk.events()
    again = desk.load(_orders(range(1234)))
    assert (first.read, first.imported, first.known, first.rejected) == (1234, 1234, 0, 0)
    assert (first.first_position, first.last_position) == (1, 1234)
    assert (again.read, again.imported, again.known, again.rejected) == (1234, 0, 1234, 0)
    assert (again.first_position, again.last_position) == (None, None)
    assert desk.events() == events


def test_positions_follow_the_order_of_the_file_and_versions_the_stream(desk: Desk) -> None:
    rows = "".join(f"{number % 3},step {number},{AT},ann,1.00,\n" for number in range(1200))
    desk.load(ORDERS_HEADER + rows)
    events = desk.events()
    assert [event.type for event in events] == [f"order step {number}" for number in range(1200)]
    assert [event.version for event in events] == [number // 3 + 1 for number in range(1200)]


def test_another_order_of_lines_changes_nothing(desk: Desk) -> None:
    numbers = list(range(1500))
    desk.load(_orders(numbers))
    events = desk.events()
    Random(7).shuffle(numbers)
    assert desk.load(_orders(numbers)).known == 1500
    assert desk.events() == events


@pytest.mark.parametrize("cut", [1, 499, 500, 501, 777, 1499])
def test_a_part_of_the_file_then_the_whole(desk: Desk, cut: int) -> None:
    desk.load(_orders(range(cut)))
    report = desk.load(_orders(range(1500)))
    assert (report.imported, report.known, report.rejected) == (1500 - cut, cut, 0)
    assert (report.first_position, report.last_position) == (cut + 1, 1500)


def test_every_second_row_then_all_of_them(desk: Desk) -> None:
    desk.load(_orders(range(0, 1500, 2)))
    report = desk.load(_orders(range(1500)))
    assert (report.imported, report.known) == (750, 750)
    assert len(desk.ids()) == 1500


def test_ids_are_version_8_and_hash_tenant_and_mapped_id(desk: Desk) -> None:
    desk.load(_orders([1]))
    (event,) = desk.events()
    assert event.id == derived_id("default", "import", "1/placed")
    assert (event.id[6] >> 4, event.id[8] >> 6) == (8, 2)
    desk.load(_orders([1]), tenant="other")
    assert len(desk.ids()) == 2


def test_without_an_id_equal_rows_are_told_apart_by_their_occurrence(desk: Desk) -> None:
    rows = ["a,1", "a,1", "b,1", "a,2", "a,1"]
    assert desk.load("s,value\n" + "\n".join(rows), WITHOUT_ID).imported == 5
    ids = desk.ids()
    again = desk.load("s,value\n" + "\n".join(reversed(rows)), WITHOUT_ID)
    assert (again.imported, again.known) == (0, 5)
    more = desk.load("s,value\nnew,0\n" + "\n".join(["a,1", *rows]), WITHOUT_ID)
    assert (more.imported, more.known) == (2, 5), "the fourth a,1 and the new row"
    assert ids < desk.ids()


def test_without_an_id_the_whole_row_counts_and_not_how_it_is_written(desk: Desk) -> None:
    desk.load("s,value,unmapped\na,1,x\na,1,y\n", WITHOUT_ID)
    assert len(desk.ids()) == 2
    for same in ('unmapped;s;value\r\n"x";a;1\r\ny;"a";1', '\ufeffs;unmapped;value\na;y;1\n\na;"x";1\n'):
        report = desk.load(same, 'delimiter = ";"\n' + WITHOUT_ID)
        assert (report.imported, report.known) == (0, 2)
    report = desk.load('{"value": "1", "s": "a", "unmapped": "x"}', WITHOUT_ID, "in.ndjson")
    assert (report.imported, report.known) == (0, 1)


def test_without_an_id_stream_and_tenant_are_part_of_it(desk: Desk) -> None:
    content = "s,value\na,1\n"
    desk.load(content, WITHOUT_ID)
    desk.load(content, WITHOUT_ID, tenant="other")
    desk.load(content, WITHOUT_ID.replace("s-{s}", "z-{s}"))
    assert len(desk.ids()) == 3


def test_a_platform_may_check_an_event_and_add_to_it(desk: Desk) -> None:
    def admit(tenant: str, event: NewEvent) -> NewEvent:
        if event.stream == "order-2":
            raise InvalidInput("orders of two are not ours")
        return event._replace(schema_version=3, tags=(f"{tenant}:{event.stream}",))

    path = desk.file(_orders([1, 2, 3]))
    for imported in (2, 0):
        report = import_file(desk.store, path, map_from_toml(ORDERS), admit=admit)
        assert (report.imported, rejects_of(report)) == (imported, [(3, "orders of two are not ours")])
    assert [event.schema_version for event in desk.events()] == [3, 3]
    assert [event.stream for event in desk.store.read(Filter("default", tags=("default:order-3",)))] == ["order-3"]


def test_occurrences_are_counted_on_disk() -> None:
    seen = Occurrences()
    rows = [row.to_bytes(2, "big") for row in (1, 2, 1, 1, 3, 2)]
    assert [seen.count(row) for row in rows] == [1, 1, 2, 3, 1, 2]
    seen.close()


def test_other_content_under_a_stored_id_is_a_reject(desk: Desk) -> None:
    desk.load(_orders(range(700)))
    report = desk.load(_orders(range(600)) + f"600,placed,{AT},ann,9.99,\n" + f"601,placed,{AT},bob,1.00,\n")
    ((line, reason),) = rejects_of(report)
    assert line == 602
    assert reason.startswith("its id is stored at position 601 with other content: let `id` in the map tell them apart")
    assert (report.known, report.rejected) == (601, 1)
    assert len(desk.events()) == 700


@pytest.mark.parametrize(
    "other", ["2,placed,2020-01-01T00:00:01Z,ann,1.00,", f"2,placed,{AT},ann,1.01,", f"2,placed,{AT},ann,1.00,note"]
)
def test_content_is_time_and_data(desk: Desk, other: str) -> None:
    desk.load(_orders([2]))
    assert [line for line, _ in rejects_of(desk.load(f"{ORDERS_HEADER}{other}\n"))] == [2]


def test_stream_and_type_are_content_too(desk: Desk) -> None:
    toml = ORDERS.replace('id = "{id}/{what}"', 'id = "{note}"')
    desk.load(f"{ORDERS_HEADER}1,placed,{AT},ann,1.00,x\n", toml)
    report = desk.load(
        f"{ORDERS_HEADER}2,placed,{AT},ann,1.00,x\n1,paid,{AT},ann,1.00,x\n1,placed,{AT},ann,1.00,x\n", toml
    )
    assert ([line for line, _ in rejects_of(report)], report.known) == ([2, 3], 1)


def test_one_id_twice_in_a_file_is_known_or_a_reject(desk: Desk) -> None:
    same, other = f"1,placed,{AT},ann,1.00,\n", f"1,placed,{AT},ann,2.00,\n"
    report = desk.load(ORDERS_HEADER + same + same + other)
    assert (report.read, report.imported, report.known, report.rejected) == (3, 1, 1, 1)
    ((line, reason),) = rejects_of(report)
    assert (line, reason.partition(":")[0]) == (4, "its id is stored at position 1 with other content")
    far = desk.load(ORDERS_HEADER + same + _orders(range(10, 1000)).partition("\n")[2] + same + other)
    assert (far.known, far.rejected) == (2, 1)
    assert rejects_of(far)[0][0] == 994


def test_an_id_that_is_stored_for_another_tenant_is_a_reject_that_shows_nothing(desk: Desk) -> None:
    taken = derived_id("default", "import", "700/placed")
    desk.store.append(Append("other", (NewEvent(id=taken, stream="s", type="t", schema_version=1, data=b"{}"),)))
    report = desk.load(_orders(range(1000)))
    ((line, reason),) = rejects_of(report)
    assert line == 702
    assert reason.startswith("an event id is not available")
    assert report.imported == 999
    assert (report.first_position, report.last_position) == (2, 1000)
    imported = [event.stream for event in desk.events("default")]
    assert imported == [f"order-{number}" for number in range(1000) if number != 700], "in the order of the file"


def test_a_tenant_per_row_and_never_two_in_a_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = WITHOUT_ID.replace("stream", 'tenant = "t{value}"\nstream', 1)
    append_each, requests = desk.store.append_each, list[Append]()

    def watching(batch: Sequence[Append]) -> list[Verdict]:
        requests.extend(batch)
        return append_each(batch)

    monkeypatch.setattr(desk.store, "append_each", watching)
    content = "s,value\n" + "".join(f"{number},{number % 7}\n" for number in range(2000))
    assert desk.load(content, toml).imported == 2000
    assert Counter(event.tenant for event in desk.events()) == Counter(f"t{number % 7}" for number in range(2000))
    for tenant in {event.tenant for event in desk.events()}:
        mine = [int(event.stream.removeprefix("s-")) for event in desk.events(tenant)]
        assert mine == sorted(mine), "in the order of the file"
    assert {len(request.events) for request in requests} <= set(range(1, 74))


def test_the_tenant_of_the_call_is_the_default(desk: Desk) -> None:
    desk.load(_orders([1]), tenant="acme")
    assert [event.tenant for event in desk.events()] == ["acme"]
    with pytest.raises(InvalidInput, match="tenant 'a b' is not a name"):
        desk.load(_orders([1]), tenant="a b")


def test_batches_keep_to_the_limits_of_the_store(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    append_each, sizes = desk.store.append_each, list[tuple[int, int]]()

    def watching(batch: Sequence[Append]) -> list[Verdict]:
        sizes.extend((len(request.events), sum(len(event.data) for event in request.events)) for request in batch)
        return append_each(batch)

    monkeypatch.setattr(desk.store, "append_each", watching)
    toml = WITHOUT_ID + 'more = { column = "more", optional = true }\n'
    big = "x" * 120_000
    desk.load("s,value,more\n" + f"a,{big},{big}\n" * 20 + "b,1,\n" * 1200, toml)
    assert sum(count for count, _ in sizes) == 1220
    assert max(count for count, _ in sizes) == limits.BATCH_EVENTS
    assert limits.BATCH_BYTES / 2 < max(size for _, size in sizes) <= limits.BATCH_BYTES


def test_rejects_are_listed_by_line(desk: Desk) -> None:
    desk.load(_orders(range(0, 2000, 100)))
    rows = [f"{number},placed,{AT},ann,{'x' if number % 77 == 0 else '2.00'},\n" for number in range(2000)]
    lines = [line for line, _ in rejects_of(desk.load(ORDERS_HEADER + "".join(rows)))]
    assert lines == sorted(lines)
    assert set(lines) == {number + 2 for number in range(2000) if number % 77 == 0 or number % 100 == 0}


def test_another_importer_at_the_same_time_stops_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one stores some of a batch's events between our look and our append."""
    find, path = desk.store.find, desk.file(_orders(range(600)), "other.csv")
    intruding = [True]

    def find_and_be_overtaken(tenant: str, ids: Sequence[bytes]) -> object:
        found = find(tenant, ids)
        if intruding.pop() if intruding else False:
            import_file(desk.store, path, map_from_toml(ORDERS))
        return found

    desk.load(_orders(range(0, 1000, 3)))
    monkeypatch.setattr(desk.store, "find", find_and_be_overtaken)
    report = desk.load(_orders(range(1000)))
    assert report.rejected == 0
    assert len(desk.events()) == len(desk.ids()) == 1000


def test_a_store_that_fails_ends_the_run_and_the_next_one_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    append_each, answers = desk.store.append_each, iter([False, False, True])

    def failing(batch: Sequence[Append]) -> list[Verdict]:
        return [StoreUnavailable("the disk is full")] if next(answers, False) else append_each(batch)

    monkeypatch.setattr(desk.store, "append_each", failing)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        desk.load(_orders(range(2000)))
    assert len(desk.events()) == 1000
    assert desk.load(_orders(range(2000))).imported == 1000


def test_progress_tells_bytes_events_rate_and_time_left(desk: Desk) -> None:
    told = list[Progress]()
    report = desk.load(_orders(range(30_000)) + "bad\n", progress=told.append)
    size = (desk.folder / "in.csv").stat().st_size
    assert {each.total for each in told} == {size}
    assert [each.read for each in told] == sorted(each.read for each in told)
    assert [each.done for each in told] == sorted(each.done for each in told)
    first, last = told[0], told[-1]
    assert 0 < first.done < size
    assert first.seconds_left is not None
    assert first.seconds_left > 0
    assert (last.done, last.read, last.imported, last.known, last.rejected) == (size, 30_001, 30_000, 0, 1)
    assert last.seconds_left == 0
    assert last.rate == pytest.approx(30_001 / report.seconds, rel=0.5)


def test_the_clock_is_passed_in(desk: Desk) -> None:
    ticks, told = iter(range(0, 1000, 2)), list[Progress]()
    path = desk.file(_orders(range(600)))
    report = import_file(
        desk.store, path, map_from_toml(ORDERS), progress=told.append, clock=lambda: float(next(ticks))
    )
    assert [(each.rate, each.seconds_left) for each in told] == [(250.0, 0.0), (150.0, 0.0)]
    assert report.seconds == 6.0


def test_what_was_imported_lies_beside_what_was_there(desk: Desk) -> None:
    desk.store.append(
        Append("default", (NewEvent(id=new_id(), stream="order-1", type="t", schema_version=1, data=b"{}"),))
    )
    report = desk.load(_orders([1]))
    assert (report.first_position, report.last_position) == (2, 2)
    assert desk.events()[1].version == 2


_rows = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["1", "2", "x,y", 'say "hi"', "two\nlines"])))


def _written(rows: Sequence[tuple[str, str]]) -> str:
    return "s,value\n" + "".join(f'{s},"{value.replace(chr(34), chr(34) * 2)}"\n' for s, value in rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows, cut=st.integers(0, 30), seed=st.randoms(use_true_random=False), batch=st.integers(1, 9))
def test_any_rows_imported_twice_in_any_chunks_and_order_give_the_same_ids(
    tmp_path: Path, rows: list[tuple[str, str]], cut: int, seed: Random, batch: int
) -> None:
    with desk_in(tmp_path) as once, desk_in(tmp_path) as pieces, pytest.MonkeyPatch.context() as patch:
        once.load(_written(rows), WITHOUT_ID)
        patch.setattr(limits, "BATCH_EVENTS", batch)
        pieces.load(_written(rows[:cut]), WITHOUT_ID)
        patch.setattr(limits, "BATCH_EVENTS", batch % 4 + 1)
        shuffled = list(rows)
        seed.shuffle(shuffled)
        report = pieces.load(_written(shuffled), WITHOUT_ID)
        assert report.rejected == 0
        assert pieces.ids() == once.ids()
        assert len(pieces.events()) == len(rows)
