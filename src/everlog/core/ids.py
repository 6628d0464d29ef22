"""Event ids: UUIDv7 where an event is born here, UUIDv8 derived from content where a retry must find it again."""

import hashlib
from uuid import UUID

import uuid_utils


def new_id() -> bytes:
    """A fresh UUIDv7 as 16 bytes: grows with time, so the id index stays compact."""
    return uuid_utils.uuid7().bytes


def derived_id(tenant: str, *parts: bytes | str | int) -> bytes:
    """The UUIDv8 (RFC 9562) of a SHA-256 over the tenant and `parts`, length-prefixed so that no two lists collide."""
    digest = hashlib.sha256()
    for part in (tenant, *parts):
        raw = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    made = bytearray(digest.digest()[:16])
    made[6] = made[6] & 0x0F | 0x80
    made[8] = made[8] & 0x3F | 0x80
    return bytes(made)


def uuid_of(raw: bytes) -> UUID:
    """The standard library's UUID of 16 stored bytes."""
    return UUID(bytes=raw)
