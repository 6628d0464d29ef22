"""Every noun on PostgreSQL: a line shows there what it shows on SQLite, and does the same."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everlog.app.stores import open_store
from everlog.core.envelope import Append
from tests.cli.conftest import URL, fill, here, id_of, second
from tests.cli.test_following import SHOP, placed, shipped, signals, trouble

__all__ = ["signals"]
LANE = ("mail", "default/order-b2")

READS = (
    "event list --all-tenants -o ndjson",
    "event list --type order.placed --tag order:b2 --raw -o ndjson",
    "event list --category order --since 2026-01-01 --until 2026-01-01T00:00:03Z --backwards -o plain",
    "event list --actor ann --ip 192.0.2.7 -o ndjson",
    f"event get {id_of(1).hex()} --json",
    "event export --all-tenants -",
    "stream list --all-tenants -o csv",
    "stream show order-a1 --json",
    "stream state order a1 --json",
    "stream state order a1 --at-version 1 --json",
    "stream diff order a1 --from version:1 --json",
    "audit list --actor ann --all-tenants --json",
    "audit export --format csv",
    "snapshot list --all-tenants --json",
    "projection get revenue --all-tenants -o ndjson",
    "projection status parcels --json",
    "projection verify revenue --full --json --progress none",
    "projection verify parcels --sample 3 --json --progress none",
    "processor list --json",
    "processor status mail --json",
    "dlq list --json",
    "dlq show mail default/order-b2 --json",
    "time state --at position:6 --json",
    "time compare --from position:3 --to position:8 --json",
    "schema list --json",
    "schema replay --json",
)

WRITES = (
    'event append order-d4 --type order.placed --data {"order_id":"d4","cents":9} --json',
    'event append order-d4 --type order.shipped --data {"order_id":"d4"} --expect 7 --json',
    "worker --once",
    "projection list --json",
    "projection get revenue --json",
    "dlq list --json",
    "dlq show mail default/order-b2 --json",
    "dlq skip mail default/order-b2 --reason gone --actor ann --json",
    "dlq retry mail --all --json",
    "worker --once",
    "dlq list --json",
    "processor pause mail --json",
    "processor status mail --json",
    "processor resume mail --json",
    "projection rebuild revenue --json --progress none",
    "projection wait revenue --json",
    "event list --type everlog.event_skipped -o ndjson",
    "snapshot delete --all-tenants --force --json",
    "event append order-d4 --type order.placed --data [1] --json",
)

# What is another one every time.
CHANGING = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+\.\d+|vm:[^\"]*"
)


@pytest.fixture
def log(folder: Path, signals: Iterator[None]) -> Path:
    shutil.copy(SHOP, folder / "shop.py")
    (folder / "everlog.toml").write_text('app = "shop:platform"\n')
    (folder / "mails").touch()
    trouble(folder, "b2 no such mailbox")
    return folder


def filled(url: str) -> None:
    """Two tenants, whose events all have their own second."""
    now = -1
    store = open_store(url, clock=lambda: second(now))
    said: dict[str, Any] = {"actor": "ann", "client": b'{"ip":"192.0.2.7","user_agent":"curl/8"}'}
    events = [placed("a1", 100), shipped("a1"), placed("b2", 50), shipped("b2"), shipped("b2"), placed("c3", 5)]
    for tenant, each in [("acme", [placed("a1", 7)]), ("default", events)]:
        for new in each:
            now += 1
            new = new._replace(id=id_of(now), tags=(f"order:{new.stream[6:]}",), **(said if now % 2 else {}))
            store.append(Append(tenant, (new,)))
    store.close()


def ran(line: str, url: str) -> tuple[int, str, str]:
    done = here(*line.split(), "--store", url)
    return done.code, done.out, done.err


def test_a_line_that_looks_shows_the_same_of_the_same_log(log: Path, database: str) -> None:
    filled(URL)
    assert here("worker", "--once").code == 0
    assert here("store", "copy", URL, database).code == 0
    for line in READS:
        code, out, err = ran(line, URL)
        assert (code, bool(out)) == (0, True), f"{line}: {err}"
        assert ran(line, database) == (code, out, err), line


def test_a_line_that_does_something_does_the_same(log: Path, database: str) -> None:
    told = {}
    for url in (URL, database):
        (log / "mails").write_text("")
        filled(url)
        assert here("worker", "--once", "--store", url).code == 0
        told[url] = [[CHANGING.sub("…", str(part)) for part in ran(line, url)] for line in WRITES]
        told[url].append(sorted((log / "mails").read_text().splitlines()))
    for line, one, other in zip([*WRITES, "mails"], *told.values(), strict=True):
        assert one == other, line
    codes = [int(one[0]) for one in told[URL][:-1]]
    assert codes == [0, 5, *[0] * 16, 2]


def test_the_doctor_has_no_complaint_about_a_sound_log(log: Path, database: str) -> None:
    filled(database)
    doctor = here("doctor", "--deep", "--json", "--store", database)
    assert (doctor.code, [one for one in doctor.data["findings"] if one["level"] == "problem"]) == (0, [])
    checks = {one["check"] for one in doctor.data["findings"]}
    assert checks >= {"PostgreSQL", "durability", "connection", "role", "positions", "payloads", "leaves", "appends"}


def test_an_export_of_one_store_is_imported_into_the_other(log: Path, database: str) -> None:
    filled(URL)
    assert here("event", "export", "all.ndjson", "--store", URL).code == 0
    moved = here("event", "import", "all.ndjson", "--store", database)
    assert moved.code == 0, moved.err
    listed = "event list --raw -o ndjson"
    one, other = (
        [(line["id"], line["subject"], line["data"]) for line in here(*listed.split(), "--store", url).lines]
        for url in (URL, database)
    )
    assert one == other


def test_a_database_that_is_not_there_is_said(folder: Path, database: str) -> None:
    fill(folder / "shop.db", [])
    nowhere = database.replace("/test_", "/no_test_") + ("&" if "?" in database else "?") + "lock_timeout=1"
    answered = here("event", "list", "--store", nowhere)
    assert (answered.code, "does not exist" in answered.err) == (6, True), answered.err
