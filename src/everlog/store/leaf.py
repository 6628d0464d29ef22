"""Leaf format 1: the hash that stands for one event for ever (`docs/reference/leaf.md`, design D13).

Two levels, because only the holder of the head lock knows position, version and `recorded_at`: the content hash is
made before the lock, the leaf under it. Segments enter by the hash of their salted bytes, so proofs survive the bytes.
"""

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from everlog.core.envelope import NewEvent

FORMAT = b"everlog leaf 1"
SALT_BYTES = 16

_PLACE = struct.Struct(">QQQ")
_ABSENT = b"\xff\xff\xff\xff"
_length = struct.Struct(">I").pack
_int64 = struct.Struct(">q").pack
_sha256 = hashlib.sha256


class Segment(NamedTuple):
    """Stored bytes with their salt; `role` is `data` or `client` (personal segments come with privacy)."""

    role: str
    salt: bytes
    stored: bytes


def segment_hashes(segments: Sequence[Segment]) -> bytes:
    """For each segment: one byte of role length, the role, and SHA-256(salt ‖ bytes)."""
    return b"".join([segment_hash(*segment) for segment in segments])


def segment_hash(role: str, salt: bytes, stored: bytes) -> bytes:
    return _role(role) + _sha256(salt + stored).digest()


def content_hash(log_id: bytes, tenant: str, event: NewEvent, segments: bytes) -> bytes:
    """SHA-256 over the length-prefixed fields that are known before the head lock; 32 bytes."""
    fields = (
        _log_and_tenant(log_id, tenant),
        _prefixed(event.stream.encode()),
        _prefixed(event.id),
        _type(event.type, event.schema_version),
        _ABSENT if event.occurred_at is None else _prefixed(_int64(event.occurred_at)),
        _actor(event.actor),
        _ABSENT if event.correlation_id is None else _prefixed(event.correlation_id),
        _ABSENT if event.causation_id is None else _prefixed(event.causation_id),
        _prefixed(segments),
    )
    return _sha256(b"".join(fields)).digest()


def _prefixed(field: bytes) -> bytes:
    return _length(len(field)) + field


# What many events share is made once.


@lru_cache
def _role(role: str) -> bytes:
    return len(role).to_bytes(1, "big") + role.encode()


@lru_cache(maxsize=1024)
def _log_and_tenant(log_id: bytes, tenant: str) -> bytes:
    return _prefixed(FORMAT) + _prefixed(log_id) + _prefixed(tenant.encode())


@lru_cache(maxsize=1024)
def _type(name: str, schema_version: int) -> bytes:
    return _prefixed(name.encode()) + _prefixed(_int64(schema_version))


@lru_cache(maxsize=1024)
def _actor(actor: str | None) -> bytes:
    return _ABSENT if actor is None else _prefixed(actor.encode())


def leaf_hash(content: bytes, position: int, version: int, recorded_at: int) -> bytes:
    """SHA-256(0x00 ‖ content hash ‖ position ‖ version ‖ recorded_at in µs), integers as 8 bytes big-endian."""
    return _sha256(b"\x00" + content + _PLACE.pack(position, version, recorded_at)).digest()
