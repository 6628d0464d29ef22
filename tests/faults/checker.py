"""Judges what is left of a store against what was acknowledged, with plain sqlite3: nothing of everlog is used to look.

`violations` is cheap enough for every state. `examined` asks everlog itself, which also recomputes every leaf.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from everlog.adapters.sqlite import SqliteStore
from tests.faults.plan import FILE, FINGERPRINT, Content, Event, Plan, Snapshot, done_steps
from tests.faults.workload import settings


class Violation(NamedTuple):
    kind: str
    detail: str


class Row(NamedTuple):
    event: Event
    """As stored, with its tags in order; without data where the payload is gone."""
    payload: bool
    recorded_at: int


@dataclass(frozen=True, slots=True)
class Found:
    """Everything in the file."""

    head: tuple[int, int]
    rows: list[Row]
    payloads: int
    released: frozenset[int]
    notes: frozenset[bytes]
    snapshots: frozenset[Snapshot]

    @property
    def content(self) -> Content:
        return Content(len(self.rows), self.released, self.notes, self.snapshots)


NOTHING = Found((0, 0), [], 0, frozenset(), frozenset(), frozenset())


def violations(directory: Path, plan: Plan, acks: Sequence[bytes]) -> list[Violation]:
    """What is wrong in `directory`, whose workload had said `acks` when it ended."""
    try:
        with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as log:
            (integrity,) = log.execute("PRAGMA integrity_check").fetchone()
            if integrity != "ok":
                return [Violation("corrupt", integrity)]
            found = read(log)
    except sqlite3.DatabaseError as error:
        return [Violation("corrupt", str(error))]
    return list(judge(found, plan, acks))


def read(log: sqlite3.Connection) -> Found:
    tables = {name for (name,) in log.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "everlog_log" not in tables:  # its creation had not been committed
        return NOTHING
    ((*head,),) = log.execute("SELECT position, recorded_at FROM everlog_log").fetchall()
    notes = log.execute("SELECT id FROM note").fetchall() if "note" in tables else []
    snapshots = log.execute(
        "SELECT tenant, stream, version, position, state FROM everlog_snapshot WHERE fingerprint = ?", (FINGERPRINT,)
    )
    return Found(
        head=(head[0], head[1]),
        rows=_rows(log),
        payloads=log.execute("SELECT count(*) FROM everlog_payload").fetchone()[0],
        released=frozenset(position for (position,) in log.execute("SELECT position FROM everlog_release")),
        notes=frozenset(id for (id,) in notes),
        snapshots=frozenset(map(Snapshot._make, snapshots)),
    )


def _rows(log: sqlite3.Connection) -> list[Row]:
    tags: dict[tuple[int, str], list[str]] = defaultdict(list)
    for tenant, tag, position in log.execute("SELECT tenant, tag, position FROM everlog_tag ORDER BY tag"):
        tags[position, tenant].append(tag)
    stored = log.execute(
        "SELECT e.position, tenant, stream, version, id, type, schema_version, claimed_at, actor, data, client,"
        " p.position IS NOT NULL, recorded_at"
        " FROM everlog_event e LEFT JOIN everlog_payload p ON p.position = e.position ORDER BY e.position"
    )
    return [_row(row, tags) for row in stored]


def _row(row: Any, tags: dict[tuple[int, str], list[str]]) -> Row:
    *fields, data, client, payload, recorded_at = row
    event = Event._make((*fields, data or b"", client, tuple(tags.get((fields[0], fields[1]), ()))))
    return Row(event, bool(payload), recorded_at)


# ---- What must hold. Each says what it found, and says nothing when all is well.


def judge(found: Found, plan: Plan, acks: Sequence[bytes]) -> Iterator[Violation]:
    yield from _acknowledged(found, plan, acks)
    yield from _order(found)
    yield from _payloads(found)
    yield from _contents(found, plan)
    if found.content not in plan.possible(done_steps(acks)):
        yield Violation("torn", f"{_short(found.content)} is a state between two calls, or of another time")


def _acknowledged(found: Found, plan: Plan, acks: Sequence[bytes]) -> Iterator[Violation]:
    stored = [row.event.id for row in found.rows]
    acknowledged = {bytes.fromhex(ack.decode()) for ack in acks if not ack.startswith(b"step ")}
    if lost := acknowledged.difference(stored):
        yield Violation("lost", f"{len(lost)} acknowledged events are not stored: {_hex(lost)}")
    if len(set(stored)) < len(stored):
        yield Violation("doubled", f"{len(stored) - len(set(stored))} ids are stored twice")
    if unasked := set(stored) - acknowledged - {event.id for event in plan.in_flight(done_steps(acks))}:
        yield Violation("unasked", f"{len(unasked)} events were neither acknowledged nor under way: {_hex(unasked)}")


def _order(found: Found) -> Iterator[Violation]:
    positions = [row.event.position for row in found.rows]
    if positions != list(range(1, len(positions) + 1)):
        yield Violation("positions", f"not 1 to {len(positions)}: {positions}")
    versions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in found.rows:
        versions[row.event.tenant, row.event.stream].append(row.event.version)
    for stream, seen in versions.items():
        if seen != list(range(1, len(seen) + 1)):
            yield Violation("versions", f"{stream} has versions {seen}")
    times = [row.recorded_at for row in found.rows]
    if times != sorted(times):
        yield Violation("clock", f"recorded_at decreases: {times}")
    last = (positions[-1], times[-1]) if positions else (0, 0)
    if found.head != last:
        yield Violation("head", f"the head says {found.head}, the last event {last}")


def _payloads(found: Found) -> Iterator[Violation]:
    gone = {row.event.position for row in found.rows if not row.payload}
    if gone != found.released:
        yield Violation("payload", f"gone at {sorted(gone)}, released at {sorted(found.released)}")
    if found.payloads != len(found.rows) - len(gone):
        yield Violation("payload", f"{found.payloads} payloads for {len(found.rows) - len(gone)} events")


def _contents(found: Found, plan: Plan) -> Iterator[Violation]:
    for row, planned in zip(found.rows, plan.events, strict=False):
        expected = planned if row.payload else planned._replace(data=b"", client=None)
        if row.event != expected:
            yield Violation("content", f"stored {row.event}, appended {expected}")


def _hex(ids: set[bytes]) -> str:
    return ", ".join(sorted(id.hex() for id in ids))


def _short(content: Content) -> str:
    notes, snapshots = len(content.notes), len(content.snapshots)
    return f"{content.events} events, released {sorted(content.released)}, {notes} notes, {snapshots} snapshots"


def examined(directory: Path) -> list[Violation]:
    """What `everlog doctor --deep` finds in a store that is opened as any process would; it recomputes the leaves."""
    with closing(SqliteStore(settings(directory))) as store:
        return [
            Violation("examine", f"{finding.check}: {finding.seen}")
            for finding in store.examine(deep=True)
            if finding.level == "problem"
        ]
