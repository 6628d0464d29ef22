"""Arrays in PostgreSQL's binary format, packed here: the driver's own way costs more than the rest of an append."""

import struct
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_header = struct.Struct(">iiIii").pack
_length = struct.Struct(">i").pack
_NULL = _length(-1)
_int8 = struct.Struct(">iq").pack
_UUID_LENGTH = _length(16)
_TEXT, _INT8, _BYTEA, _UUID = 25, 20, 17, 2950


class TextArray(bytes):
    """`text[]`"""


class Int8Array(bytes):
    """`bigint[]`"""


class BytesArray(bytes):
    """`bytea[]`"""


class UuidArray(bytes):
    """`uuid[]`"""


def texts(items: Sequence[str | None]) -> TextArray:
    return TextArray(_array(_TEXT, len(items), map(_text, items)))


def int8s(items: Sequence[int | None]) -> Int8Array:
    return Int8Array(_array(_INT8, len(items), [_NULL if item is None else _int8(8, item) for item in items]))


def blobs(items: Sequence[bytes | None]) -> BytesArray:
    return BytesArray(_array(_BYTEA, len(items), map(_blob, items)))


def uuids(items: Sequence[bytes | None]) -> UuidArray:
    """From 16 bytes each."""
    packed = [_NULL if item is None else _UUID_LENGTH + item for item in items]
    return UuidArray(_array(_UUID, len(items), packed))


def _array(oid: int, count: int, packed: Iterable[bytes]) -> bytes:
    if not count:
        return struct.pack(">iiI", 0, 0, oid)
    return b"".join(chain(repeat(_header(1, 1, oid, count, 1), 1), packed))


def _text(item: str | None) -> bytes:
    return _NULL if item is None else _blob(item.encode())


def _blob(item: bytes | None) -> bytes:
    return _NULL if item is None else _length(len(item)) + item


class _Packed(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _TextArrayDumper(_Packed):
    oid = 1009


class _Int8ArrayDumper(_Packed):
    oid = 1016


class _BytesArrayDumper(_Packed):
    oid = 1001


class _UuidArrayDumper(_Packed):
    oid = 2951


def register(connection: Connection) -> None:
    """Teach a connection to send these arrays as they are."""
    adapters = connection.adapters
    adapters.register_dumper(TextArray, _TextArrayDumper)
    adapters.register_dumper(Int8Array, _Int8ArrayDumper)
    adapters.register_dumper(BytesArray, _BytesArrayDumper)
    adapters.register_dumper(UuidArray, _UuidArrayDumper)
