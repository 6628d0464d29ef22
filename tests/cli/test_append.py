"""`event append`: what is taken, what is refused with its line, and what holds of a batch."""

import json
from pathlib import Path

import pytest

from everlog.core import limits
from tests.cli.conftest import CORRELATION, URL, here

PLACED = {"order_id": "o-9", "cents": 4200, "currency": "EUR"}


def stored(folder: Path, tenant: str = "default") -> list[dict[str, object]]:
    return here("event", "list", "-o", "ndjson", "--raw", "--tenant", tenant).lines


def line(type: str = "order.placed", data: object = PLACED, **more: object) -> str:
    return json.dumps({"type": type, "data": data, **more}) + "\n"


def test_one_event_is_appended_by_its_type_and_data(shop: Path) -> None:
    ran = here("event", "append", "order-o-9", "--type", "order.placed", "--data", json.dumps(PLACED), "--json")
    assert ran.code == 0, ran.err
    [appended] = ran.data
    assert (appended["stream"], appended["version"], appended["position"]) == ("order-o-9", 1, "1")
    [event] = stored(shop)
    assert (event["type"], event["schemaversion"], event["data"]) == ("order.placed", 2, PLACED)
    assert event["id"] == appended["id"]


def test_an_event_may_have_nothing_to_say(shop: Path) -> None:
    assert here("event", "append", "s-1", "--type", "door.opened").code == 0
    assert stored(shop)[0]["data"] == {}


def test_a_declared_type_is_checked_and_gets_its_tags(shop: Path) -> None:
    assert here("event", "append", "order-o-9", stdin=line()).code == 0
    assert len(here("event", "list", "-o", "ndjson", "--tag", "order:o-9").lines) == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"order_id": "o-9", "cents": "4200", "currency": "EUR"}, "Expected `int`"),
        ({"order_id": "o-9", "cent": 4200, "currency": "EUR"}, "has no field 'cent': did you mean 'cents'?"),
        ({"order_id": "o-9"}, "missing required field"),
    ],
)
def test_data_that_its_type_cannot_read_is_refused(shop: Path, data: object, says: str) -> None:
    ran = here("event", "append", "order-o-9", stdin=line() + line(data=data))
    assert (ran.code, "line 2: order.placed v2" in ran.err) == (2, True), ran.err
    assert says in ran.err
    assert here("event", "list").code == 3, "not even the first line may be stored"


def test_an_undeclared_type_is_stored_as_it_is_and_said_so(shop: Path) -> None:
    ran = here("event", "append", "order-o-9", stdin='{"type": "order.plced", "data": {"n": 1.10, "deep": [1, {}]}}')
    assert ran.code == 0
    assert "did you mean 'order.placed'?" in ran.err
    assert '"data":{"n":1.10,"deep":[1,{}]}' in here("event", "list", "-o", "ndjson").out


def test_a_bare_store_takes_anything_that_is_json(folder: Path) -> None:
    ran = here("--store", URL, "event", "append", "s-1", stdin=line("order.placed", {"whatever": None}))
    assert ran.code == 0, ran.err
    assert "no --app is named" in ran.err
    assert here("--store", URL, "event", "list", "-o", "ndjson").lines[0]["data"] == {"whatever": None}


def test_an_old_version_is_stored_as_it_is_and_a_newer_one_refused(shop: Path) -> None:
    old = line(data={"order_id": "o-1", "cents": 1}, schemaversion=1)
    assert here("event", "append", "order-o-1", stdin=old).code == 0
    assert (stored(shop)[0]["schemaversion"], stored(shop)[0]["data"]) == (1, {"order_id": "o-1", "cents": 1})
    assert len(here("event", "list", "-o", "ndjson", "--tag", "order:o-1").lines) == 1
    ran = here("event", "append", "order-o-1", stdin=line(schemaversion=3))
    assert (ran.code, "order.placed v3 is unknown, this code knows v2" in ran.err) == (2, True)


def test_a_line_says_its_tags_time_and_id(shop: Path) -> None:
    id = "00000000-0000-7000-8000-00000000000a"
    said = line("door.opened", {}, tags=["door:1"], time="2026-01-02T03:04:05+01:00", id=id)
    assert here("event", "append", "s-1", stdin=said).code == 0
    [event] = here("event", "list", "-o", "ndjson", "--tag", "door:1").lines
    assert (event["id"], event["time"]) == (id, "2026-01-02T02:04:05.000000Z")


def test_a_cloudevent_keeps_what_it_says(shop: Path) -> None:
    said = {
        "specversion": "1.0", "id": "a-1", "source": "/till/7", "type": "till.opened", "subject": "elsewhere",
        "time": "2026-01-02T03:04:05Z", "datacontenttype": "application/json", "data": {"n": 1},
        "authid": "ann", "clientip": "192.0.2.1", "useragent": "till", "correlationid": CORRELATION, "unheard": "of",
    }  # fmt: skip
    for _ in range(2):  # its source and id are its id here too
        assert here("event", "append", "till-7", stdin=json.dumps(said)).code == 0
    [event] = stored(shop)
    assert event["subject"] == "till-7"
    same = ("type", "authid", "clientip", "useragent", "correlationid", "data")
    assert {key: event[key] for key in same} == {key: said[key] for key in same}


def test_what_the_line_of_command_says_of_who_acts_wins(shop: Path) -> None:
    said = {
        "specversion": "1.0",
        "id": "a",
        "source": "s",
        "type": "t",
        "data": {},
        "authid": "mallory",
        "useragent": "x",
    }
    cause = "00000000-0000-4000-8000-00000000000b"
    acts = [
        "--actor", "ann", "--ip", "192.0.2.7", "--correlation-id", CORRELATION, "--causation-id", cause,
    ]  # fmt: skip
    assert here("event", "append", "s-1", *acts, stdin=json.dumps(said)).code == 0
    [event] = stored(shop)
    assert (event["authid"], event["clientip"], event["useragent"]) == ("ann", "192.0.2.7", "x")
    assert (event["correlationid"], event["causationid"]) == (CORRELATION, cause)
    assert here("event", "append", "s-2", "--type", "t", "--user-agent", "curl").code == 0
    assert stored(shop)[1]["useragent"] == "curl"


def test_lines_come_from_a_file_or_standard_input(shop: Path) -> None:
    (shop / "events.ndjson").write_text(line("a", {"n": 1}) + "\r\n\n" + line("a", {"n": 2}))
    assert here("event", "append", "s-1", "events.ndjson").code == 0
    assert here("event", "append", "s-1", "-", stdin=line("a", {"n": 3})).code == 0
    assert [event["data"] for event in stored(shop)] == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize(
    ("expect", "code"),
    [("any", 0), ("exists", 0), ("3", 0), ("2", 5), ("0", 5), ("no-stream", 5), ("three", 2), ("-1", 2)],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["append", "dry run"])
def test_an_expectation_must_hold(diverse: Path, dry: list[str], expect: str, code: int) -> None:
    ran = here("event", "append", "order-o-1", "--type", "door.opened", "--expect", expect, *dry)
    assert ran.code == code, ran.err
    assert len(stored(diverse)) == (7 if code == 0 and not dry else 6)


def test_a_request_is_stored_once(shop: Path) -> None:
    for replayed in (False, True):
        ran = here("event", "append", "s-1", "--request-id", "r-1", "--json", stdin=line("a", {}) + line("b", {}))
        assert [one["replayed"] for one in ran.data] == [replayed, replayed]
    assert len(stored(shop)) == 2
    other = here("event", "append", "s-1", "--request-id", "r-1", stdin=line("a", {"n": 1}) + line("b", {}))
    assert (other.code, "known with other content" in other.err) == (5, True)


def test_a_dry_run_says_what_would_be_and_stores_nothing(shop: Path) -> None:
    ran = here("event", "append", "order-o-9", "--dry-run", "--json", stdin=line() + line())
    assert ran.data == {"stream": "order-o-9", "version": 0, "events": 2}
    assert not (shop / "shop.db").exists()
    assert here("event", "append", "order-o-9", "--dry-run", stdin=line("")).code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no event"),
        ("{", "line 1: not JSON"),
        ('[{"type": "a"}]', "makes lines of a list"),
        ("7", "an event is a JSON object, not a number"),
        (b'{"type": "a", "data": {"x": "\xff"}}', "not UTF-8"),
        ('{"type": "a", "data": {"n": NaN}}', "NaN is not JSON"),
        ('{"type": "a", "data": {"n": 1, "n": 2}}', "is there twice"),
        ('{"type": "a", "data": {"n": 9223372036854775808}}', "beyond 64 bits"),
        ('{"type": "a", "data": ' + '{"x":' * 80 + "{}" + "}" * 80 + "}", "nested deeper than 64"),
        ('{"type": "a", "data": [1]}', '"data" is a list'),
        ('{"type": "a"}', '"data" is missing'),
        ('{"data": {}}', '"type" is missing'),
        ('{"type": 5, "data": {}}', '"type" is 5'),
        ('{"type": "a", "data": {}, "tag": ["x"]}', "did you mean 'tags'?"),
        ('{"type": "a", "data": {}, "tags": "x"}', "not a list of texts"),
        ('{"type": "a", "data": {}, "tags": [" x"]}', "line 1: tag"),
        ('{"type": "a", "data": {}, "time": "now"}', "is not a time"),
        ('{"type": "a", "data": {}, "id": "7"}', "no UUID"),
        ('{"type": "a", "data": {}, "schemaversion": true}', '"schemaversion" is True'),
        ('{"type": "a\\u001b[2J", "data": {}}', "must be printable"),
        ('{"specversion": "0.3", "type": "a", "data": {}}', "reads CloudEvents 1.0"),
        ('{"specversion": "1.0", "type": "a", "data": {}, "source": "s"}', '"id" is missing'),
        ('{"specversion": "1.0", "id": "1", "type": "a", "source": "s", "data_base64": ""}', '"data" is missing'),
        (
            '{"specversion": "1.0", "id": "1", "type": "a", "source": "s", "data": {}, "datacontenttype": "text/xml"}',
            "everlog stores JSON",
        ),
        (
            '{"specversion": "1.0", "id": "1", "type": "a", "source": "s", "data": {}, "tenantid": "acme"}',
            "tenant 'acme'",
        ),
        ('{"type": "a", "data": {"x": "' + "x" * 2**20 + '"}}', "line 1 is longer than"),
        ('{"type": "a", "data": {"x": "' + "x" * limits.EVENT_BYTES + '"}}', "line 1: a has"),
    ],
    ids=range(27),
)
def test_a_line_that_is_no_event_is_refused_with_its_reason(shop: Path, text: str | bytes, says: str) -> None:
    ran = here("event", "append", "s-1", stdin=text)
    assert (ran.code, says in ran.err) == (2, True), ran.err
    assert "\x1b" not in ran.err
    assert not (shop / "shop.db").exists()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["s-1", "--data", "{}"], 2),
        (["s-1", "file.ndjson", "--type", "a"], 2),
        (["s-1", "--type", "a", "--data", "["], 2),
        (["s-1", "--type", "a", "--data", "[1]"], 2),
        (["s 1", "--type", "a"], 2),
        (["s-1", "missing.ndjson"], 3),
        (["s-1", "."], 2),
        ([], 2),
    ],
    ids=range(8),
)
def test_a_line_of_command_that_makes_no_sense_is_refused(shop: Path, line: list[str], code: int) -> None:
    ran = here("event", "append", *line)
    assert (ran.code, "error: " in ran.err) == (code, True), ran.err


def test_more_than_a_batch_is_stored_batch_after_batch(shop: Path) -> None:
    ran = here("event", "append", "s-1", "--json", stdin="".join(line("a", {"n": n}) for n in range(1201)))
    assert [one["version"] for one in ran.data] == list(range(1, 1202))
    big = "".join(line("a", {"x": "x" * 200_000}) for _ in range(12))
    assert here("event", "append", "s-2", stdin=big).code == 0
    assert len(stored(shop)) == 1213


def test_an_expectation_holds_for_one_batch_only(shop: Path) -> None:
    ran = here("event", "append", "s-1", "--expect", "no-stream", stdin="".join(line("a", {}) for _ in range(501)))
    assert (ran.code, "holds for one batch" in ran.err) == (2, True)
    assert not (shop / "shop.db").exists()


def test_a_bad_line_after_a_stored_batch_is_told_with_what_is_stored(shop: Path) -> None:
    lines = [line("a", {"n": n}) for n in range(1200)]
    ran = here("event", "append", "s-1", "--json", stdin="".join([*lines[:1100], "{\n", *lines[1100:]]))
    assert ran.code == 7
    assert ran.json["status"] == "partial"
    assert "line 1101: not JSON" in ran.err
    assert "1,000 events appended, up to line 1000: give the lines behind 1000 to go on" in ran.err
    assert len(ran.data) == len(stored(shop)) == 1000


def test_a_log_that_is_deleted_with_the_process_is_warned_of(folder: Path) -> None:
    ran = here("--store", "memory:", "event", "append", "s-1", "--type", "a")
    assert (ran.code, "gone when this one ends" in ran.err) == (0, True)


def test_the_folds_of_an_application_follow_what_is_appended_here(folder: Path) -> None:
    (folder / "folds.py").write_text(
        "from everlog import Fold, Platform, Recorded, event\n"
        "@event('a.counted')\nclass Counted:\n    n: int\n"
        "total = Fold('total', initial=0, inline=True)\n"
        "@total.on(Counted, key=lambda e: e.tenant)\n"
        "def add(sum: int, e: Recorded[Counted]) -> int:\n    return sum + e.data.n\n"
        "platform = Platform('sqlite:///folds.db', total)\n"
    )
    for n in (1, 2):
        ran = here("--app", "folds:platform", "event", "append", "a-1", "--type", "a.counted", "--data", f'{{"n":{n}}}')
        assert ran.code == 0, ran.err
    bare = here("--store", "sqlite:///folds.db", "event", "append", "a-1", "--type", "a.counted", "--data", '{"n":1}')
    assert (bare.code, "this process lacks (total v1)" in bare.err) == (2, True)


def test_looking_at_a_log_puts_no_projection_in_force(folder: Path) -> None:
    (folder / "folds.py").write_text(
        "from everlog import Fold, Platform, Recorded, event\n"
        "@event('a.counted')\nclass Counted:\n    n: int\n"
        "total = Fold('total', initial=0, inline=True)\n"
        "@total.on(Counted, key=lambda e: e.tenant)\n"
        "def add(sum: int, e: Recorded[Counted]) -> int:\n    return sum + e.data.n\n"
        "platform = Platform('sqlite:///folds.db', total)\n"
    )
    bare = ["--store", "sqlite:///folds.db", "event", "append", "a-1", "--type", "a.counted", "--data", '{"n":1}']
    assert here(*bare).code == 0
    for looking in (["event", "list"], ["schema", "replay"], ["doctor"], ["stream", "show", "a-1"], ["audit", "list"]):
        assert here("--app", "folds:platform", *looking).code == 0
    assert here(*bare).code == 0
