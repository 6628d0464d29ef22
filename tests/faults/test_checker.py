"""The checker is shown stores that were damaged by hand, one way at a time, and must say which way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.checker import examined, violations
from tests.faults.plan import FILE, FINGERPRINT, Appending, make_plan
from tests.faults.powercut import memory_directory
from tests.faults.workload import work

PLAN = make_plan("checked", "all")
LAST = len(PLAN.events)
EVERYTHING = [ack for number in range(len(PLAN.steps)) for ack in PLAN.acks(number)]


@pytest.fixture
def directory() -> Iterator[Path]:
    with memory_directory() as path:
        for _ in work(path, PLAN, "checked"):
            pass
        yield path


def damage(directory: Path, script: str) -> None:
    with closing(sqlite3.connect(directory / FILE)) as log:
        triggers = log.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        log.executescript("".join(f"DROP TRIGGER {name};" for (name,) in triggers) + script)


def kinds(directory: Path, acks: list[bytes] = EVERYTHING) -> set[str]:
    return {violation.kind for violation in violations(directory, PLAN, acks)}


def remove(position: int) -> str:
    """An event without a trace, the head excepted."""
    tables = ("event", "payload", "tag", "release")
    return "".join(f"DELETE FROM everlog_{table} WHERE position = {position};" for table in tables)


INSERT = f"INSERT INTO everlog_event SELECT {LAST + 1}, tenant, 'new-1', 1, {{}}, type, schema_version, claimed_at,"
INSERT += (
    f"recorded_at, actor, correlation_id, causation_id, segments, leaf FROM everlog_event WHERE position = {LAST};"
)
INSERT += f"INSERT INTO everlog_payload VALUES ({LAST + 1}, x'', x'', NULL, NULL);"
HEAD = "UPDATE everlog_log SET position = (SELECT max(position) FROM everlog_event);"
KEPT = min(set(range(1, LAST)) - PLAN.contents[-1].released)


def test_nothing_is_wrong_with_what_the_workload_leaves(directory: Path) -> None:
    assert violations(directory, PLAN, EVERYTHING) == []
    assert examined(directory) == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (remove(LAST) + HEAD, "lost"),
        (remove(2), "positions"),
        ("DROP INDEX everlog_event_id;" + INSERT.format("id") + HEAD, "doubled"),
        (INSERT.format("randomblob(16)") + HEAD, "unasked"),
        (f"UPDATE everlog_event SET version = 900 WHERE position = {LAST};", "versions"),
        ("UPDATE everlog_event SET recorded_at = 1 WHERE position = 3;", "clock"),
        ("UPDATE everlog_log SET position = position - 1;", "head"),
        ("UPDATE everlog_log SET recorded_at = recorded_at + 1;", "head"),
        (f"DELETE FROM everlog_payload WHERE position = {KEPT};", "payload"),
        ("DELETE FROM everlog_release;", "payload"),
        (f"INSERT INTO everlog_payload VALUES ({LAST + 5}, x'', x'', NULL, NULL);", "payload"),
        (f"UPDATE everlog_payload SET data = x'00' WHERE position = {KEPT};", "content"),
        ("UPDATE everlog_event SET actor = 'eve' WHERE position = 1;", "content"),
        ("DELETE FROM everlog_tag;", "content"),
        ("DELETE FROM note;", "torn"),
        (f"INSERT INTO everlog_snapshot VALUES ('eve', 'seat-1', x'{FINGERPRINT.hex()}', 1, 1, 0, x'', x'');", "torn"),
    ],
)
def test_each_kind_of_damage_is_called_by_its_name(directory: Path, script: str, expected: str) -> None:
    damage(directory, script)
    assert expected in kinds(directory)


def test_a_batch_of_which_only_a_part_is_stored_is_torn() -> None:
    """Its step was not acknowledged, so nothing is lost; but it may be there whole, or not at all."""
    number, step = next(
        (number, step)
        for number, step in enumerate(PLAN.steps)
        if isinstance(step, Appending) and step.how == "append" and len(step.batches[0].events) > 1
    )
    before = [ack for earlier in range(number) for ack in PLAN.acks(earlier)]
    with memory_directory() as path:
        with closing(work(path, PLAN, "checked")) as steps:
            while next(steps) < number:
                pass
        assert kinds(path, acks=before) == set()
        damage(path, remove(step.batches[0].events[-1].position) + HEAD)
        assert kinds(path, acks=before) == {"torn"}


def test_a_file_with_a_page_of_rubbish_is_corrupt(directory: Path) -> None:
    content = bytearray((directory / FILE).read_bytes())
    content[3 * 4096 : 4 * 4096] = b"rubbish!" * 512
    (directory / FILE).write_bytes(content)
    assert kinds(directory) == {"corrupt"}


def test_a_store_that_was_never_made_holds_nothing_and_nothing_may_have_been_acknowledged() -> None:
    with memory_directory() as empty:
        assert kinds(empty, acks=[]) == set()
        assert kinds(empty) == {"lost", "torn"}
