"""What a stored snapshot is checked by, whichever database holds it: a damaged row is a missing row."""

import hashlib
from collections.abc import Sequence
from typing import Any

from everlog.core.envelope import StoredSnapshot


def checksum(snapshot: StoredSnapshot) -> bytes:
    """SHA-256 over every field."""
    return hashlib.sha256(repr(tuple(snapshot)).encode()).digest()


def checked(row: Sequence[Any]) -> StoredSnapshot | None:
    """The snapshot of a row that ends in its checksum, if that is right."""
    *fields, stored = row
    snapshot = StoredSnapshot(*fields)
    return snapshot if stored == checksum(snapshot) else None
