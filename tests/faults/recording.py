"""What the shim writes down: the one Python reader of its log. `shim.c` has the other half of this format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_HEADER = struct.Struct("<BBHIqQ")


class Kind(IntEnum):
    """The letters of `enum kind` in `shim.c`."""

    WRITE = ord("W")
    TRUNCATE = ord("T")
    GROW = ord("G")
    CREATE = ord("C")
    UNLINK = ord("U")
    RENAME = ord("R")
    SYNC = ord("S")
    SYNC_DIRECTORY = ord("D")
    ACK = ord("A")
    FAILED = ord("F")
    KILLED = ord("K")


INJECTED = frozenset({Kind.FAILED, Kind.KILLED})


@dataclass(frozen=True, slots=True)
class Record:
    """One call: `name` is relative to the watched directory, `call` is the number that `kill_at` would take."""

    kind: Kind
    of: Kind | None
    name: str
    offset: int
    data: bytes
    call: int


def records(log: Path, start: int = 0) -> Iterator[Record]:
    """Read a log from byte `start`, so that a second process may go on in the same log and be read alone."""
    raw = log.read_bytes()
    while start < len(raw):
        kind, of, name_length, length, offset, call = _HEADER.unpack_from(raw, start)
        name_end = start + _HEADER.size + name_length
        end = name_end + length
        if end > len(raw):
            raise ValueError(f"{log} ends inside the record at byte {start}: the recording is not complete")
        name = raw[start + _HEADER.size : name_end].decode()
        yield Record(Kind(kind), Kind(of) if of else None, name, offset, raw[name_end:end], call)
        start = end
