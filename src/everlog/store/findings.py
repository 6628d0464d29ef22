"""What `everlog doctor` concludes from what a store counted and read, whichever database it is in."""

from collections.abc import Iterable, Iterator, Sequence

from everlog.core.clock import rfc3339
from everlog.core.envelope import NewEvent
from everlog.store.contract import Finding, LeafRow
from everlog.store.exact import Origin
from everlog.store.leaf import Segment, content_hash, leaf_hash, segment_hashes
from everlog.store.tree import Tree

_MINUTE = 60_000_000


def positions(head: int, stored: int, last: int) -> Finding:
    """From the head's position, the number of events and the greatest of their positions."""
    if head == stored == last:
        return Finding("positions", "ok", f"1 to {head}, without holes")
    seen = f"head {head}, {stored} events, last {last}"
    return Finding("positions", "problem", seen, "restore a verified backup: rows were removed behind everlog's back")


def clock(recorded_at: int, now: int) -> Finding:
    """From the time of the last event (0: none) and this machine's; microseconds."""
    behind = recorded_at - now
    if behind > _MINUTE:
        seen = f"{behind // 1_000_000} s behind the last event ({rfc3339(recorded_at)})"
        advice = "set this machine's clock: new events get the last event's time until then"
        return Finding("clock", "warning", seen, advice)
    return Finding("clock", "ok", f"last event at {rfc3339(recorded_at)}" if recorded_at else "no event yet")


def appends(closed: str) -> Finding:
    """From why the log is closed; empty: it is not."""
    if closed:
        return Finding("appends", "warning", f"none are taken: {closed}", "use the log where it is now")
    return Finding("appends", "ok", "are taken")


def payloads(first: int | None, lost: int) -> Finding:
    """From how many payloads are gone without a release, and the position of the first."""
    if lost:
        seen = f"{lost} gone without a recorded release, the first at position {first}"
        return Finding("payloads", "problem", seen, "restore a verified backup and compare")
    return Finding("payloads", "ok", "every one is there or was released")


def origins(known: Sequence[Origin]) -> Iterator[Finding]:
    """From where each incarnation came, the first of them first; nothing for a log that never moved."""
    if known:
        steps = [f"{one.incarnation} went on from {one.parent} at position {one.cut}" for one in known]
        yield Finding("incarnation", "ok", ", ".join(steps))


def leaves(rows: Iterable[LeafRow], log_id: bytes, known: Sequence[Origin]) -> Iterator[Finding]:
    """Recomputes every leaf, and the root at each cut; stops at the first leaf that does not hold."""
    tree, cuts = Tree(), {one.cut for one in known}
    roots = {0: tree.root()}
    for row in rows:
        if not leaf_holds(row, log_id):
            where = f"the event at position {row.event.position} is not what was stored"
            yield Finding("leaves", "problem", where, "restore a verified backup and compare")
            return
        tree.add(row.leaf)
        if tree.size in cuts:
            roots[tree.size] = tree.root()
    yield Finding("leaves", "ok", f"{tree.size} recomputed and equal")
    for one in known:
        if roots.get(one.cut) != one.root:
            seen = f"the first {one.cut} events are not those of incarnation {one.parent}, from which this one went on"
            yield Finding("incarnation", "problem", seen, "restore a verified backup and compare")


def leaf_holds(row: LeafRow, log_id: bytes) -> bool:
    """Whether envelope, payload (where it is still here) and leaf belong together."""
    e = row.event
    new = NewEvent(
        e.id, e.stream, e.type, e.schema_version, e.data or b"", (), row.claimed_at, e.actor, e.correlation_id,
        e.causation_id,
    )  # fmt: skip
    content = content_hash(log_id, e.tenant, new, row.segment_hashes)
    if leaf_hash(content, e.position, e.version, e.recorded_at) != row.leaf:
        return False
    stored = [("data", row.salts[0], e.data), ("client", row.salts[1], e.client)]
    segments = [Segment(role, salt, data) for role, salt, data in stored if salt is not None and data is not None]
    return not segments or segment_hashes(segments) == row.segment_hashes
