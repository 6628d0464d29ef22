"""Leaf format 1 is what `docs/reference/leaf.md` says: our code, a second one written from it, and its vectors."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.envelope import NewEvent
from everlog.store.contract import LeafRow, Release
from everlog.store.leaf import Segment, content_hash, leaf_hash, segment_hashes
from everlog.testing.conformance import append, new_event

PAGE = Path(__file__).parents[2] / "docs/reference/leaf.md"
_BLOCK = re.search(r"^```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
assert _BLOCK is not None
# A vector is a JSON object as it stands in the page, hence `Any`.
Vector = Mapping[str, Any]
VECTORS: Sequence[Vector] = json.loads(_BLOCK[1])


def _hex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


# ---- The second implementation: word for word what the page says, and nothing of `everlog.store.leaf`.


def page_segment_hashes(vector: Vector) -> bytes:
    joined = b""
    for segment in vector["segments"]:
        role = segment["role"].encode("ascii")
        digest = sha256(bytes.fromhex(segment["salt"]) + bytes.fromhex(segment["stored"])).digest()
        joined += bytes([len(role)]) + role + digest
    return joined


def page_content_hash(vector: Vector, hashes: bytes) -> bytes:
    claimed, actor = vector["occurred_at"], vector["actor"]
    fields = [
        b"everlog leaf 1",
        _hex(vector["log_id"]),
        vector["tenant"].encode("utf-8"),
        vector["stream"].encode("utf-8"),
        _hex(vector["id"]),
        vector["type"].encode("utf-8"),
        vector["schema_version"].to_bytes(8, "big", signed=True),
        None if claimed is None else claimed.to_bytes(8, "big", signed=True),
        None if actor is None else actor.encode("utf-8"),
        _hex(vector["correlation_id"]),
        _hex(vector["causation_id"]),
        hashes,
    ]
    content = sha256()
    for field in fields:
        content.update(b"\xff\xff\xff\xff" if field is None else len(field).to_bytes(4, "big") + field)
    return content.digest()


def page_leaf(vector: Vector, content: bytes) -> bytes:
    numbers = [vector["position"], vector["version"], vector["recorded_at"]]
    return sha256(b"\0" + content + b"".join(number.to_bytes(8, "big") for number in numbers)).digest()


def by_the_page(vector: Vector) -> tuple[bytes, bytes, bytes]:
    hashes = page_segment_hashes(vector)
    content = page_content_hash(vector, hashes)
    return hashes, content, page_leaf(vector, content)


def by_everlog(vector: Vector) -> tuple[bytes, bytes, bytes]:
    segments = [Segment(s["role"], bytes.fromhex(s["salt"]), bytes.fromhex(s["stored"])) for s in vector["segments"]]
    event = NewEvent(
        bytes.fromhex(vector["id"]),
        vector["stream"],
        vector["type"],
        vector["schema_version"],
        segments[0].stored,
        occurred_at=vector["occurred_at"],
        actor=vector["actor"],
        correlation_id=_hex(vector["correlation_id"]),
        causation_id=_hex(vector["causation_id"]),
    )
    hashes = segment_hashes(segments)
    content = content_hash(bytes.fromhex(vector["log_id"]), vector["tenant"], event, hashes)
    return hashes, content, leaf_hash(content, vector["position"], vector["version"], vector["recorded_at"])


@pytest.mark.parametrize("implementation", [by_everlog, by_the_page])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_golden_vector_gives_the_hashes_in_the_page(
    vector: Vector, implementation: Callable[[Vector], tuple[bytes, bytes, bytes]]
) -> None:
    hashes, content, leaf = implementation(vector)
    assert (hashes.hex(), content.hex(), leaf.hex()) == (
        vector["segment_hashes"],
        vector["content_hash"],
        vector["leaf"],
    )


def test_the_page_has_vectors_with_and_without_each_optional_field() -> None:
    assert len(VECTORS) >= 4
    for name in ("occurred_at", "actor", "correlation_id", "causation_id"):
        assert {vector[name] is None for vector in VECTORS} == {True, False}, name
    assert {len(vector["segments"]) for vector in VECTORS} == {1, 2}


_CHANGES: Vector = {
    "log_id": "11" * 16,
    "tenant": "acm",
    "stream": "order-22",
    "id": "22" * 16,
    "type": "Bestellung",
    "schema_version": 4,
    "occurred_at": None,
    "actor": None,
    "correlation_id": None,
    "causation_id": "33" * 16,
    "position": 4712,
    "version": 13,
    "recorded_at": 1_790_000_000_123_457,
}


@pytest.mark.parametrize("field", _CHANGES)
def test_every_field_is_in_the_leaf(field: str) -> None:
    vector = VECTORS[1]
    changed = {**vector, field: _CHANGES[field]}
    assert by_everlog(changed) == by_the_page(changed)
    assert by_everlog(changed)[2] != by_everlog(vector)[2]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("part", ["salt", "stored"])
def test_every_byte_of_a_segment_and_its_salt_is_in_the_leaf(number: int, part: str) -> None:
    vector = VECTORS[1]
    segments = [dict(segment) for segment in vector["segments"]]
    first, *rest = bytes.fromhex(segments[number][part])
    segments[number][part] = bytes([first ^ 1, *rest]).hex()
    changed = {**vector, "segments": segments}
    assert by_everlog(changed) == by_the_page(changed)
    assert by_everlog(changed)[2] != by_everlog(vector)[2]


def test_a_letter_that_moves_from_one_field_to_the_next_changes_the_leaf() -> None:
    vector = VECTORS[1]
    moved = {**vector, "tenant": vector["tenant"] + vector["stream"][0], "stream": vector["stream"][1:]}
    assert by_everlog(moved) == by_the_page(moved)
    assert by_everlog(moved)[1] != by_everlog(vector)[1]


def test_a_stored_event_has_the_leaf_the_page_describes(tmp_path: Path) -> None:
    client = b'{"ip":"::1"}'
    with closing(SqliteStore(SqliteSettings(tmp_path / "log.db"))) as store:
        full = new_event(occurred_at=5, actor="é", correlation_id=bytes(16), causation_id=bytes(16), client=client)
        append(store, full, new_event(data=b""), tenant="acme-2")
        append(store, new_event("order-2", client=client))
        log_id = store.head().log_id
        before = [_vector(row, log_id) for row in store.leaves()]
        assert [by_the_page(vector)[2].hex() for vector in before] == [vector["leaf"] for vector in before]
        store.release(Release((1, 2, 3), "erasure", "asked for"))
        for vector, row in zip(before, store.leaves(), strict=True):
            content = page_content_hash(_vector(row, log_id), row.segment_hashes)
            assert page_leaf(vector, content) == row.leaf
            assert row.segment_hashes == page_segment_hashes(vector)


def _vector(row: LeafRow, log_id: bytes) -> Vector:
    event = row.event
    stored = [("data", row.salts[0], event.data), ("client", row.salts[1], event.client)]
    return {
        "log_id": log_id.hex(),
        "tenant": event.tenant,
        "stream": event.stream,
        "id": event.id.hex(),
        "type": event.type,
        "schema_version": event.schema_version,
        "occurred_at": row.claimed_at,
        "actor": event.actor,
        "correlation_id": event.correlation_id and event.correlation_id.hex(),
        "causation_id": event.causation_id and event.causation_id.hex(),
        "segments": [
            {"role": role, "salt": salt.hex(), "stored": data.hex()}
            for role, salt, data in stored
            if salt is not None and data is not None
        ],
        "position": event.position,
        "version": event.version,
        "recorded_at": event.recorded_at,
        "leaf": row.leaf.hex(),
    }


def test_two_equal_payloads_have_different_salts(tmp_path: Path) -> None:
    with closing(SqliteStore(SqliteSettings(tmp_path / "log.db"))) as store:
        event = new_event(client=b'{"ip":"::1"}')
        append(store, event, event._replace(id=bytes(16)))
        first, second = store.leaves()
    salts = {*first.salts, *second.salts}
    assert len(salts) == 4
    assert {len(salt) for salt in salts if salt is not None} == {16}
    assert first.segment_hashes != second.segment_hashes
